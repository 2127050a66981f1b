//! The one place where what comes from outside becomes text for people, and where numbers become words.
//!
//! File names, tags, findings and error texts come from backups and servers that may be hostile. Shown
//! as they are they could move the cursor, set the window title, reverse the reading order or hide
//! characters; [`clean`] makes all of that visible instead. Every sink that shows text calls it.

use firedrill_core::secret::redact_urls;
use jiff::Timestamp;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// `text` without credentials in URLs, and with everything that a terminal or a browser would obey
/// rather than show written as an escape such as `\u{1b}`.
pub(crate) fn clean(text: &str) -> String {
    visible(&redact_urls(text))
}

/// [`clean`], cut to at most `chars` characters.
pub(crate) fn brief(text: &str, chars: usize) -> String {
    // The whole text is cleaned before it is cut: half a URL would not be recognised as one.
    let shown = clean(text);
    if shown.chars().count() <= chars {
        return shown;
    }
    let mut short: String = shown.chars().take(chars.saturating_sub(1)).collect();
    short.push('…');
    short
}

fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if deceives(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Whether a character does something other than show itself.
fn deceives(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{fdd0}'..='\u{fdef}'
            | '\u{e0000}'..='\u{e0fff}')
        // Noncharacters: XML forbids some of them, and no font shows any.
        || u32::from(c) & 0xfffe == 0xfffe
}

/// The number of terminal columns that `text` takes.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// `text` in at most `columns` columns; what is too long loses its middle, because both ends of a path
/// or a tag tell it apart.
pub(crate) fn elide(text: &str, columns: usize) -> String {
    if width(text) <= columns && text.chars().count() <= columns.saturating_mul(4) {
        return text.to_owned();
    }
    let keep = columns.saturating_sub(1);
    let head = fitting(text.chars(), keep.div_ceil(2));
    let tail: String = fitting(text.chars().rev(), keep / 2).chars().rev().collect();
    format!("{head}…{tail}")
}

fn fitting(chars: impl Iterator<Item = char>, columns: usize) -> String {
    let mut used = 0;
    // Combining characters take no column, so their number needs a bound of its own.
    chars
        .take(columns.saturating_mul(4))
        .take_while(|c| {
            used += c.width().unwrap_or(0);
            used <= columns
        })
        .collect()
}

/// `text` as lines of at most `columns` columns, broken at spaces where there are any.
pub(crate) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(8);
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split(' ') {
        let mut word = word.to_owned();
        if !line.is_empty() && width(&line) + 1 + width(&word) > columns {
            lines.push(std::mem::take(&mut line));
        }
        while width(&word) > columns {
            let head = fitting(word.chars(), columns);
            if head.is_empty() {
                break;
            }
            word = word.split_off(head.len());
            lines.push(head);
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(&word);
    }
    lines.push(line);
    lines
}

/// A duration in words with at most two units: `0.4 s`, `1 min 35 s`, `3 h 12 min`, `2 days 4 h`.
pub(crate) fn span(seconds: f64) -> String {
    if !seconds.is_finite() {
        return "unknown".to_owned();
    }
    if seconds < 0.0 {
        return format!("-{}", span(-seconds));
    }
    if seconds < 0.95 {
        return format!("{seconds:.1} s");
    }
    if seconds < 9.95 {
        return format!("{} s", trimmed(seconds));
    }
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3_600 => two(whole / 60, "min", whole % 60, "s"),
        3_600..172_800 => two(whole / 3_600, "h", whole % 3_600 / 60, "min"),
        _ => two(whole / 86_400, "days", whole % 86_400 / 3_600, "h"),
    }
}

fn trimmed(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

fn two(large: u64, large_unit: &str, small: u64, small_unit: &str) -> String {
    match small {
        0 => format!("{large} {large_unit}"),
        _ => format!("{large} {large_unit} {small} {small_unit}"),
    }
}

/// A duration for narrow columns: `0.4s`, `12s`, `30m`, `26h`, `9d`.
pub(crate) fn span_short(seconds: f64) -> String {
    if !seconds.is_finite() {
        return "?".to_owned();
    }
    if seconds < 0.0 {
        return format!("-{}", span_short(-seconds));
    }
    let round = |unit: f64| trimmed(seconds / unit);
    match seconds {
        s if s < 9.95 => format!("{}s", round(1.0)),
        s if s < 99.5 => format!("{s:.0}s"),
        s if s < 5_970.0 => format!("{:.0}m", s / 60.0),
        s if s < 35_820.0 => format!("{}h", round(3_600.0)),
        s if s < 172_800.0 => format!("{:.0}h", s / 3_600.0),
        s => format!("{:.0}d", s / 86_400.0),
    }
}

/// A size in words, with at most three digits where that says enough: `5.2 GiB`, `12 GiB`, `256 MiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    let (unit, size) = match bytes {
        0..1_024 => return format!("{bytes} B"),
        1_024..1_048_576 => ("KiB", 1_u64 << 10),
        1_048_576..1_073_741_824 => ("MiB", 1 << 20),
        1_073_741_824..1_099_511_627_776 => ("GiB", 1 << 30),
        _ => ("TiB", 1 << 40),
    };
    let value = bytes as f64 / size as f64;
    if value < 9.95 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
}

