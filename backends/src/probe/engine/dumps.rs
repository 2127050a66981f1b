//! Which restored files are dumps, which of them are loaded, and how their content is read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use firedrill_core::manifest::Entry;
use firedrill_core::subject::Subject;
use firedrill_core::watch::Watch;
use jiff::Timestamp;

use crate::probe::bases::Bases;
use crate::probe::names;
use crate::probe::structure::{self, Format};

/// How many layers of compression are peeled off.
const LAYERS_MAX: usize = 3;
/// At most this many bytes are decompressed of one dump.
const DECODED_MAX: u64 = 1 << 42;
/// Memory for the dictionary of one xz decoder.
const XZ_MEMORY_MAX: u64 = 256 << 20;
/// Window of one zstd decoder, as a power of two.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// What a dump is, below its layers of compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum DumpKind {
    /// Plain SQL of one database, by pg_dump.
    PostgresPlain,
    /// Plain SQL of a whole cluster, or of its roles, by pg_dumpall.
    PostgresCluster,
    /// A custom archive, a tar archive or the table of contents of a directory, by pg_dump.
    PostgresArchive,
    /// Plain SQL by mariadb-dump or mysqldump.
    MysqlSql,
    /// A physical backup of MariaDB as a stream.
    Xbstream,
    /// A snapshot of etcd.
    EtcdSnapshot,
}

/// One dump among the restored files.
#[derive(Clone, Debug)]
pub(crate) struct Dump {
    /// Its path in the snapshot.
    pub(crate) path: Vec<u8>,
    /// The path for people.
    pub(crate) location: String,
    /// Layers of compression, outermost first.
    pub(crate) layers: Vec<Format>,
    /// What is in them.
    pub(crate) kind: DumpKind,
    /// When it was last written, as recorded in the snapshot.
    pub(crate) mtime: Option<Timestamp>,
}

impl Dump {
    /// What the file that a person names holds. Where its beginning does not say what it is, it is `otherwise`.
    pub(crate) fn named(subject: &Subject, entry: &Entry, otherwise: DumpKind) -> io::Result<Option<Self>> {
        recognise(subject, entry, Some(otherwise))
    }

    /// Its content without layers of compression. Asks `watch`, and ends with an error at [`DECODED_MAX`].
    ///
    /// An error of the returned reader is damage of the dump unless [`is_own_trouble`] says otherwise.
    pub(crate) fn read(&self, subject: &Subject) -> io::Result<Box<dyn Read + Send>> {
        peel(Box::new(self.source(subject)?), &self.layers)
    }

    /// The file itself, layers and all, as a reader that asks `watch` and marks what is our own trouble.
    pub(crate) fn source(&self, subject: &Subject) -> io::Result<Source> {
        Ok(Source { file: self.file(subject)?, watch: subject.watch.clone() })
    }

    /// The file itself, layers and all.
    pub(crate) fn file(&self, subject: &Subject) -> io::Result<File> {
        structure::open(&subject.root, &self.path)
            .map_err(own)?
            .ok_or_else(|| own(io::Error::new(io::ErrorKind::NotFound, "it is not there as a regular file")))
    }
}

/// The dumps in a subject.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dumps {
    /// Those that are loaded: of the generations of one dump the newest.
    pub(crate) chosen: Vec<Dump>,
    /// Older generations, which are not loaded, by the location of the newest.
    pub(crate) older: BTreeMap<String, u64>,
    /// What could not be looked at, for people.
    pub(crate) unreadable: Vec<String>,
}

impl Dumps {
    /// Looks at the beginning of each file. Only dumps of these kinds are kept.
    pub(crate) fn of(subject: &Subject, kinds: &[DumpKind]) -> Self {
        let mut found = Vec::new();
        let mut dumps = Self::default();
        // Programs bring dumps along to test themselves with.
        let bases = Bases::of(&subject.manifest, &subject.snapshot.paths);
        for entry in subject.manifest.entries().iter().filter(|entry| entry.is_file() && entry.size > 0) {
            if let Err(error) = subject.watch.check() {
                dumps.unreadable.push(error.chain());
                break;
            }
            match recognise(subject, entry, None) {
                Ok(Some(dump)) if kinds.contains(&dump.kind) && !bases.name(&dump.path).is_programs(&[]) => {
                    found.push(dump);
                }
                Ok(_) => {}
                Err(error) if dumps.unreadable.len() < 20 => {
                    dumps.unreadable.push(format!("failed to read {}: {error}", entry.display()));
                }
                Err(_) => {}
            }
        }
        dumps.choose(found);
        dumps
    }

