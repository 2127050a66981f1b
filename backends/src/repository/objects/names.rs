//! Names of dumps where nobody said what they look like.
//!
//! A dump has the name of one (`.sql.gz`, `.dump`, `.tar.zst`, ...), or a time in its name and an ending of
//! something packed. Its series is the folder that it lies in and its name without the time, or the folder
//! alone where both are the same. Folders that are a date do not count. Snapshots of etcd end in the seconds
//! since 1970, as those of k3s do, or are named after what they are; all of a folder are one series, whoever
//! took them: each holds the whole cluster.

use firedrill_core::config::BackupKind;
use firedrill_core::config::objects::ObjectName;
use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;

/// Names of packed files end like this.
const PACKED: &[&str] =
    &[".gz", ".gzip", ".zst", ".zstd", ".xz", ".bz2", ".lz4", ".br", ".zip", ".age", ".gpg", ".enc"];
/// Names of dumps end like this, before an end of [`PACKED`].
const DUMPS: &[&str] = &[
    ".sql",
    ".dump",
    ".pgdump",
    ".pg_dump",
    ".pgc",
    ".dmp",
    ".xb",
    ".xbstream",
    ".mysqldump",
    ".archive",
    ".bak",
    ".backup",
    ".tar",
    ".tgz",
    ".txz",
    ".tzst",
    ".rdb",
    ".ldif",
    ".bson",
    ".db",
    ".sqlite",
    ".sqlite3",
];
/// What somebody is still writing, or gave up.
const UNFINISHED: &[&str] =
    &[".part", ".partial", ".tmp", ".temp", ".filepart", ".crdownload", ".incomplete"];
/// What the series of etcd snapshots is called that lie in no folder.
const ETCD: &str = "etcd-snapshot";

/// Whether the name says that the object is not whole yet.
pub(super) fn is_unfinished(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    UNFINISHED.iter().any(|end| name.ends_with(end)) || name.ends_with('~')
}

/// Whether the name is that of a dump.
pub(super) fn looks_like_dump(name: &str) -> bool {
    let (bare, packed, dump) = strip(name);
    dump || packed && take_time(bare).1.is_some()
}

/// Reads a name in the usual ways.
pub(super) fn read(kind: BackupKind, key: &[&str]) -> Option<ObjectName> {
    let (name, folders) = key.split_last()?;
    let (folders, date) = undated(folders);
    let (bare, packed, dump) = strip(name);
    let (base, time) = take_time(bare);
    let time = time.or_else(|| date.and_then(|date| in_utc(date.at(0, 0, 0, 0))));
    let series = if kind == BackupKind::Etcd {
        let lower = name.to_ascii_lowercase();
        let named = ["etcd", "snapshot", "on-demand"].iter().any(|word| lower.contains(word));
        // The certificates of the control plane may lie beside.
        let other = lower.contains(".tar") || lower.ends_with(".tgz");
        let fits = ends_in_seconds(bare) || named && (dump || packed || time.is_some());
        if !fits || other {
            return None;
        }
        if folders.is_empty() { ETCD.to_owned() } else { folders.join("/") }
    } else {
        if !(dump || packed && time.is_some()) {
            return None;
        }
        match folders.last() {
            None if base.is_empty() => "dumps".to_owned(),
            None => base,
            Some(last) if base.is_empty() || base == *last => folders.join("/"),
            Some(_) => format!("{}/{base}", folders.join("/")),
        }
    };
    Some(ObjectName { series, namespace: String::new(), time })
}

/// The name without its endings, and whether they were those of something packed, and of a dump.
fn strip(name: &str) -> (&str, bool, bool) {
    let (mut name, mut packed, mut dump) = (name, false, false);
    'endings: loop {
        for (ends, seen) in [(PACKED, &mut packed), (DUMPS, &mut dump)] {
            for end in ends {
                let cut = name.len().checked_sub(end.len()).filter(|cut| *cut > 0);
                if let Some((stem, tail)) = cut.and_then(|cut| name.split_at_checked(cut))
                    && tail.eq_ignore_ascii_case(end)
                {
                    (name, *seen) = (stem, true);
                    continue 'endings;
                }
            }
        }
        return (name, packed, dump);
    }
}

