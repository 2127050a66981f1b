//! What the name of a file promises about its content.

use super::Format;
use crate::probe::bases::{self, Named};

/// Folders of programs and their tests, in which nothing is a backup of its own: below what was backed up,
/// besides those that only programs have.
const SOURCE_FOLDERS: &[&str] = &[
    "vendor",
    "fixtures",
    "migrations",
    "migration",
    "src",
    "tests",
    "share",
    "extension",
    "doc",
    // k3s keeps a small JSON file here for each snapshot, under the snapshot's name.
    ".metadata",
];

/// Whether `name` lies among the test data of a program, where broken archives are kept on purpose.
pub(super) fn is_test_data(name: Named<'_>) -> bool {
    let mut above: &[u8] = b"";
    // Python brings its own tests along, in `lib/python3.11/test`.
    let pythons = bases::folders(name.path).any(|folder| {
        let parent = std::mem::replace(&mut above, folder);
        folder.eq_ignore_ascii_case(b"test") && parent.to_ascii_lowercase().starts_with(b"python")
    });
    pythons || name.is_programs(&["fixtures", "tests"])
}

/// What a name promises.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    /// The formats, outermost first; never empty.
    pub(super) layers: Vec<Format>,
    /// Whether the name clearly claims a dump or a backup archive, so that anything else in the file is
    /// a finding.
    pub(super) dump: bool,
    /// Whether the name ends in `.part`: a save that was never finished.
    pub(super) partial: bool,
}

impl Claim {
    /// The outermost format.
    pub(super) fn outer(&self) -> Option<Format> {
        self.layers.first().copied()
    }

    /// What `name` promises, if it promises anything.
    pub(super) fn of(name: Named<'_>) -> Option<Self> {
        if name.is_programs(SOURCE_FOLDERS) {
            return None;
        }
        let path = String::from_utf8_lossy(name.path).to_ascii_lowercase();
        let name = path.rsplit('/').next().unwrap_or(&path);
        let (name, partial) = name.strip_suffix(".part").map_or((name, false), |rest| (rest, true));
        let mut layers = Vec::new();
        peel(name, &mut layers);
        if layers.is_empty() {
            return None;
        }
        let inner = layers.last().copied();
        let compressed_tar = layers.len() > 1 && inner == Some(Format::Tar);
        let dump = compressed_tar
            || matches!(
                inner,
                Some(Format::SqlDump | Format::PgArchive | Format::Xbstream | Format::EtcdSnapshot)
            );
        // Downloads and the like leave `.part` files too; only a dump promises anything by them.
        (dump || !partial).then_some(Self { layers, dump, partial })
    }
}

/// The name without the ending of its outermost layer: what a decoder would call its output.
pub(super) fn inner_name(path: &[u8]) -> Vec<u8> {
    let lower = path.to_ascii_lowercase();
    for (ending, instead) in
        [(&b".tgz"[..], &b".tar"[..]), (b".txz", b".tar"), (b".tzst", b".tar"), (b".zip", b"")]
    {
        if let Some(stem) = lower.strip_suffix(ending) {
            return [path.get(..stem.len()).unwrap_or_default(), instead].concat();
        }
    }
    for ending in [&b".gz"[..], b".gzip", b".zst", b".zstd", b".xz"] {
        if let Some(stem) = lower.strip_suffix(ending) {
            return path.get(..stem.len()).unwrap_or_default().to_vec();
        }
    }
    path.to_vec()
}

/// Whether the name says that data is left out on purpose, as `schema.sql` does.
pub(super) fn names_a_schema(path: &[u8]) -> bool {
    let path = String::from_utf8_lossy(path).to_ascii_lowercase();
    let base = path.rsplit('/').next().unwrap_or_default();
    ["schema", "structure", "ddl"].iter().any(|word| base.contains(word))
}

fn peel(name: &str, layers: &mut Vec<Format>) {
    let mut name = name;
    // Names are short and each round shortens them, but a hostile one could be all endings.
    for _ in 0..4 {
        let Some((stem, ending)) = name.rsplit_once('.') else { break };
        match ending {
            "gz" | "gzip" => layers.push(Format::Gzip),
            "zst" | "zstd" => layers.push(Format::Zstd),
            "xz" => layers.push(Format::Xz),
            "zip" => layers.push(Format::Zip),
            "tgz" => return layers.extend([Format::Gzip, Format::Tar]),
            "tzst" => return layers.extend([Format::Zstd, Format::Tar]),
            "txz" => return layers.extend([Format::Xz, Format::Tar]),
            "tar" => return layers.push(Format::Tar),
            "sql" => return layers.push(Format::SqlDump),
            "dump" | "pgdump" | "pg_dump" | "pgc" => return layers.push(Format::PgArchive),
            "xb" | "xbstream" | "mbstream" => return layers.push(Format::Xbstream),
            _ => break,
        }
        name = stem;
    }
    if name.contains("etcd") && name.contains("snapshot") && is_snapshot_ending(name) {
        layers.push(Format::EtcdSnapshot);
    }
}

/// `.db` and its like, or the seconds since 1970 that k3s appends: not the scripts and units around it.
fn is_snapshot_ending(name: &str) -> bool {
    let digits = name.bytes().rev().take_while(u8::is_ascii_digit).count();
    digits >= 8 || [".db", ".snap", ".bolt"].iter().any(|ending| name.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &str) -> Option<Claim> {
        Claim::of(Named::alone(path.as_bytes()))
    }

    fn layers(path: &str) -> Vec<Format> {
        of(path).map(|claim| claim.layers).unwrap_or_default()
    }

    #[test]
    fn names_promise_layers() {
        assert_eq!(layers("var/dump.sql"), [Format::SqlDump]);
        assert_eq!(layers("var/Dump.SQL.GZ"), [Format::Gzip, Format::SqlDump]);
        assert_eq!(layers("all.tgz"), [Format::Gzip, Format::Tar]);
        assert_eq!(layers("all.tar.zst"), [Format::Zstd, Format::Tar]);
        assert_eq!(layers("etcd-snapshot-node1-1700000000"), [Format::EtcdSnapshot]);
        assert_eq!(layers("etcd-snapshot-node1-1700000000.zip"), [Format::Zip, Format::EtcdSnapshot]);
        assert_eq!(layers("etcd-snapshot.sh"), []);
        assert_eq!(layers("bin/etcd-snapshot"), []);
        assert_eq!(layers("db/snapshots/.metadata/etcd-snapshot-node1-1700000000"), []);
        assert_eq!(layers("photo.jpg"), []);
    }

    #[test]
    fn only_clear_names_claim_a_dump() {
        let dump = |path: &str| of(path).is_some_and(|claim| claim.dump);
        assert!(dump("a.sql") && dump("a.sql.zst") && dump("a.tgz") && dump("a.xb") && dump("a.dump"));
        assert!(!dump("a.log.gz") && !dump("a.zip") && !dump("a.tar") && !dump("movie.mkv"));
        assert!(!dump("app/node_modules/x/a.sql") && !dump("srv/app/migrations/0001.sql"));
        assert!(dump("srv/share/a.sql") && dump("home/somebody/src/a.sql") && !dump("srv/app/share/a.sql"));
        assert!(!dump("movie.mkv.part") && of("etcd-snapshot-a.db.part").is_some_and(|c| c.partial));
    }

    #[test]
    fn a_decoder_drops_its_own_ending() {
        assert_eq!(inner_name(b"a/x.sql.gz"), b"a/x.sql");
        assert_eq!(inner_name(b"a/x.tgz"), b"a/x.tar");
        assert_eq!(inner_name(b"a/x"), b"a/x");
    }
}