    fn choose(&mut self, found: Vec<Dump>) {
        let mut newest = BTreeMap::<(String, DumpKind), Vec<Dump>>::new();
        for dump in found {
            // Only names with a date are generations: `a1.sql` and `a2.sql` may be two databases.
            let path = String::from_utf8_lossy(&dump.path).into_owned();
            let key = if names::is_dated(&path) { names::loose(&path) } else { path };
            newest.entry((key, dump.kind)).or_default().push(dump);
        }
        for (_, mut generations) in newest {
            generations.sort_by(|a, b| (a.mtime, &a.path).cmp(&(b.mtime, &b.path)));
            let Some(latest) = generations.pop() else { continue };
            if !generations.is_empty() {
                self.older.insert(latest.location.clone(), generations.len() as u64);
            }
            self.chosen.push(latest);
        }
    }
}

/// An error that says nothing about the dump: the file could not be read, or we had to stop.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct OwnTrouble(String);

fn own(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), OwnTrouble(error.to_string()))
}

/// Whether an error of a dump's reader says nothing about the dump. Decoders wrap what they get from beneath.
pub(crate) fn is_own_trouble(error: &io::Error) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = error.get_ref().map(|e| e as _);
    while let Some(error) = next {
        if error.is::<OwnTrouble>() {
            return true;
        }
        next = match error.downcast_ref::<io::Error>() {
            Some(inner) => inner.get_ref().map(|e| e as _),
            None => error.source(),
        };
    }
    false
}

/// The restored file, read as long as the watch allows.
pub(crate) struct Source {
    file: File,
    watch: Watch,
}

impl Source {
    /// A file that is read as long as `watch` allows.
    pub(crate) fn new(file: File, watch: Watch) -> Self {
        Self { file, watch }
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn into_file(self) -> File {
        self.file
    }
}

impl Read for Source {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        // An `Interrupted` error would be tried again for ever.
        self.watch.check().map_err(|e| io::Error::other(OwnTrouble(e.chain())))?;
        self.file.read(into).map_err(|e| if e.kind() == io::ErrorKind::Interrupted { e } else { own(e) })
    }
}

impl Seek for Source {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        // A seek to before the beginning is what a damaged archive asks for, not what a disk does.
        self.file.seek(to)
    }
}

/// Ends a stream that grows beyond all measure.
struct Bounded {
    reader: Box<dyn Read + Send>,
    left: u64,
}

impl Read for Bounded {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.reader.read(into)?;
        self.left = self.left.checked_sub(n as u64).ok_or_else(|| {
            io::Error::other(OwnTrouble(format!("it grows beyond {DECODED_MAX} bytes when decompressed")))
        })?;
        Ok(n)
    }
}

/// The layers of compression around what `open` opens, outermost first. Damage ends them where it stands.
pub(crate) fn layers(open: &dyn Fn() -> io::Result<Source>) -> io::Result<Vec<Format>> {
    let mut layers = Vec::new();
    loop {
        let mut head = Vec::new();
        let inside = peel(Box::new(open()?), &layers)?;
        match inside.take(structure::HEAD as u64).read_to_end(&mut head) {
            Err(error) if is_own_trouble(&error) => return Err(error),
            Ok(_) | Err(_) => {}
        }
        match structure::compression(&head).filter(|_| layers.len() < LAYERS_MAX) {
            Some(layer) => layers.push(layer),
            None => return Ok(layers),
        }
    }
}

/// What `source` holds below `layers`.
pub(crate) fn peel(source: Box<dyn Read + Send>, layers: &[Format]) -> io::Result<Box<dyn Read + Send>> {
    let mut reader = source;
    for layer in layers {
        let buffered = BufReader::with_capacity(256 << 10, reader);
        reader = match layer {
            Format::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(buffered)),
            Format::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(buffered)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                Box::new(decoder)
            }
            Format::Xz => {
                use liblzma::stream::{CONCATENATED, Stream};
                let stream = Stream::new_stream_decoder(XZ_MEMORY_MAX, CONCATENATED)?;
                Box::new(liblzma::bufread::XzDecoder::new_stream(buffered, stream))
            }
            Format::Tar
            | Format::Zip
            | Format::SqlDump
            | Format::PgArchive
            | Format::Xbstream
            | Format::EtcdSnapshot => {
                return Err(io::Error::other(OwnTrouble("it is no layer of compression".to_owned())));
            }
        };
    }
    if !layers.is_empty() {
        reader = Box::new(Bounded { reader, left: DECODED_MAX });
    }
    Ok(reader)
}

