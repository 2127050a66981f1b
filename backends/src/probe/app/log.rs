//! The end of what a server said, for people.

use firedrill_core::secret::redact_urls;

/// Lines that are shown.
const LINES: usize = 12;
/// Characters of a line that are shown.
const LINE_MAX: usize = 240;

/// The last lines of a log: bounded, on one line, without addresses that hold a password.
pub(super) fn last_words(log: &str) -> String {
    let lines: Vec<_> = log.lines().rev().filter(|line| !line.trim().is_empty()).take(LINES).collect();
    if lines.is_empty() {
        return "it said nothing".to_owned();
    }
    let lines: Vec<_> = lines.into_iter().rev().map(line).collect();
    format!("it said: {}", lines.join(" | "))
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
        let log = format!("{}\nurl postgres://me:hunter2@db/x\n\n\x1b[1mfatal\n", "noise\n".repeat(1000));
        let said = last_words(&log);
        assert!(said.ends_with("| fatal") || said.ends_with("[1mfatal"), "{said}");
        assert!(!said.contains("hunter2") && said.len() < 400, "{said}");
        assert_eq!(last_words(" \n"), "it said nothing");
        assert!(last_words(&"x".repeat(100_000)).len() < 400);
    }
}
