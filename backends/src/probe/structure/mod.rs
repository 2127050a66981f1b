//! Dumps and archives: is each of them whole, without loading it into an engine?
//!
//! One probe per format, each of which examines the files whose *outermost* format is its own and
//! follows the content inwards: the `gzip` probe that reads `all.tar.gz` also reads the tar, and the SQL
//! dump in it. A file is therefore decoded once, and a finding carries the code of the layer that is
//! wrong (`gzip.truncated`, `sql_dump.truncated`), whichever probe met it.
//!
//! *Verified*: compressed streams decode to their end and their checksums fit; archives have all of
//! their members; SQL dumps carry their end marker and every `COPY` block ends; pg_dump archives hold
//! every data block of their table of contents; xbstream files hold every file to its end plus the
//! metadata that is written last; etcd snapshots fit their SHA-256 and their page tree can be walked; a
//! file whose name claims a dump is one. Against the last baseline: tables that vanished, rows that fell.
//!
//! *Not verified*: nothing is loaded into an engine here, so semantics (constraints, references, pages inside
//! a physical backup) stay unproven. Encrypted files are left alone when their name says so.
//!
//! Test data of programs (`node_modules/`, and `tests/` below what was backed up) holds broken archives on
//! purpose: there, a damaged container is noted and not filed, unless a dump was seen in it.
//!
//! | file | what lives there |
//! |---|---|
//! | `scan` | which files are whose, and how files are opened |
//! | `claim`, `sniff` | what a name promises, what content is |
//! | `context`, `input` | one examination, and bounded reading that tells damage from our own trouble |
//! | `inspect` | from content to the check of its format, layer by layer |
//! | `history` | baselines |
//! | the rest | one format each |

mod claim;
mod codec;
mod context;
pub(crate) mod etcd;
mod history;
mod input;
mod inspect;
mod pg;
mod scan;
mod sniff;
mod sql;
mod tar;
mod xbstream;
pub(crate) mod zip;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use firedrill_core::finding::Examination;
use firedrill_core::ports::Probe;
use firedrill_core::subject::Subject;

use crate::probe::bases::Named;
use crate::probe::engine::dumps::DumpKind;
use crate::probe::names::is_on_demand;
use context::Context;
use scan::{Scan, Scans};

/// A format that has a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Format {
    Gzip,
    Zstd,
    Xz,
    Tar,
    Zip,
    SqlDump,
    PgArchive,
    Xbstream,
    EtcdSnapshot,
}

impl Format {
    const ALL: [Self; 9] = [
        Self::Gzip,
        Self::Zstd,
        Self::Xz,
        Self::Tar,
        Self::Zip,
        Self::SqlDump,
        Self::PgArchive,
        Self::Xbstream,
        Self::EtcdSnapshot,
    ];

    /// Formats that only wrap other content.
    const CONTAINERS: [Self; 5] = [Self::Gzip, Self::Zstd, Self::Xz, Self::Tar, Self::Zip];

    /// The name of the probe, and the first part of its finding codes.
    fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Xz => "xz",
            Self::Tar => "tar",
            Self::Zip => "zip",
            Self::SqlDump => "sql_dump",
            Self::PgArchive => "pg_archive",
            Self::Xbstream => "xbstream",
            Self::EtcdSnapshot => "etcd_snapshot",
        }
    }

    /// What a person calls such content.
    fn title(self) -> &'static str {
        match self {
            Self::Gzip => "a gzip stream",
            Self::Zstd => "a zstd stream",
            Self::Xz => "an xz stream",
            Self::Tar => "a tar archive",
            Self::Zip => "a zip archive",
            Self::SqlDump => "an SQL dump",
            Self::PgArchive => "a pg_dump archive",
            Self::Xbstream => "an xbstream",
            Self::EtcdSnapshot => "an etcd snapshot",
        }
    }

    /// What stays unproven even when everything is in order.
    fn not_verified(self) -> &'static str {
        match self {
            Self::Gzip | Self::Zstd | Self::Xz => {
                "what the decompressed content means, beyond the formats that are recognised in it"
            }
            Self::Tar => "the content of members: tar has checksums for headers only",
            Self::Zip => "the content of entries beyond their checksum",
            Self::SqlDump => {
                "whether an engine takes the dumps: the probes `postgres` and `mariadb` load them"
            }
            Self::PgArchive => "whether an engine takes the archives: the probe `postgres` loads them",
            Self::Xbstream => {
                "the backups were not prepared or started: pages inside the files were not read"
            }
            Self::EtcdSnapshot => "the snapshots were not restored into an etcd",
        }
    }
}

pub(crate) use scan::open;
pub(crate) use sniff::HEAD;
pub(crate) use xbstream::Metadata as StreamMetadata;

