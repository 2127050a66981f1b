//! The same objects at another place.
//!
//! *Verified*: what is copied has the checksum that its server, or the file beside it, promises, and arrives whole. What
//! is damaged is not carried over. An object whose name says when it was made never changes: if it did, the copy
//! keeps what it has, and says so.
//!
//! *Not verified*: what the copy has already with the same length, and the same hash where both servers keep one.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use firedrill_core::config::objects::plain_components;
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::watch::Watch;
use jiff::Timestamp;

use super::sums::Sums;
use super::upload::{Spooled, Uploads, gave_up};
use super::{Object, ObjectSettings, Objects, Source, catalog, names};
use crate::repository::access::Access;
use crate::repository::location::Location;

/// So many names are told one by one.
const TOLD_MAX: usize = 5;

/// How objects are copied.
pub struct CopyRequest<'a> {
    /// How names are read.
    pub settings: &'a ObjectSettings,
    /// Whether what the source has dropped is dropped here as well.
    pub delete: bool,
    /// Nothing is deleted when the source has fewer objects than this share of those in the copy.
    pub keep_ratio_min: f64,
    /// Waits until so many bytes may be written.
    pub pace: &'a dyn Fn(u64) -> Result<()>,
    /// A folder for what is on its way.
    pub work: &'a Path,
    /// When this run began: what is unfinished since before was begun by one that is dead.
    pub began: Timestamp,
}

/// What was copied, also when it did not end well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectsCopied {
    /// Objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects that were removed.
    pub deleted: u64,
    /// Objects of the source that the copy does not have.
    pub missing: u64,
    /// When the newest of these was made.
    pub newest_missing: Option<Timestamp>,
    /// Worth knowing.
    pub notes: Vec<String>,
    /// Why not everything was done.
    pub error: Option<Error>,
}

/// Copies what `copy` lacks of the objects in `source`.
pub fn copy_objects(
    source: (&Location, &Access),
    copy: (&Location, &Access),
    request: &CopyRequest<'_>,
    watch: &Watch,
) -> ObjectsCopied {
    let mut done = ObjectsCopied::default();
    if let Err(error) = run(source, copy, request, &mut done, watch) {
        done.error = Some(error);
    }
    done
}

type Listed = BTreeMap<String, Object>;

fn run(
    source: (&Location, &Access),
    copy: (&Location, &Access),
    request: &CopyRequest<'_>,
    done: &mut ObjectsCopied,
    watch: &Watch,
) -> Result<()> {
    let from = Objects::source(source.0, source.1)?;
    let uploads = Uploads::open(copy.0, copy.1)?;
    let to = Objects::source(copy.0, copy.1)?;
    let theirs = list(from.as_ref(), request.settings, watch)?;
    let ours = list(to.as_ref(), request.settings, watch)?;
    if theirs.is_empty() && !ours.is_empty() {
        return Err(refused("the source has no objects at all".to_owned()));
    }
    match uploads.sweep(&|key| theirs.contains_key(key), request.began, watch) {
        Ok(swept) => done.notes.extend(gave_up(&swept)),
        Err(error) => done.notes.push(error.chain()),
    }
    let mut wrong = Vec::new();
    for object in theirs.values() {
        watch.check()?;
        let there = ours.get(&object.key);
        if there.is_some_and(|there| same(object, there)) {
            continue;
        }
        let copied = match (there, made(object, request.settings)) {
            (Some(_), Some(_)) => {
                Err(format!("{} is another one than before: the copy keeps what it has", object.key))
            }
            _ if object.archive.is_some() => Err(format!("{} lies in an archive tier", object.key)),
            (there, _) => one(from.as_ref(), &uploads, object, there.is_some(), request, watch)?,
        };
        match copied {
            Ok(bytes) => {
                done.objects += 1;
                done.bytes += bytes;
            }
            Err(why) => {
                let time = made(object, request.settings).unwrap_or(object.modified);
                done.missing += 1;
                done.newest_missing = done.newest_missing.max(Some(time));
                wrong.push(why);
            }
        }
    }
    if !wrong.is_empty() {
        let error = Error::new(ErrorKind::Unavailable, "copy all objects")
            .because(format!("{} were not copied", wrong.len()));
        return Err(wrong.into_iter().take(TOLD_MAX).fold(error, Error::because));
    }
    if request.delete { remove(&uploads, &theirs, &ours, request, done, watch) } else { Ok(()) }
}

