//! A backend that cannot write.

use std::sync::Arc;

use bytes::Bytes;
use rustic_core::{BytesList, ErrorKind, FileType, Id, ReadBackend, RusticError, RusticResult, WriteBackend};

/// Hands on what reads and refuses what writes, so that a restore test cannot harm a backup even by a
/// mistake of ours or of a library.
#[derive(Debug)]
pub(super) struct ReadOnly(pub(super) Arc<dyn WriteBackend>);

fn refuse<T>() -> RusticResult<T> {
    Err(RusticError::new(ErrorKind::AppendOnly, "this repository was opened for reading only"))
}

impl ReadBackend for ReadOnly {
    fn location(&self) -> String {
        self.0.location()
    }

    fn list_with_size(&self, tpe: FileType) -> RusticResult<Vec<(Id, u32)>> {
        self.0.list_with_size(tpe)
    }

    fn list(&self, tpe: FileType) -> RusticResult<Vec<Id>> {
        self.0.list(tpe)
    }

    fn read_full(&self, tpe: FileType, id: &Id) -> RusticResult<Bytes> {
        self.0.read_full(tpe, id)
    }

    fn read_partial(
        &self,
        tpe: FileType,
        id: &Id,
        cacheable: bool,
        offset: u32,
        length: u32,
    ) -> RusticResult<Bytes> {
        self.0.read_partial(tpe, id, cacheable, offset, length)
    }

    fn warmup_path(&self, tpe: FileType, id: &Id) -> String {
        self.0.warmup_path(tpe, id)
    }
}

impl WriteBackend for ReadOnly {
    fn create(&self) -> RusticResult<()> {
        refuse()
    }

    fn write_bytes(&self, _: FileType, _: &Id, _: bool, _: BytesList) -> RusticResult<()> {
        refuse()
    }

    fn remove(&self, _: FileType, _: &Id, _: bool) -> RusticResult<()> {
        refuse()
    }
}

/// The largest object that is read as a whole. restic's packs have at most 128 MiB.
pub(super) const OBJECT_MAX: u64 = 512 << 20;

/// The id that `name` is, if it is one: 64 lower-case hexadecimal digits.
pub(super) fn id_of(name: &str) -> Option<Id> {
    let lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if name.len() != 64 || !name.bytes().all(lower_hex) {
        return None;
    }
    name.parse().ok()
}

/// `size` as rustic counts sizes. Nothing that restic writes exceeds it; what does is listed with the
/// largest size there is, so that it shows up as an object of the wrong size and not as a missing one.
pub(super) fn size_of(size: u64, name: &str) -> u32 {
    u32::try_from(size).unwrap_or_else(|_| {
        tracing::warn!(size, name, "an object is larger than any that restic writes");
        u32::MAX
    })
}

/// The name of an object under the root of the repository.
pub(super) fn key_of(tpe: FileType, id: &Id) -> String {
    let hex = id.to_hex();
    match tpe {
        FileType::Config => "config".to_owned(),
        FileType::Pack => format!("data/{}/{}", hex.as_str().get(..2).unwrap_or_default(), hex.as_str()),
        _ => format!("{}/{}", tpe.dirname(), hex.as_str()),
    }
}

/// Cuts what a server that ignores ranges sent down to the range, and refuses less than was asked for.
pub(super) fn cut_to_range(body: Bytes, offset: u32, length: u32) -> Result<Bytes, usize> {
    let (offset, length) = (offset as usize, length as usize);
    match body.len() {
        got if got == length => Ok(body),
        got if got > length && got >= offset.saturating_add(length) => {
            Ok(body.slice(offset..offset.saturating_add(length)))
        }
        got => Err(got),
    }
}

/// The name of a file for people: `snapshots/1a2b3c4d…`.
pub(crate) fn name(kind: FileType, id: &Id) -> String {
    match kind {
        FileType::Config => "config".to_owned(),
        _ => format!("{}/{}", folder(kind), id.to_hex().as_str()),
    }
}

/// The folder of a kind of files, for people.
pub(crate) fn folder(kind: FileType) -> &'static str {
    match kind {
        FileType::Pack => "data",
        other => other.dirname(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ids_in_lower_case_count() {
        assert!(id_of(&"0a".repeat(32)).is_some());
        assert!(id_of(&"0A".repeat(32)).is_none());
        assert!(id_of("config").is_none() && id_of(&"é".repeat(32)).is_none());
    }

    #[test]
    fn names_follow_the_layout() {
        let id = id_of(&"ab".repeat(32)).unwrap();
        assert_eq!(key_of(FileType::Pack, &id), format!("data/ab/{}", "ab".repeat(32)));
        assert_eq!(key_of(FileType::Key, &id), format!("keys/{}", "ab".repeat(32)));
        assert_eq!(key_of(FileType::Config, &id), "config");
    }

    #[test]
    fn ranges_are_checked() {
        let body = Bytes::from_static(b"0123456789");
        assert_eq!(cut_to_range(body.slice(2..5), 2, 3).unwrap(), "234");
        assert_eq!(cut_to_range(body.clone(), 2, 3).unwrap(), "234");
        assert_eq!(cut_to_range(body.slice(..2), 2, 3), Err(2));
        assert_eq!(cut_to_range(body, 9, 3), Err(10));
    }

    #[test]
    fn sizes_beyond_measure_are_kept() {
        assert_eq!(size_of(7, "x"), 7);
        assert_eq!(size_of(1 << 40, "x"), u32::MAX);
    }
}