/// The folders that are no dates, and the date that the others make.
fn undated<'k>(folders: &[&'k str]) -> (Vec<&'k str>, Option<Date>) {
    let mut kept = Vec::new();
    let mut date = None;
    let mut at = 0;
    while let Some(folder) = folders.get(at) {
        let three = folders.get(at..at + 3).map(|parts| parts.join("-"));
        if let Some(day) = three.as_deref().and_then(whole_date) {
            (date, at) = (Some(day), at + 3);
            continue;
        }
        match take_time(folder) {
            (rest, Some(time)) if rest.is_empty() => date = Some(time.to_zoned(TimeZone::UTC).date()),
            _ => kept.push(*folder),
        }
        at += 1;
    }
    (kept, date)
}

fn whole_date(text: &str) -> Option<Date> {
    let (date, length) = date(text.as_bytes())?;
    (length == text.len()).then_some(date)
}

/// The name without the time in it, and the time.
fn take_time(name: &str) -> (String, Option<Timestamp>) {
    let bytes = name.as_bytes();
    for start in 0..bytes.len() {
        let before = start.checked_sub(1).and_then(|at| bytes.get(at));
        if before.is_some_and(u8::is_ascii_digit) {
            continue;
        }
        let Some((time, length)) = bytes.get(start..).and_then(time_at) else { continue };
        let (Some(before), Some(after)) = (name.get(..start), name.get(start + length..)) else { continue };
        let trim = |text: &str| text.trim_matches(['-', '_', '.', ' ', '@', '+']).to_owned();
        let (before, after) = (trim(before), trim(after));
        let joined =
            if before.is_empty() || after.is_empty() { before + &after } else { before + "-" + &after };
        return (joined, Some(time));
    }
    (name.to_owned(), None)
}

/// A time at the start of `text`, and how long it is: seconds since 1970, or a date with or without a time
/// of day.
fn time_at(text: &[u8]) -> Option<(Timestamp, usize)> {
    let digits = text.iter().take_while(|b| b.is_ascii_digit()).count();
    if digits == 10 && text.first() == Some(&b'1') {
        return Some((Timestamp::from_second(number(text, 0, 10)?.into()).ok()?, 10));
    }
    let (date, mut length) = date(text)?;
    let mut time = Time::midnight();
    let rest = text.get(length..).unwrap_or_default();
    let separated = usize::from(matches!(rest.first(), Some(b'-' | b'_' | b'T' | b't' | b'.' | b' ')));
    if let Some((of_day, taken)) = rest.get(separated..).and_then(time_of_day)
        && (separated > 0 || digits >= 12)
    {
        time = of_day;
        length += separated + taken;
        length += usize::from(matches!(text.get(length), Some(b'Z' | b'z')));
    }
    let goes_on = text.get(length).is_some_and(u8::is_ascii_digit);
    (!goes_on).then_some((in_utc(date.to_datetime(time))?, length))
}

fn date(text: &[u8]) -> Option<(Date, usize)> {
    let separator = *text.get(4)?;
    let (month, day, length) = if separator.is_ascii_digit() {
        (4, 6, 8)
    } else if matches!(separator, b'-' | b'_' | b'.') && text.get(7) == Some(&separator) {
        (5, 8, 10)
    } else {
        return None;
    };
    let year = number(text, 0, 4).filter(|year| (1990..2100).contains(year))?;
    let part = |at| number(text, at, 2).and_then(|n| i8::try_from(n).ok());
    Some((Date::new(i16::try_from(year).ok()?, part(month)?, part(day)?).ok()?, length))
}

fn time_of_day(text: &[u8]) -> Option<(Time, usize)> {
    let part = |at| number(text, at, 2).and_then(|n| i8::try_from(n).ok());
    let gap = |at: usize| usize::from(matches!(text.get(at), Some(b'-' | b':' | b'_' | b'.' | b'h')));
    let minute = 2 + gap(2);
    let second = minute + 2 + gap(minute + 2);
    let (hour, minutes) = (part(0)?, part(minute)?);
    match part(second).and_then(|seconds| Time::new(hour, minutes, seconds, 0).ok()) {
        Some(time) => Some((time, second + 2)),
        None => Some((Time::new(hour, minutes, 0, 0).ok()?, minute + 2)),
    }
}

fn number(text: &[u8], at: usize, length: usize) -> Option<u32> {
    let digits = text.get(at..at + length)?;
    let digits = std::str::from_utf8(digits).ok().filter(|d| d.bytes().all(|b| b.is_ascii_digit()))?;
    digits.parse().ok()
}

