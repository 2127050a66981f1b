//! Groups of small fleets: what fits together is green, and what does not is found.

use firedrill_core::config::trials::InvariantConfig;
use firedrill_core::config::units::Span;
use firedrill_core::finding::{Class, Examination};
use firedrill_core::plan::{Part, Selection};
use firedrill_core::ports::Probe as _;
use firedrill_core::snapshot::{Series, Snapshot};
use md5::{Digest as _, Md5};

use super::GroupProbe;
use crate::probe::fleet::{Fleet, Tree, assert_found, assert_green, at};

/// Documents by file name and content, and the rows about them: id, file name, archive name, MD5.
struct Paperless {
    files: Vec<(&'static str, &'static str)>,
    rows: Vec<(&'static str, &'static str)>,
}

impl Paperless {
    fn healthy() -> Self {
        let all = vec![("0001.pdf", "an invoice"), ("2024/0002.pdf", "a letter"), ("0003.pdf", "a contract")];
        Self { files: all.clone(), rows: all }
    }

    fn database(&self) -> Vec<u8> {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("db");
        let db = rusqlite::Connection::open(&path).unwrap();
        db.execute_batch("CREATE TABLE documents_document (id INTEGER PRIMARY KEY, filename TEXT, archive_filename TEXT, checksum TEXT)")
            .unwrap();
        for (name, content) in &self.rows {
            let digest = hex::encode(Md5::digest(content));
            db.execute(
                "INSERT INTO documents_document (filename, checksum) VALUES (?1, ?2)",
                [*name, &digest],
            )
            .unwrap();
        }
        drop(db);
        std::fs::read(path).unwrap()
    }

    /// Both parts, each as it would be in a folder of its own.
    fn fleet(&self, database: Vec<u8>) -> Fleet {
        let mut tree = Tree::default();
        tree.write("db/srv/paperless/db.sqlite3", database, at(1, 0.0));
        tree.folder("media/srv/media/documents/originals", at(1, 0.0));
        for (name, content) in &self.files {
            tree.write(&format!("media/srv/media/documents/originals/{name}"), *content, at(1, 0.0));
        }
        let mut fleet = Fleet::new("paperless");
        let whole = fleet.backup(at(2, 0.0), &tree).clone();
        let part = |target: &str, path: &str, hour: f64| Part {
            target: target.to_owned(),
            series: Series::Tag(target.to_owned()),
            selection: Selection::Snapshot(Snapshot {
                time: at(2, hour),
                paths: vec![path.into()],
                ..whole.clone()
            }),
        };
        fleet.drill.parts = vec![part("db", "/srv/paperless", 0.0), part("media", "/srv/media", 0.1)];
        fleet
    }

    fn examine(&self, invariant: InvariantConfig) -> Examination {
        let mut fleet = self.fleet(self.database());
        fleet.drill.trials.invariants = vec![invariant];
        examine(&fleet)
    }
}

fn examine(fleet: &Fleet) -> Examination {
    let case = fleet.case();
    assert!(GroupProbe.recognises(&case.subject));
    let examination = GroupProbe.examine(&case.subject);
    assert_eq!(std::fs::read_dir(&case.subject.work).unwrap().count(), 0, "a copy was left behind");
    examination
}

fn invariant(keys: &str) -> InvariantConfig {
    let base = r#""name": "originals",
        "query": {"sqlite": "db/db.sqlite3", "sql": "SELECT filename, checksum, archive_filename FROM documents_document"},
        "file": "media/documents/originals/{1}""#;
    serde_json::from_str(&format!("{{{base}{keys}}}")).unwrap()
}