/// A number with thousands set apart: `1,204`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut shown = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// A number in at most five columns: `1,204`, `12k`, `3M`.
pub(crate) fn count_short(number: u64) -> String {
    match number {
        0..10_000 => count(number),
        10_000..10_000_000 => format!("{}k", number / 1_000),
        10_000_000..10_000_000_000 => format!("{}M", number / 1_000_000),
        _ => format!("{}G", number / 1_000_000_000),
    }
}

/// A number and its noun: `1 tag`, `12 tags`.
pub(crate) fn counted(number: usize, singular: &str, plural: &str) -> String {
    format!("{} {}", count(number as u64), if number == 1 { singular } else { plural })
}

/// A moment: `2026-03-01 04:00 UTC`.
pub(crate) fn moment(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// How long before `at` something was: `3 h old`, or `dated 2 h ahead` when it lies in the future.
pub(crate) fn age(seconds: f64) -> String {
    if seconds < 0.0 { format!("dated {} ahead", span(-seconds)) } else { format!("{} old", span(seconds)) }
}

/// At most `limit` of `names`, joined by commas, and how many more there are.
pub(crate) fn listed(names: &[String], limit: usize) -> String {
    let shown = names.iter().take(limit).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(limit) {
        0 => shown,
        more => format!("{shown} and {} more", count(more as u64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_shown_instead() {
        assert_eq!(clean("a\u{1b}[31mb\u{7}\n\r\u{9b}"), r"a\u{1b}[31mb\u{7}\n\r\u{9b}");
        assert_eq!(clean("gpj\u{202e}exe"), r"gpj\u{202e}exe");
        assert_eq!(clean("a\u{200b}\u{feff}\u{2066}\u{e0041}"), r"a\u{200b}\u{feff}\u{2066}\u{e0041}");
        assert_eq!(clean("größe 日本 ✔"), "größe 日本 ✔");
    }

    #[test]
    fn credentials_in_urls_are_hidden() {
        assert_eq!(clean("rest:http://u:hunter2@host/x"), "rest:http://***@host/x");
    }

    #[test]
    fn cutting_a_text_does_not_uncover_a_credential() {
        let text = format!("http://user:{}@host/", "s".repeat(500));
        assert!(!brief(&text, 80).contains("ssss"), "{}", brief(&text, 80));
    }

    #[test]
    fn long_names_keep_both_ends_and_their_width() {
        assert_eq!(elide("polymarket-lab-database", 11), "polym…abase");
        assert!(width(&elide(&"日本".repeat(40), 11)) <= 11);
        let combining = format!("e{}", "\u{301}".repeat(5_000));
        assert!(elide(&combining, 10).chars().count() < 100);
    }

    #[test]
    fn lines_are_never_too_wide_and_nothing_is_lost() {
        let text = format!("a finding at {} was seen", "x".repeat(50));
        let lines = wrap(&text, 20);
        assert!(lines.iter().all(|l| width(l) <= 20), "{lines:?}");
        assert_eq!(lines.concat().replace(' ', ""), text.replace(' ', ""));
        assert_eq!(wrap("", 20), [""]);
    }

    #[test]
    fn durations_read_well() {
        let shown = [0.04, 0.42, 8.25, 12.0, 95.0, 1_800.0, 11_520.0, 93_600.0, 187_200.0, -60.0]
            .map(span)
            .join(", ");
        assert_eq!(
            shown,
            "0.0 s, 0.4 s, 8.2 s, 12 s, 1 min 35 s, 30 min, 3 h 12 min, 26 h, 2 days 4 h, -1 min"
        );
        let short =
            [0.42, 8.0, 12.0, 95.0, 1_800.0, 11_520.0, 93_600.0, 187_200.0].map(span_short).join(", ");
        assert_eq!(short, "0.4s, 8s, 12s, 95s, 30m, 3.2h, 26h, 2d");
        assert_eq!(span(f64::NAN), "unknown");
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!([7, 1_204, 1_234_567].map(count).join(" "), "7 1,204 1,234,567");
        assert_eq!([7, 1_204, 12_345, 12_345_678].map(count_short).join(" "), "7 1,204 12k 12M");
        let sizes = [0, 1_023, 1_536, 268_435_456, 1_288_490_189, 12_884_901_888, u64::MAX].map(bytes);
        assert_eq!(sizes.join(", "), "0 B, 1023 B, 1.5 KiB, 256 MiB, 1.2 GiB, 12 GiB, 16777216 TiB");
    }
}
