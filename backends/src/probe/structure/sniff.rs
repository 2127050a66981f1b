//! What content is, by its first bytes.

use super::Format;
use super::claim::Claim;
use super::sql;

/// How many bytes of a file or stream are looked at.
pub(crate) const HEAD: usize = 8 * 1024;

/// What a beginning shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// A format that can be checked.
    Is(Format),
    /// A bbolt database, which is an etcd snapshot only if its buckets say so.
    Bolt,
    /// Something else.
    Unknown,
}

/// What `head` is the beginning of. `whole` says that nothing follows it.
pub(super) fn sniff(head: &[u8], whole: bool) -> Content {
    let format = if head.starts_with(&[0x1f, 0x8b, 0x08]) {
        Format::Gzip
    } else if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) || is_skippable_frame(head) {
        Format::Zstd
    } else if head.starts_with(b"\xfd7zXZ\0") {
        Format::Xz
    } else if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
        Format::Zip
    } else if head.starts_with(b"PGDMP") {
        Format::PgArchive
    } else if head.starts_with(b"XBSTCK01") {
        Format::Xbstream
    } else if super::tar::is_header(head) {
        Format::Tar
    } else if super::etcd::is_bolt(head) {
        return Content::Bolt;
    } else if sql::is_dump(head, whole) {
        Format::SqlDump
    } else {
        return Content::Unknown;
    };
    Content::Is(format)
}

fn is_skippable_frame(head: &[u8]) -> bool {
    matches!(head, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
}

/// Why content that no format recognises is a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// Nothing at all.
    Empty,
    /// The first bytes of the promised format, and nothing more.
    Stub,
    /// The message of a tool that failed.
    ErrorText,
    /// It looks encrypted.
    Random,
    /// Text without any SQL.
    NoStatement,
    /// Something else than promised.
    Mismatch,
    /// Something else than promised, under a name that promises no dump.
    OddMismatch,
}

/// What is wrong with unrecognised content under a name with this claim; `None` when that is normal.
pub(super) fn problem(claim: &Claim, head: &[u8], whole: bool) -> Option<Problem> {
    let outer = claim.outer()?;
    if head.is_empty() {
        return claim.dump.then_some(Problem::Empty);
    }
    if whole && magic(outer).is_some_and(|magic| magic.len() > head.len() && magic.starts_with(head)) {
        return Some(Problem::Stub);
    }
    if claim.dump && error_text(head).is_some() {
        return Some(Problem::ErrorText);
    }
    if looks_encrypted(head) {
        let claimed = claim.dump || matches!(outer, Format::Gzip | Format::Zstd | Format::Xz | Format::Zip);
        return claimed.then_some(Problem::Random);
    }
    match outer {
        // A long comment may stand in front, so only a file that was seen to its end has no statement.
        Format::SqlDump => {
            (whole && is_text(head) && !sql::has_keyword(head)).then_some(Problem::NoStatement)
        }
        // Other tools write `.dump` files too.
        Format::PgArchive => None,
        // So they do `.xb`; a damaged beginning still resembles what it was.
        Format::Xbstream if !is_text(head) && !resembles(head, b"XBSTCK01") => None,
        _ if claim.dump => Some(Problem::Mismatch),
        // A text called `.gz` is a placeholder or a test file; binary content is a damaged header.
        _ => (!is_text(head)).then_some(Problem::OddMismatch),
    }
}

fn magic(format: Format) -> Option<&'static [u8]> {
    Some(match format {
        Format::Gzip => &[0x1f, 0x8b, 0x08],
        Format::Zstd => &[0x28, 0xb5, 0x2f, 0xfd],
        Format::Xz => b"\xfd7zXZ\0",
        Format::Zip => b"PK\x03\x04",
        Format::PgArchive => b"PGDMP",
        Format::Xbstream => b"XBSTCK01",
        Format::Tar | Format::SqlDump | Format::EtcdSnapshot => return None,
    })
}

/// Whether more than half of the first bytes are those of `magic`.
fn resembles(head: &[u8], magic: &[u8]) -> bool {
    head.iter().zip(magic).filter(|(a, b)| a == b).count() * 2 > magic.len()
}

/// The first line that a failing tool left instead of, or before, a dump.
pub(super) fn error_text(head: &[u8]) -> Option<String> {
    const MESSAGES: [&str; 26] = [
        "pg_dump: ",
        "pg_dumpall: ",
        "pg_restore: ",
        "psql: ",
        "mysqldump: ",
        "mariadb-dump: ",
        "mysql: ",
        "mariabackup: ",
        "mariadb-backup: ",
        "mbstream: ",
        "etcdctl: ",
        "bash: ",
        "sh: ",
        "/bin/sh: ",
        "/bin/bash: ",
        "docker: ",
        "kubectl: ",
        "error: ",
        "Error: ",
        "ERROR: ",
        "ERROR ",
        "Error from server",
        "Unable to connect to the server",
        "OCI runtime exec failed",
        "Defaulted container ",
        "command terminated with ",
    ];
    if !is_text(head) {
        return None;
    }
    let text = String::from_utf8_lossy(head);
    let line = text.lines().take(40).find(|line| MESSAGES.iter().any(|m| line.starts_with(m)))?;
    Some(line.chars().take(160).flat_map(char::escape_default).collect())
}

/// Whether the bytes could be text: no control characters but white space and escape.
pub(super) fn is_text(head: &[u8]) -> bool {
    !head.iter().any(|byte| matches!(byte, 0..=8 | 14..=26 | 28..=31 | 127))
}

/// Whether content was encrypted: by the mark of a tool, or because its bytes are spread evenly. Normal
/// compressed formats carry a magic number and are recognised before this is asked.
pub(super) fn looks_encrypted(head: &[u8]) -> bool {
    const MARKS: [&[u8]; 4] =
        [b"Salted__", b"age-encryption.org/", b"-----BEGIN PGP MESSAGE", b"-----BEGIN AGE ENCRYPTED"];
    MARKS.iter().any(|mark| head.starts_with(mark)) || is_evenly_spread(head)
}

/// Pearson's test against the uniform distribution. For random bytes the sum has mean 255 and standard
/// deviation 23 at any length; text of 256 bytes is far beyond 1000.
fn is_evenly_spread(bytes: &[u8]) -> bool {
    if bytes.len() < 256 {
        return false;
    }
    let mut counts = [0_u32; 256];
    for &byte in bytes {
        if let Some(count) = counts.get_mut(usize::from(byte)) {
            *count += 1;
        }
    }
    let expected = bytes.len() as f64 / 256.0;
    let sum: f64 = counts.iter().map(|&count| (f64::from(count) - expected).powi(2) / expected).sum();
    sum < 400.0
}