fn in_utc(time: DateTime) -> Option<Timestamp> {
    time.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}

fn ends_in_seconds(bare: &str) -> bool {
    bare.rsplit_once('-').is_some_and(|(_, last)| {
        last.len() == 10 && last.starts_with('1') && last.bytes().all(|b| b.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use firedrill_core::config::objects::plain_components;
    use proptest::prelude::*;

    use super::*;

    fn told(kind: BackupKind, key: &str) -> Option<(String, String)> {
        let name = read(kind, &plain_components(key)?)?;
        Some((name.series, name.time.map(|t| t.to_string()).unwrap_or_default()))
    }

    fn dump(key: &str) -> (String, String) {
        told(BackupKind::ObjectDump, key).unwrap_or_else(|| panic!("{key} is a dump"))
    }

    fn is(series: &str, time: &str) -> (String, String) {
        (series.to_owned(), time.to_owned())
    }

    #[test]
    fn common_names_are_read() {
        let time = "2026-02-11T15:43:44Z";
        assert_eq!(dump("cardboard/cardboard-20260211-154344.sql.gz"), is("cardboard", time));
        assert_eq!(dump("jellyfin/media-20260211-154344.sql.gz"), is("jellyfin/media", time));
        for name in [
            "app-20260211-154344.sql.gz",
            "app_2026-02-11_15-43-44.dump",
            "app-2026-02-11T15:43:44Z.tar.zst",
            "app.20260211154344.sql.xz",
            "2026-02-11_15.43.44_app.sql",
            "app-20260211T154344Z.bak",
            "app-1770824624.sql",
            "app-20260211-154344.gz",
        ] {
            assert_eq!(dump(name), is("app", time), "{name}");
        }
        assert_eq!(dump("app-20260211-1543.sql.gz"), is("app", "2026-02-11T15:43:00Z"));
        assert_eq!(dump("app-20260211.sql.gz"), is("app", "2026-02-11T00:00:00Z"));
        assert_eq!(dump("2026/02/11/app.sql.gz"), is("app", "2026-02-11T00:00:00Z"));
        assert_eq!(dump("2026-02-11/app.sql.gz"), is("app", "2026-02-11T00:00:00Z"));
        assert_eq!(dump("latest.sql"), is("latest", ""));
        assert_eq!(dump("pg15/pg15-v20-2026-02-11.sql"), is("pg15/pg15-v20", "2026-02-11T00:00:00Z"));
        assert_eq!(dump("app-before-20260211-upgrade.sql"), is("app-before-upgrade", "2026-02-11T00:00:00Z"));
    }

    #[test]
    fn what_is_no_dump_is_none() {
        for name in ["README.md", "app.log", "x.sql.gz.md5", "photo-20260211.jpg", "app.gz", ".sql"] {
            assert_eq!(told(BackupKind::ObjectDump, name), None, "{name}");
        }
        assert!(is_unfinished("a.sql.gz.part") && is_unfinished("a.TMP") && !is_unfinished("a.sql"));
    }

    #[test]
    fn snapshots_of_k3s_are_one_series() {
        let time = "2026-02-11T16:00:00Z";
        for name in [
            "etcd-snapshot-node-1-1770825600",
            "etcd-snapshot-node-1-1770825600.zip",
            "on-demand-node-2-1770825600",
            "pre-upgrade-node-2-1770825600",
        ] {
            assert_eq!(told(BackupKind::Etcd, name), Some(is("etcd-snapshot", time)), "{name}");
        }
        assert_eq!(told(BackupKind::Etcd, "a/etcd-snapshot-x-1770825600"), Some(is("a", time)));
        assert_eq!(
            told(BackupKind::Etcd, "etcd-snapshot-20260211-160000.db.gz"),
            Some(is("etcd-snapshot", time))
        );
        assert_eq!(told(BackupKind::Etcd, "snapshot.db"), Some(is("etcd-snapshot", "")));
        for name in ["pki-20260211.tar.gz", "README", "etcd-snapshot.sh"] {
            assert_eq!(told(BackupKind::Etcd, name), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_name_breaks_it(key in "\\PC{0,80}", digits in "[0-9._T:-]{0,40}") {
            for key in [&key, &digits, &format!("{key}{digits}.sql")] {
                if let Some(parts) = plain_components(key) {
                    let _ = (told(BackupKind::ObjectDump, key), read(BackupKind::Etcd, &parts));
                }
            }
        }
    }
}
