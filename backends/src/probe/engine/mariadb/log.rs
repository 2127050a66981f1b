//! What servers and tools say, as far as it tells damage from our own trouble.

/// Words for which the machine is to blame, and not the backup.
const OURS: [&str; 14] = [
    "No space left on device",
    "Disk quota exceeded",
    "Errcode: 28",
    "errno: 28",
    "Disk full",
    "Out of memory",
    "out of memory",
    "Cannot allocate memory",
    "Errcode: 12",
    "Permission denied",
    "Read-only file system",
    "Input/output error",
    "Too many open files",
    "unknown option",
];

/// Words that say that tables are encrypted and the key is not here.
const KEYS: [&str; 6] =
    ["encryption key", "key_id", "is encrypted", "decryption failed", "encryption plugin", "key management"];

/// Words before the size of the pages in the files, where the server expected another one.
pub(super) const PAGE_SIZE: &str = "uses page size ";

/// Words by which a log tells of broken data.
const BROKEN: [&str; 16] = [
    PAGE_SIZE,
    "corrupt",
    "checksum mismatch",
    "is in the future",
    "Missing FILE_CHECKPOINT",
    "Missing MLOG_CHECKPOINT",
    "Cannot open datafile",
    "Invalid log",
    "invalid log",
    "was not found",
    "does not exist in the InnoDB",
    "Tablespace is missing",
    "file is truncated",
    "is too small",
    "Assertion failure",
    "got signal",
];

/// Whether these words tell of the machine.
pub(super) fn is_ours(text: &str) -> bool {
    OURS.iter().any(|words| text.contains(words)) || text.contains("unknown variable")
}

/// Whether these words tell of a missing key.
pub(super) fn lacks_key(text: &str) -> bool {
    errors(text).any(|line| {
        let line = without_names(line);
        KEYS.iter().any(|words| line.contains(words))
    })
}

/// What was said, without the names of tables and files in it: these may say anything.
pub(super) fn without_names(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    for (number, part) in text.split(['\'', '`', '"']).enumerate() {
        // Between two quotation marks stands a name.
        if number % 2 == 0 {
            kept.push_str(part);
        }
    }
    kept.split_whitespace().filter(|word| !word.contains('/')).collect::<Vec<_>>().join(" ")
}

/// The first line that tells of broken data.
pub(super) fn broken(text: &str) -> Option<String> {
    errors(text).find(|line| BROKEN.iter().any(|words| line.contains(words))).map(shown)
}

/// The line that tells most about why a program ended: the first error that speaks of broken data, or the last one.
pub(super) fn telling(text: &str) -> Option<String> {
    let last = || errors(text).last().map(shown);
    let any = || text.lines().rev().map(str::trim).find(|line| !line.is_empty()).map(shown);
    broken(text).or_else(last).or_else(any)
}

fn errors(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| {
        line.contains("[ERROR]")
            || line.contains("Error:")
            || line.contains("error:")
            || line.contains("FATAL")
    })
}

/// Without the time and the thread, which differ from run to run.
fn shown(line: &str) -> String {
    let line = line.trim();
    let text = line.split_once("[ERROR] ").map_or(line, |(_, text)| text);
    let text = text.strip_prefix("[00] ").unwrap_or(text);
    plain(text, 300)
}

/// The beginning of `text`, without what a terminal would act on.
pub(super) fn plain(text: &str, max: usize) -> String {
    let escaped = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().take(max).map(escaped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "2026-11-20 14:05:18 0 [Note] InnoDB: corrupt is a word\n\
        2026-11-20 14:05:20 0 [ERROR] InnoDB: Failed to read page 768 from file './shop/orders.ibd': Page read from \
        tablespace is corrupted.\n2026-11-20 14:05:20 3 [ERROR] Got error 180 when reading table './shop/orders'\n";

    #[test]
    fn the_telling_line_is_found() {
        let line = broken(LOG).unwrap();
        assert!(line.starts_with("InnoDB: Failed to read page 768"), "{line}");
        assert_eq!(telling("x\n2026-11-20 1 [ERROR] Aborting\n").as_deref(), Some("Aborting"));
        assert_eq!(telling("only this\n\n").as_deref(), Some("only this"));
        assert_eq!(telling(""), None);
        assert!(broken("2026 [Note] all is well\n").is_none());
    }

    #[test]
    fn our_trouble_and_missing_keys_are_told_apart() {
        assert!(is_ours("InnoDB: Error number 28 means 'No space left on device'") && !is_ours(LOG));
        assert!(lacks_key("[ERROR] InnoDB: Table is encrypted but the encryption service is not available"));
        assert!(!lacks_key("[Note] InnoDB: nothing is encrypted") && !lacks_key(LOG));
    }

    #[test]
    fn the_name_of_a_table_says_nothing() {
        assert!(
            !without_names("Index for table 'encrypted_files' is corrupt; try to repair it")
                .contains("encrypted")
        );
        assert!(!without_names("./shop/key_ids.ibd is corrupt").contains("key_id"));
        assert!(
            without_names("Table `shop`.`t` is encrypted but the key is missing").contains("is encrypted")
        );
        assert!(!lacks_key("2026-11-20  1:02:03 0 [ERROR] InnoDB: File ./shop/key_ids.ibd is corrupt"));
    }
}
