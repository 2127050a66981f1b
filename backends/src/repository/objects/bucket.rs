//! Objects in a bucket.

use bytes::Bytes;
use firedrill_core::config::ObjectPattern;
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::watch::Watch;

use super::sums::Sum;
use super::{Content, Facts, Listing, OBJECTS_MAX, Object, Source};
use crate::repository::access::Access;
use crate::repository::error::Trouble;
use crate::repository::location::S3Location;
use crate::repository::s3::objects::{self, Head, Listed};

/// How much is asked for at a time.
const PIECE: u32 = 8 << 20;

/// A prefix of a bucket.
pub(super) struct Bucket {
    objects: objects::Objects,
    place: S3Location,
}

impl Bucket {
    pub(super) fn open(place: &S3Location, access: &Access) -> Result<Self> {
        Ok(Self { objects: objects::open(place, access)?, place: place.clone() })
    }

    fn named(&self, key: &str) -> String {
        match self.place.prefix.as_str() {
            "" => format!("s3:{}/{}/{key}", self.place.endpoint, self.place.bucket),
            prefix => format!("s3:{}/{}/{prefix}/{key}", self.place.endpoint, self.place.bucket),
        }
    }
}

impl Source for Bucket {
    fn list(&self, patterns: &[ObjectPattern], watch: &Watch) -> Result<Listing> {
        let mut listing = Listing::default();
        let mut stopped = Ok(());
        for folder in folders(patterns) {
            let listed = self.objects.list(&folder, |page| {
                listing.objects.extend(page.into_iter().map(object));
                stopped = watch.check().and_then(|()| enough(listing.objects.len(), &self.place.to_string()));
                stopped.is_ok()
            });
            stopped.clone()?;
            listed.map_err(|fault| fault.into_error(format!("list {}", self.named(&folder))))?;
        }
        Ok(listing)
    }

    fn open<'s>(&'s self, key: &str) -> Result<Option<Box<dyn Content + 's>>> {
        let head = match self.objects.head(key) {
            Ok(head) => head,
            Err(fault) if fault.trouble == Trouble::Missing => return Ok(None),
            Err(fault) => return Err(fault.into_error(format!("look at {}", self.named(key)))),
        };
        let sums = [
            head.sha256.clone().map(Sum::Sha256),
            head.crc32.clone().map(Sum::Crc32),
            head.md5.clone().map(Sum::Md5),
        ];
        let promised = sums.into_iter().flatten().collect();
        let facts = Facts { size: head.size, modified: head.modified, promised };
        Ok(Some(Box::new(Stream { bucket: self, key: key.to_owned(), head, facts, offset: 0 })))
    }

    fn archived(&self, key: &str) -> Result<Option<String>> {
        match self.objects.head(key) {
            Ok(head) if head.thawed => Ok(None),
            Ok(head) if head.thawing => {
                Ok(Some("it is being thawed: drill it again in some hours".to_owned()))
            }
            Ok(_) => Ok(Some(
                "it lies in an archive tier: before it can be read, let alone drilled, it has to be thawed \
                 (RestoreObject), which takes hours"
                    .to_owned(),
            )),
            Err(fault) => Err(fault.into_error(format!("look at {}", self.named(key)))),
        }
    }
}

/// More objects than can be dumps.
pub(super) fn enough(count: usize, place: &str) -> Result<()> {
    if count <= OBJECTS_MAX {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Usage, format!("list {place}"))
        .because(format!("it holds more than {OBJECTS_MAX} objects"))
        .advise("give the prefix of the dumps alone, or patterns in `objects` that begin with their folder"))
}

fn object(listed: Listed) -> Object {
    let archive = matches!(listed.class.as_str(), "GLACIER" | "DEEP_ARCHIVE").then_some(listed.class);
    Object { key: listed.key, size: listed.size, modified: listed.modified, etag: listed.etag, archive }
}

/// The folders that patterns can reach, so that a large bucket is not listed for a small part of it.
fn folders(patterns: &[ObjectPattern]) -> Vec<String> {
    let mut folders: Vec<String> = patterns
        .iter()
        .filter(|pattern| !pattern.leaves_out())
        .map(|pattern| pattern.fixed_folders().iter().map(|folder| format!("{folder}/")).collect())
        .collect();
    if folders.is_empty() {
        return vec![String::new()];
    }
    folders.sort();
    // Sorted, a folder comes before all that is in it.
    folders.dedup_by(|next, kept| next.starts_with(kept.as_str()));
    folders
}

/// An object that is being read.
struct Stream<'s> {
    bucket: &'s Bucket,
    key: String,
    head: Head,
    facts: Facts,
    offset: u64,
}

impl Content for Stream<'_> {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn next(&mut self) -> Result<Bytes> {
        let left = self.head.size.saturating_sub(self.offset);
        let length = u32::try_from(left).unwrap_or(PIECE).min(PIECE);
        if length == 0 {
            return Ok(Bytes::new());
        }
        let etag = self.head.etag.as_deref();
        let read = self.bucket.objects.piece(&self.key, self.offset, length, etag);
        let piece = read.map_err(|fault| match fault.trouble {
            Trouble::Cold => fault
                .advise("thaw the object first (RestoreObject), which takes hours; then drill it again")
                .into_error(format!("read {}", self.bucket.named(&self.key))),
            _ => fault.into_error(format!("read {}", self.bucket.named(&self.key))),
        })?;
        self.offset += piece.len() as u64;
        Ok(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_that_patterns_reach_are_listed() {
        let parse = |texts: &[&str]| texts.iter().map(|t| t.parse().unwrap()).collect::<Vec<_>>();
        assert_eq!(folders(&parse(&[])), [""]);
        assert_eq!(folders(&parse(&["{name}.sql", "a/{name}.sql"])), [""]);
        assert_eq!(
            folders(&parse(&["a/b/{name}.sql", "a/{name}.sql", "c/d.sql", "!x/*"])),
            ["a/".to_owned(), "c/".to_owned()]
        );
    }
}
