//! The end of what a server said, for people.

use firedrill_core::secret::redact_urls;

/// Lines that are shown.
const LINES: usize = 4;
/// Lines that are looked at.
const LOOKED_AT: usize = 100;
/// Characters of a line that are shown.
const LINE_MAX: usize = 160;
/// A line with one of these mostly says why.
const TROUBLE: [&str; 14] = [
    "error",
    "fatal",
    "fail",
    "panic",
    "cannot",
    "can't",
    "could not",
    "unable",
    "corrupt",
    "malformed",
    "exception",
    "not a database",
    "no such",
    "denied",
];

/// The last lines of a log that tell of trouble, else the last ones: bounded, on one line, without addresses that
/// hold a password.
pub(super) fn last_words(log: &str) -> String {
    let lines = || log.lines().rev().filter(|line| !line.trim().is_empty()).take(LOOKED_AT);
    let grave = |line: &&str| {
        let line = line.to_lowercase();
        TROUBLE.iter().any(|word| line.contains(word))
    };
    let mut chosen: Vec<_> = lines().filter(grave).take(LINES).collect();
    if chosen.is_empty() {
        chosen = lines().take(LINES).collect();
    }
    if chosen.is_empty() {
        return "it said nothing".to_owned();
    }
    let chosen: Vec<_> = chosen.into_iter().rev().map(line).collect();
    format!("it said: {}", chosen.join(" | "))
}

fn line(line: &str) -> String {
    let line = redact_urls(line.trim());
    let mut short: String =
        line.chars().take(LINE_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.chars().count() > LINE_MAX {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::last_words;

    #[test]
    fn a_log_is_bounded_and_holds_no_password() {
        let log =
            format!("{}\nerror: url postgres://me:hunter2@db/x\n\n\x1b[1mfatal\n", "noise\n".repeat(1000));
        let said = last_words(&log);
        assert!(said.ends_with("| fatal") || said.ends_with("[1mfatal"), "{said}");
        assert!(!said.contains("hunter2") && said.len() < 400, "{said}");
        let buried = format!("hello\nunable to open the database\n{}", "shutting down\n".repeat(9));
        assert_eq!(last_words(&buried), "it said: unable to open the database");
        assert_eq!(last_words("one\ntwo\n"), "it said: one | two");
        assert_eq!(last_words(" \n"), "it said nothing");
        assert!(last_words(&"x".repeat(100_000)).len() < 400);
    }
}
