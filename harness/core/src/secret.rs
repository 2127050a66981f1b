//! Secrets that cannot be printed by accident.

use std::fmt;

/// A secret: `Debug` and `Display` never show it, and it is not serialisable.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself. Call this only to hand it to what needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// `text` with the user part of every URL in it hidden: `https://user:pass@host` and
/// `https://token@host` become `https://***@host`.
pub fn redact_urls(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("://") {
        let (before, after) = rest.split_at(start + 3);
        shown.push_str(before);
        let end = after
            .find(|c: char| c == '/' || c == '?' || c == '#' || c.is_whitespace())
            .unwrap_or(after.len());
        let (authority, tail) = after.split_at(end);
        match authority.rfind('@') {
            Some(at) => {
                shown.push_str("***");
                shown.push_str(&authority[at..]);
            }
            None => shown.push_str(authority),
        }
        rest = tail;
    }
    shown.push_str(rest);
    shown
}

/// `address` with its user part hidden. Unlike in a longer text, white space does not end a URL here: it is
/// allowed in a password.
pub fn redact_address(address: &str) -> String {
    if !address.contains("://") {
        return address.to_owned();
    }
    redact_urls(&address.replace(char::is_whitespace, "%20"))
}

#[cfg(test)]
mod tests {
    use super::{Secret, redact_address, redact_urls};

    #[test]
    fn a_secret_is_not_printed() {
        let secret = Secret::new("hunter2");
        assert!(!format!("{secret} {secret:?}").contains("hunter2"));
    }

    #[test]
    fn urls_lose_their_user_part() {
        assert_eq!(
            redact_urls("get rest:http://u:p@ss@h:8000/x failed"),
            "get rest:http://***@h:8000/x failed"
        );
        assert_eq!(redact_urls("http://token@h and https://h/a@b"), "http://***@h and https://h/a@b");
        assert_eq!(redact_urls("s3:https://h/bucket"), "s3:https://h/bucket");
    }

    #[test]
    fn white_space_belongs_to_an_address() {
        assert_eq!(redact_address("rest:http://u:p w@h/x y"), "rest:http://***@h/x%20y");
        assert_eq!(redact_address("/mnt/my disk"), "/mnt/my disk");
    }
}