fn whole() -> InvariantConfig {
    invariant(r#", "md5": "{2}", "only": "media/documents/originals""#)
}

#[track_caller]
fn assert_interrupted(examination: &Examination, why: &str) {
    let reason = examination.interrupted.as_deref().unwrap_or_default();
    assert!(reason.contains(why), "{reason:?}");
}

#[test]
fn what_fits_together_is_green() {
    let good = Paperless::healthy().examine(whole());
    assert_green(&good);
    assert_eq!(good.checked, 2 + 3 + 3, "parts, rows, and files of the folder");
    assert!(good.notes.iter().any(|note| note.contains("6m")), "the distance in time: {:?}", good.notes);
}

#[test]
fn every_row_needs_its_file_with_its_content() {
    let mut lost = Paperless::healthy();
    lost.files.remove(1);
    let bad = lost.examine(whole());
    assert_found(&bad, "group.invariant", Class::Damage);
    assert_eq!(bad.findings[0].seen, "rows without a file: 1: media/documents/originals/2024/0002.pdf");
    let mut swapped = Paperless::healthy();
    swapped.files[0].1 = "another invoice";
    let bad = swapped.examine(whole());
    assert_found(&bad, "group.invariant", Class::Damage);
    assert!(bad.findings[0].seen.starts_with("files that are different: 1: "), "{:?}", bad.findings);
    assert_green(&swapped.examine(invariant("")));
    let sha256 = invariant(r#", "sha256": "{2}""#);
    assert_found(&Paperless::healthy().examine(sha256), "group.invariant", Class::Damage);
}

#[test]
fn a_file_without_a_row_is_told_where_that_is_asked_for() {
    let mut more = Paperless::healthy();
    more.rows.pop();
    let bad = more.examine(whole());
    assert_found(&bad, "group.invariant", Class::Anomaly);
    assert!(bad.findings[0].seen.ends_with("originals/0003.pdf"), "{:?}", bad.findings);
    assert_green(&more.examine(invariant(r#", "md5": "{2}""#)));
}

#[test]
fn nothing_to_compare_is_not_green() {
    let empty = Paperless { files: vec![], rows: vec![] };
    assert_found(&empty.examine(whole()), "group.invariant", Class::Damage);
    let rows_min = Paperless::healthy().examine(invariant(r#", "rows_min": 4"#));
    assert_found(&rows_min, "group.invariant", Class::Damage);
    let mut archive = invariant("");
    archive.file = "media/documents/archive/{3}".into();
    assert_interrupted(&Paperless::healthy().examine(archive), "no row names a file");
    assert_interrupted(&Paperless::healthy().examine(invariant(r#", "md5": "{7}""#)), "has 3 columns");
}

#[test]
fn a_database_that_cannot_be_asked_is_told() {
    let healthy = Paperless::healthy();
    let with = |database: Vec<u8>, invariant: InvariantConfig| {
        let mut fleet = healthy.fleet(database);
        fleet.drill.trials.invariants = vec![invariant];
        examine(&fleet)
    };
    assert_found(&with(b"no database".to_vec(), whole()), "group.invariant", Class::Damage);
    let whole_file = healthy.database();
    // SQLite takes what is missing for zeros; that the file is cut is for the probe of databases to find.
    assert_interrupted(&with(whole_file[..5000].to_vec(), whole()), "no row names a file");
    let mut other = whole();
    other.query.sql = "SELECT filename, checksum FROM documents".into();
    assert_found(&with(whole_file.clone(), other.clone()), "group.invariant", Class::Damage);
    other.query.sql = "DELETE FROM documents_document".into();
    assert_interrupted(&with(whole_file.clone(), other.clone()), "SELECT");
    other.query.sql =
        "WITH RECURSIVE n(a) AS (SELECT 1 UNION ALL SELECT a + 1 FROM n) SELECT a, a FROM n".into();
    let mut fleet = healthy.fleet(whole_file);
    fleet.drill.probes.sqlite.statement_timeout = Span(std::time::Duration::from_millis(300));
    fleet.drill.trials.invariants = vec![other];
    assert_interrupted(&examine(&fleet), "took longer");
}

#[test]
fn what_a_hostile_row_says_leads_nowhere() {
    let mut hostile = Paperless::healthy();
    hostile.rows =
        vec![("../../../../../etc/passwd", ""), ("/etc/passwd", ""), ("a\u{1b}[31m\n", ""), ("", "")];
    let bad = hostile.examine(invariant(r#", "md5": "{2}""#));
    assert_found(&bad, "group.invariant", Class::Damage);
    assert!(bad.findings[0].seen.starts_with("rows without a file: 4"), "{:?}", bad.findings);
    assert!(!bad.findings[0].seen.contains('\u{1b}'));
}

#[test]
fn parts_that_are_missing_or_far_apart_are_told() {
    let healthy = Paperless::healthy();
    let mut fleet = healthy.fleet(healthy.database());
    fleet.drill.trials.max_skew = Some(Span(std::time::Duration::from_secs(600)));
    assert_green(&examine(&fleet));
    fleet.drill.trials.max_skew = Some(Span(std::time::Duration::from_secs(60)));
    let bad = examine(&fleet);
    assert_found(&bad, "group.skew", Class::Anomaly);
    assert!(
        bad.findings[0].seen.contains("from db at 2026-01-02T00:00:00Z to media at"),
        "{:?}",
        bad.findings
    );
    fleet.drill.parts[1].selection = Selection::Missing;
    let bad = examine(&fleet);
    assert_found(&bad, "group.part", Class::Damage);
    assert_eq!(bad.findings[0].location, "media");
    fleet.drill.parts[1].selection = Selection::Unknown;
    assert_interrupted(&examine(&fleet), "media");
}

#[test]
fn a_target_alone_can_have_invariants_too() {
    let healthy = Paperless::healthy();
    let mut tree = Tree::default();
    tree.write("data/db.sqlite3", healthy.database(), at(1, 0.0));
    for (name, content) in &healthy.files {
        tree.write(&format!("data/originals/{name}"), *content, at(1, 0.0));
    }
    let mut fleet = Fleet::new("paperless");
    fleet.backup(at(2, 0.0), &tree);
    let mut own = invariant(r#", "md5": "{2}""#);
    own.query.sqlite = Some("/data/db.sqlite3".into());
    own.file = "originals/{1}".into();
    fleet.drill.trials.invariants = vec![own];
    assert_green(&examine(&fleet));
}