/// What `entry` is. Damage of the beginning makes it nothing that can be loaded; the structure probes tell of it.
/// Otherwise it is `otherwise`.
fn recognise(subject: &Subject, entry: &Entry, otherwise: Option<DumpKind>) -> io::Result<Option<Dump>> {
    let Some(mut file) = structure::open(&subject.root, &entry.path)? else { return Ok(None) };
    let mut head = Vec::new();
    (&mut file).take(structure::HEAD as u64).read_to_end(&mut head)?;
    let mut layers = Vec::new();
    let kind = loop {
        let whole = head.len() < structure::HEAD;
        if let Some(kind) = structure::dump_kind(&entry.path, &head, whole) {
            break kind;
        }
        let Some(layer) = structure::compression(&head).filter(|_| layers.len() < LAYERS_MAX) else {
            match otherwise {
                Some(kind) => break kind,
                None => return Ok(None),
            }
        };
        layers.push(layer);
        let again = structure::open(&subject.root, &entry.path)?;
        let Some(again) = again else { return Ok(None) };
        head.clear();
        let source = Source { file: again, watch: subject.watch.clone() };
        let Ok(inside) = peel(Box::new(source), &layers) else {
            match otherwise {
                Some(kind) => break kind,
                None => return Ok(None),
            }
        };
        match inside.take(structure::HEAD as u64).read_to_end(&mut head) {
            Err(error) if is_own_trouble(&error) => return Err(error),
            // Cut or damaged, and perhaps still recognisable.
            Ok(_) | Err(_) => {}
        }
    };
    if kind == DumpKind::EtcdSnapshot && layers.is_empty() && !structure::is_etcd(&entry.path, &file)? {
        return Ok(None);
    }
    Ok(Some(Dump { path: entry.path.clone(), location: entry.display(), layers, kind, mtime: entry.mtime }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::fleet::{Fleet, Tree, at};
    use std::io::Write as _;

    const PLAIN: &[u8] = b"--\n-- PostgreSQL database dump\n--\n\nSELECT 1;\n";

    fn gz(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn case(files: &[(&str, Vec<u8>)]) -> crate::probe::fleet::Case {
        let mut tree = Tree::default();
        for (n, (path, content)) in files.iter().enumerate() {
            tree.write(path, content.clone(), at(1, n as f64));
        }
        let mut fleet = Fleet::new("t");
        fleet.backup(at(2, 0.0), &tree);
        fleet.case()
    }

    #[test]
    fn layers_are_peeled_and_the_newest_generation_is_chosen() {
        let case = case(&[
            ("d/shop-20260101.sql.gz", gz(PLAIN)),
            ("d/shop-20260102.sql.gz", gz(PLAIN)),
            ("d/all.sql.gz.gz", gz(&gz(b"--\n-- PostgreSQL database cluster dump\n--\n"))),
            ("d/m.xb", b"XBSTCK01rest".to_vec()),
            ("d/notes.txt", b"-- nothing".to_vec()),
        ]);
        let kinds = [DumpKind::PostgresPlain, DumpKind::PostgresCluster];
        let dumps = Dumps::of(&case.subject, &kinds);
        let seen: Vec<_> =
            dumps.chosen.iter().map(|d| (d.location.as_str(), d.kind, d.layers.len())).collect();
        assert_eq!(
            seen,
            [
                ("d/all.sql.gz.gz", DumpKind::PostgresCluster, 2),
                ("d/shop-20260102.sql.gz", DumpKind::PostgresPlain, 1),
            ]
        );
        assert_eq!(dumps.older.values().copied().collect::<Vec<_>>(), [1]);
        let mut text = Vec::new();
        dumps.chosen[1].read(&case.subject).unwrap().read_to_end(&mut text).unwrap();
        assert_eq!(text, PLAIN);
        assert_eq!(Dumps::of(&case.subject, &[DumpKind::Xbstream]).chosen.len(), 1);
    }

    #[test]
    fn a_stop_is_our_trouble_and_a_cut_stream_is_not() {
        let big: Vec<u8> = [PLAIN, &crate::probe::fleet::noise(1, 100_000)].concat();
        let whole = gz(&big);
        let case = case(&[("a.sql.gz", whole[..whole.len() - 9].to_vec())]);
        let dumps = Dumps::of(&case.subject, &[DumpKind::PostgresPlain]);
        let mut reader = dumps.chosen[0].read(&case.subject).unwrap();
        let error = io::copy(&mut reader, &mut io::sink()).unwrap_err();
        assert!(!is_own_trouble(&error), "{error}");
        let mut reader = dumps.chosen[0].read(&case.subject).unwrap();
        case.subject.watch.stop();
        let error = io::copy(&mut reader, &mut io::sink()).unwrap_err();
        assert!(is_own_trouble(&error), "{error}");
    }
}
