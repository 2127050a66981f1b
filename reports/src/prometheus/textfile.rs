//! Metrics as a file for node-exporter's textfile collector: for hosts without a Pushgateway.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::judge::Judgement;
use firedrill_core::ports::Sink;

use super::{LAST_SUCCESS, ReferenceStatus, encode, families, reference_status};
use crate::file;

/// A larger file is not ours.
const FILE_MAX: u64 = 64 << 20;

/// Writes all metrics to a `*.prom` file. The last success of a tag that is not verified this time is
/// taken over from the file that is there.
#[derive(Clone, Debug)]
pub struct Textfile {
    path: PathBuf,
    status: ReferenceStatus,
    prune: bool,
}

impl Textfile {
    /// Writes to `path`, which must end in `.prom` and be in a folder that exists.
    pub fn new(path: impl Into<PathBuf>, status: ReferenceStatus) -> Self {
        Self { path: path.into(), status, prune: false }
    }

    /// Whether tags that are no longer in the plan are forgotten. Only for runs that cover all tags.
    #[must_use]
    pub fn prune(mut self, prune: bool) -> Self {
        self.prune = prune;
        self
    }
}

impl Sink for Textfile {
    fn name(&self) -> String {
        format!("metrics file {}", self.path.display())
    }

    fn preflight(&mut self) -> Result<()> {
        if self.path.extension().is_none_or(|e| e != "prom") {
            return Err(Error::new(ErrorKind::Usage, format!("write metrics to {}", self.path.display()))
                .because("node-exporter reads only files whose names end in .prom")
                .advise("name the file firedrill.prom"));
        }
        file::check("metrics", &self.path, file::Folder::MustExist)
    }

    fn finish(&mut self, judgement: &Judgement) -> Result<()> {
        let old = old(&self.path);
        let mut text = render(judgement, &old, self.prune)?;
        text.push_str(&reference_status(judgement, self.status));
        file::write("metrics", &self.path, text.as_bytes())
    }
}

/// The file as it is. Nothing depends on it but old successes, so whatever cannot be read is no file.
fn old(path: &Path) -> String {
    match path.metadata() {
        Ok(meta) if meta.is_file() && meta.len() <= FILE_MAX => {
            std::fs::read_to_string(path).unwrap_or_default()
        }
        _ => String::new(),
    }
}

fn render(judgement: &Judgement, old: &str, prune: bool) -> Result<String> {
    let text = encode(&families(judgement)?)?;
    let expected: Vec<_> = values(&text, "firedrill_expected_info").map(|(labels, _)| labels).collect();
    let complete = judgement.seconds.is_some() && judgement.reasons.is_empty();
    let mut successes: BTreeMap<_, _> = values(old, LAST_SUCCESS)
        .filter(|(labels, _)| !(prune && complete) || expected.contains(labels))
        .collect();
    successes.extend(values(&text, LAST_SUCCESS));

    // All lines of one metric have to stay together.
    let mut merged: String =
        text.lines().filter(|l| !l.contains(LAST_SUCCESS)).flat_map(|l| [l, "\n"]).collect();
    if !successes.is_empty() {
        merged.push_str(&format!(
            "# HELP {LAST_SUCCESS} When a restore test last verified this tag.\n# TYPE {LAST_SUCCESS} gauge\n"
        ));
    }
    for (labels, value) in successes {
        merged.push_str(&format!("{LAST_SUCCESS}{labels} {value}\n"));
    }
    Ok(merged)
}