/// The layer of compression that `head` is the beginning of, if it is one.
pub(crate) fn compression(head: &[u8]) -> Option<Format> {
    match sniff::sniff(head, false) {
        sniff::Content::Is(format @ (Format::Gzip | Format::Zstd | Format::Xz)) => Some(format),
        _ => None,
    }
}

/// The kind of dump that `head` is the beginning of, if an engine can load it. A bbolt file may be something
/// else than a snapshot of etcd; see [`is_etcd`].
pub(crate) fn dump_kind(path: &[u8], head: &[u8], whole: bool) -> Option<DumpKind> {
    use sniff::Content;
    match sniff::sniff(head, whole) {
        Content::Is(Format::SqlDump) => match sql::tool(head)? {
            sql::Tool::PgDump => Some(DumpKind::PostgresPlain),
            sql::Tool::PgDumpAll => Some(DumpKind::PostgresCluster),
            sql::Tool::Mysql => Some(DumpKind::MysqlSql),
            sql::Tool::Sqlite => None,
        },
        Content::Is(Format::PgArchive) => Some(DumpKind::PostgresArchive),
        // A tar archive by pg_dump begins with its table of contents.
        Content::Is(Format::Tar) if head.starts_with(b"toc.dat\0") => Some(DumpKind::PostgresArchive),
        Content::Is(Format::Xbstream) => Some(DumpKind::Xbstream),
        // k3s packs a snapshot as the only entry of a zip archive of the same name.
        Content::Is(Format::Zip) if names_etcd(path) || is_on_demand(path) => Some(DumpKind::EtcdSnapshot),
        Content::Is(Format::EtcdSnapshot) | Content::Bolt => Some(DumpKind::EtcdSnapshot),
        _ => None,
    }
}

fn names_etcd(path: &[u8]) -> bool {
    claim::Claim::of(Named::alone(path)).is_some_and(|claim| claim.layers.contains(&Format::EtcdSnapshot))
}

/// Whether the bbolt file (or zip archive of one) at `path` is a snapshot of etcd.
pub(crate) fn is_etcd(path: &[u8], file: &std::fs::File) -> std::io::Result<bool> {
    Ok(names_etcd(path) || is_on_demand(path) || etcd::is_etcd(Named::alone(path), file)?)
}

/// Reads an xbstream, below its layers of compression, to its end: what the structure probe files about it, and
/// its metadata if it could be followed.
pub(crate) fn read_stream(
    subject: &Subject,
    location: &str,
    reader: impl std::io::Read,
) -> (Examination, Option<StreamMetadata>) {
    let context = Context::new(subject, Format::Xbstream);
    let item = inspect::Item { location: location.to_owned(), name: location.as_bytes().to_vec(), lead: 0 };
    let mut input = input::Input::part(&context, reader, location);
    // An error is on record in the context.
    let metadata = xbstream::read(&context, &item, &mut input).unwrap_or_default();
    drop(input);
    (context.finish(), metadata)
}

/// Examines the files of one format.
pub struct StructureProbe {
    format: Format,
    scans: Arc<Scans>,
}

/// One probe per format. They share one pass over the beginnings of all files.
pub fn all() -> Vec<Box<dyn Probe>> {
    let scans = Arc::new(Scans::default());
    let probe = |format| Box::new(StructureProbe { format, scans: Arc::clone(&scans) }) as Box<dyn Probe>;
    Format::ALL.into_iter().map(probe).collect()
}

impl Probe for StructureProbe {
    fn name(&self) -> &'static str {
        self.format.name()
    }

    fn recognises(&self, subject: &Subject) -> bool {
        let scan = self.scans.of(subject, self.format, scan::Use::Recognise);
        scan.concerns(self.format)
    }

    fn examine(&self, subject: &Subject) -> Examination {
        let scan = self.scans.of(subject, self.format, scan::Use::Examine);
        let context = Context::new(subject, self.format);
        self.examine_files(subject, &scan, &context);
        history::compare(&context, subject);
        context.finish()
    }
}

impl StructureProbe {
    fn examine_files(&self, subject: &Subject, scan: &Scan, context: &Context<'_>) {
        if let Some(reason) = &scan.broken {
            context.interrupt(reason.clone());
        }
        for (path, reason) in &scan.unreadable {
            context.interrupt(format!("failed to read {path}: {reason}"));
        }
        for &index in scan.files_of(self.format) {
            if let Err(error) = subject.watch.check() {
                context.interrupt(error.chain());
                return;
            }
            if let Some(entry) = subject.manifest.entries().get(index) {
                let lead = scan.bases.name(&entry.path).lead;
                inspect::file(context, subject, entry, lead);
            }
        }
    }
}
