//! Finds files of digests among restored data, and what they are about.

use firedrill_core::digests::{Digests, LENGTH_MAX, SUFFIX, Sealed, is_name, path_bytes};
use firedrill_core::subject::Subject;

use crate::probe::names::{last, parent};
use crate::probe::restored::Restored;

/// More files of digests than this are not read.
const FILES_MAX: usize = 200;

/// A file of digests that can be relied on as far as is known.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    /// Its path.
    path: Vec<u8>,
    /// The path for people.
    pub(super) location: String,
    /// What it says.
    pub(super) digests: Digests,
    /// Why nobody knows who wrote it.
    pub(super) doubt: Option<&'static str>,
}

/// What a file with such a name is.
#[derive(Clone, Debug)]
pub(super) enum Found {
    Good(Box<Expected>),
    Broken { location: String, why: String },
    Forged { location: String },
}

/// Reads all files of digests. An error is about us.
pub(super) fn find(subject: &Subject) -> Result<Vec<Found>, String> {
    let restored = Restored::open(&subject.root).map_err(|error| format!("the restored data: {error}"))?;
    let mut all = Vec::new();
    for entry in subject.manifest.files().filter(|entry| is_name(entry.name())) {
        if all.len() >= FILES_MAX {
            return Err(format!("there are more than {FILES_MAX} files of digests"));
        }
        let location = entry.display();
        let content = restored
            .head(&entry.path, LENGTH_MAX + 1)
            .map_err(|error| format!("the restored file {location}: {error}"))?
            .ok_or_else(|| format!("{location} was not restored"))?;
        let sealed = match Sealed::parse(&content) {
            Ok(sealed) => sealed,
            Err(why) => {
                all.push(Found::Broken { location, why: format!("none: {why}") });
                continue;
            }
        };
        let doubt = match &subject.canary_key {
            Some(key) if sealed.is_signed() && !sealed.verify(key) => {
                all.push(Found::Forged { location });
                continue;
            }
            Some(_) if sealed.is_signed() => None,
            _ if !sealed.is_signed() => Some("it is not signed"),
            _ => Some("no key is known"),
        };
        let path = entry.path.clone();
        all.push(Found::Good(Box::new(Expected { path, location, digests: sealed.digests, doubt })));
    }
    Ok(all)
}

impl Expected {
    /// The entry path that a path in the file means, and whether it is written from the root.
    pub(super) fn place(&self, path: &str) -> (Vec<u8>, bool) {
        let path = path_bytes(path);
        if let Some(absolute) = path.strip_prefix(b"/") {
            return (absolute.to_vec(), true);
        }
        let folder = parent(&self.path);
        let place = match (path.as_slice(), folder.is_empty()) {
            (b"." | b"", _) => folder.to_vec(),
            (_, true) => path,
            (_, false) => [folder, b"/", &path].concat(),
        };
        (place, false)
    }

    /// Whether it lies beside `dump`, and its name, if it says anything, says that it belongs to it; or in the folder
    /// that the dump is.
    pub(super) fn is_about(&self, dump: &[u8]) -> bool {
        let stem = self.stem();
        let dump = whole(dump);
        if self.is_inside(dump) {
            return true;
        }
        let rest = last(dump).strip_prefix(stem);
        parent(&self.path) == parent(dump)
            && (stem.is_empty()
                || rest.is_some_and(|rest| !rest.first().is_some_and(u8::is_ascii_alphanumeric)))
    }

    /// Whether it lies in the folder `dump`.
    pub(super) fn is_inside(&self, dump: &[u8]) -> bool {
        parent(&self.path) == whole(dump)
    }

    /// Whether its name says which dump it belongs to.
    pub(super) fn is_named(&self) -> bool {
        !self.stem().is_empty()
    }

    fn stem(&self) -> &[u8] {
        last(&self.path).strip_suffix(SUFFIX.as_bytes()).unwrap_or_default()
    }

    /// What a good backup would have shown.
    pub(super) fn promise(&self, what: &str) -> String {
        promise(what, &self.location)
    }
}

/// The dump that a file belongs to: pg_dump makes folders, too.
pub(super) fn whole(dump: &[u8]) -> &[u8] {
    if last(dump) == b"toc.dat" { parent(dump) } else { dump }
}

/// What a good backup would have shown, and who says so.
pub(super) fn promise(what: &str, location: &str) -> String {
    format!("{what}, as recorded in {location}")
}