/// The samples of one metric in text that this module wrote, as label block and value. Labels are
/// compared as they are written, because this module always writes them in the same way.
fn values<'t>(text: &'t str, name: &str) -> impl Iterator<Item = (&'t str, &'t str)> {
    text.lines().filter_map(move |line| {
        let rest = line.strip_prefix(name)?;
        let (labels, value) = rest.rsplit_once(' ')?;
        let ours = labels.starts_with("{copy=\"") && labels.ends_with("\"}");
        (ours && value.parse::<f64>().is_ok_and(f64::is_finite)).then_some((labels, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    fn success_of(text: &str, tag: &str) -> Option<String> {
        let labels = format!("{{copy=\"primary\",tag=\"{tag}\"}}");
        values(text, LAST_SUCCESS).find(|(l, _)| *l == labels).map(|(_, v)| v.to_owned())
    }

    #[test]
    fn a_failing_run_leaves_the_last_success_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("firedrill.prom");
        let mut sink = Textfile::new(&path, ReferenceStatus::Gauge);
        sink.preflight().unwrap();
        sink.finish(&fixture::all_verified()).unwrap();
        let before = std::fs::read_to_string(&path).unwrap();

        let mut later = fixture::one_failed();
        later.started += jiff::SignedDuration::from_hours(168);
        sink.finish(&later).unwrap();
        let after = std::fs::read_to_string(&path).unwrap();
        assert_eq!(success_of(&after, "mariadb"), success_of(&before, "mariadb"));
        assert!(success_of(&after, "mariadb").is_some());
        assert_ne!(success_of(&after, "grafana"), success_of(&before, "grafana"));
        assert!(after.ends_with("backup_restore_status 1\n"), "{after}");
        assert_eq!(after.matches(&format!("# TYPE {LAST_SUCCESS} ")).count(), 1);
    }

    #[test]
    fn a_vanished_tag_is_forgotten_only_when_asked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("firedrill.prom");
        Textfile::new(&path, ReferenceStatus::Off).finish(&fixture::all_verified()).unwrap();
        let mut fewer = fixture::all_verified();
        fewer.drills.retain(|d| d.series.to_string() != "emby");
        Textfile::new(&path, ReferenceStatus::Off).finish(&fewer).unwrap();
        assert!(success_of(&std::fs::read_to_string(&path).unwrap(), "emby").is_some());
        // A run that found nothing to drill knows of no tag that is gone.
        Textfile::new(&path, ReferenceStatus::Off).prune(true).finish(&fixture::nothing_selected()).unwrap();
        assert!(success_of(&std::fs::read_to_string(&path).unwrap(), "emby").is_some());
        Textfile::new(&path, ReferenceStatus::Off).prune(true).finish(&fewer).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(success_of(&text, "emby").is_none());
        assert!(!text.contains("backup_restore_status"));
    }

    #[test]
    fn hostile_tags_survive_the_round_trip() {
        let mut judgement = fixture::hostile();
        for drill in &mut judgement.drills {
            drill.verdict = firedrill_core::verdict::Verdict::Verified;
        }
        let first = render(&judgement, "", false).unwrap();
        let failing = fixture::hostile();
        let second = render(&failing, &first, false).unwrap();
        assert_eq!(
            values(&first, LAST_SUCCESS).collect::<Vec<_>>(),
            values(&second, LAST_SUCCESS).collect::<Vec<_>>()
        );
        assert_eq!(values(&first, LAST_SUCCESS).count(), judgement.drills.len());
    }

    #[test]
    fn garbage_in_the_old_file_is_ignored() {
        let old = format!("{LAST_SUCCESS} 1\n{LAST_SUCCESS}{{copy=\"a\",tag=\"b\"}} soon\nrubbish\n");
        let text = render(&fixture::copy_unreadable(), &old, false).unwrap();
        assert!(!text.contains(LAST_SUCCESS), "{text}");
    }

    #[test]
    fn a_name_that_nobody_would_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error =
            Textfile::new(folder.path().join("metrics.txt"), ReferenceStatus::Off).preflight().unwrap_err();
        assert!(error.chain().contains(".prom"), "{}", error.chain());
        let nowhere = folder.path().join("none/firedrill.prom");
        assert!(Textfile::new(nowhere, ReferenceStatus::Off).preflight().is_err());
    }
}
