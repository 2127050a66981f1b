//! Group keys and how they are written in a URL.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// What identifies a group of metrics: the job and further labels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    job: String,
    labels: BTreeMap<String, String>,
}

impl Key {
    /// The group of a job without further labels.
    pub(crate) fn of_job(job: &str) -> Self {
        Self { job: job.to_owned(), labels: BTreeMap::new() }
    }

    /// The same group for one tag.
    pub(crate) fn of_tag(&self, copy: &str, tag: &str) -> Self {
        self.clone().with("copy", copy).with("tag", tag)
    }

    /// With one more label.
    pub(crate) fn with(mut self, label: &str, value: &str) -> Self {
        self.labels.insert(label.to_owned(), value.to_owned());
        self
    }

    /// The group with exactly these labels, `job` among them.
    pub(crate) fn from_labels(mut labels: BTreeMap<String, String>) -> Option<Self> {
        let job = labels.remove("job")?;
        Some(Self { job, labels })
    }

    /// Copy and tag, if this is the group of a tag within `whole`.
    pub(crate) fn as_tag_of(&self, whole: &Self) -> Option<(&str, &str)> {
        let (copy, tag) = (self.labels.get("copy")?, self.labels.get("tag")?);
        (*self == whole.of_tag(copy, tag)).then_some((copy, tag))
    }

    /// The path below the gateway's URL, without a slash before it.
    pub(crate) fn path(&self) -> String {
        let mut path = format!("metrics/{}", segment("job", &self.job));
        for (label, value) in &self.labels {
            path.push('/');
            path.push_str(&segment(label, value));
        }
        path
    }
}

/// `label/value`, or its base64 form where the value cannot stand in a path as it is: because it is
/// empty, holds a slash or anything else that a server or a proxy might read in its own way.
fn segment(label: &str, value: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'~' | b'.');
    if value.is_empty() {
        return format!("{label}@base64/=");
    }
    if value.bytes().all(plain) && value.bytes().any(|b| b != b'.') {
        return format!("{label}/{value}");
    }
    format!("{label}@base64/{}", URL_SAFE_NO_PAD.encode(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_values_are_written_in_base64() {
        assert_eq!(segment("tag", "graf-ana_1.2~x"), "tag/graf-ana_1.2~x");
        assert_eq!(segment("tag", ""), "tag@base64/=");
        assert_eq!(segment("tag", "a/b"), "tag@base64/YS9i");
        assert_eq!(segment("tag", ".."), "tag@base64/Li4");
        assert_eq!(segment("tag", "größe"), "tag@base64/Z3LDtsOfZQ");
        assert_eq!(segment("tag", "a b"), "tag@base64/YSBi");
    }

    #[test]
    fn the_path_is_the_same_for_the_same_key() {
        let whole = Key::of_job("firedrill");
        let key = whole.of_tag("primary", "a/b");
        assert_eq!(key.path(), "metrics/job/firedrill/copy/primary/tag@base64/YS9i");
        assert_eq!(key.as_tag_of(&whole), Some(("primary", "a/b")));
        let other = whole.clone().with("instance", "x");
        assert_eq!(key.as_tag_of(&other), None);
        assert_eq!(key.clone().with("instance", "x").as_tag_of(&whole), None);
        assert_eq!(other.of_tag("primary", "a/b").as_tag_of(&other), Some(("primary", "a/b")));
        assert_eq!(Key::of_job("firedrill").path(), "metrics/job/firedrill");
    }
}