/// Everything that belongs to the backups, by name.
fn list(source: &dyn Source, settings: &ObjectSettings, watch: &Watch) -> Result<Listed> {
    let listing = source.list(&settings.patterns, watch)?;
    let wanted = |object: &Object| {
        let Some(parts) = plain_components(&object.key) else { return false };
        let left_out = settings.patterns.iter().any(|p| p.leaves_out() && p.read(&parts).is_some());
        let name = parts.last().copied().unwrap_or_default();
        let ours = !names::is_unfinished(name) && !catalog::is_sum(&object.key, object.size);
        let hidden = parts.iter().any(|part| part.starts_with('.') && *part != ".metadata");
        // What is no path as it stands could not be found again in a folder.
        ours && !hidden && !left_out && object.size > 0 && parts.join("/") == object.key
    };
    Ok(listing.objects.into_iter().filter(wanted).map(|object| (object.key.clone(), object)).collect())
}

/// When an object was made, by its name.
fn made(object: &Object, settings: &ObjectSettings) -> Option<Timestamp> {
    let parts = plain_components(&object.key)?;
    match settings.patterns.as_slice() {
        [] => names::read(settings.kind, &parts)?.time,
        patterns => patterns.iter().find_map(|pattern| pattern.read(&parts))?.time,
    }
}

fn same(theirs: &Object, ours: &Object) -> bool {
    let hash = |object: &Object| {
        let etag = object.etag.to_ascii_lowercase();
        (etag.len() == 32 && etag.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(etag)
    };
    theirs.size == ours.size
        && match (hash(theirs), hash(ours)) {
            // Hashes that differ may be none, as those of objects that a server encrypts; times decide then, too.
            (Some(theirs), Some(ours)) if theirs == ours => true,
            _ => theirs.modified <= ours.modified,
        }
}

/// Copies one object; or says what is wrong with it.
fn one(
    from: &dyn Source,
    uploads: &Uploads,
    object: &Object,
    replace: bool,
    request: &CopyRequest<'_>,
    watch: &Watch,
) -> Result<Result<u64, String>> {
    let key = object.key.as_str();
    let failed =
        |error: &std::io::Error| Error::new(ErrorKind::Scratch, format!("copy {key}")).from_source(error);
    let Some(mut content) = from.open(key)? else {
        return Ok(Err(format!("{key} vanished while the copy was made")));
    };
    let facts = content.facts().clone();
    let mut sums = Sums::new(&facts.promised);
    let mut spooled = Spooled::new(request.work).map_err(|error| failed(&error))?;
    let mut bytes = 0;
    loop {
        watch.check()?;
        let piece = content.next()?;
        if piece.is_empty() {
            break;
        }
        bytes += piece.len() as u64;
        sums.update(&piece);
        (request.pace)(piece.len() as u64)?;
        spooled.file.write_all(&piece).map_err(|error| failed(&error))?;
    }
    if bytes != facts.size {
        return Ok(Err(format!("of {key} {bytes} of {} bytes came", facts.size)));
    }
    if let Some((expected, seen)) = sums.broken() {
        return Ok(Err(format!("{key} is damaged: {expected} was expected, and it has {seen}")));
    }
    uploads.put_file(key, &spooled.path, replace, watch)?;
    Ok(Ok(bytes))
}

fn remove(
    uploads: &Uploads,
    theirs: &Listed,
    ours: &Listed,
    request: &CopyRequest<'_>,
    done: &mut ObjectsCopied,
    watch: &Watch,
) -> Result<()> {
    if (theirs.len() as f64) < request.keep_ratio_min * ours.len() as f64 {
        let told = format!("the source has {} objects, and the copy had {}", theirs.len(), ours.len());
        return Err(refused(told));
    }
    for key in ours.keys().filter(|key| !theirs.contains_key(*key)) {
        watch.check()?;
        uploads.remove(key)?;
        done.deleted += 1;
    }
    Ok(())
}

fn refused(why: String) -> Error {
    Error::new(ErrorKind::Unavailable, "remove from the copy what its source dropped")
        .because(why)
        .advise("nothing was removed: a broken source must not empty its copy; check the source first")
}
