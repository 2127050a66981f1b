//! Invariants about databases of PostgreSQL and MariaDB, in each runtime.

use std::sync::Arc;

use firedrill_core::cell::Runtime;
use firedrill_core::config::trials::InvariantConfig;
use firedrill_core::event::Phase;
use firedrill_core::finding::{Class, Examination};
use firedrill_core::plan::{Part, Selection};
use firedrill_core::ports::Probe as _;
use firedrill_core::snapshot::{Series, Snapshot};
use md5::{Digest as _, Md5};

use super::GroupProbe;
use crate::probe::fleet::{Fleet, Tree, assert_found, at};
use crate::probe::made::{MARIADB, POSTGRES, assert_good, mariadb_dump, pg_dump, runtimes};

const FILES: [(&str, &str); 3] =
    [("0001.pdf", "an invoice"), ("2024/0002.pdf", "a letter"), ("0003.pdf", "a contract")];

/// Rows about the files, and one that has none. A text `NULL` is a name like any other.
fn sql() -> String {
    let rows = FILES.map(|(name, content)| format!("('{name}', '{}')", hex::encode(Md5::digest(content))));
    format!(
        "CREATE TABLE documents (filename varchar(100), checksum char(32));\n\
         INSERT INTO documents VALUES {}, (NULL, NULL);",
        rows.join(", ")
    )
}

/// The parts of a group: a dump, and the files.
fn fleet(dump: &[u8], files: &[(&str, &str)]) -> Fleet {
    let mut tree = Tree::default();
    tree.write("db/backup/paperless.sql", dump, at(1, 0.0));
    tree.folder("media/srv/media/originals", at(1, 0.0));
    for (name, content) in files {
        tree.write(&format!("media/srv/media/originals/{name}"), *content, at(1, 0.0));
    }
    let mut fleet = Fleet::new("paperless");
    let whole = fleet.backup(at(2, 0.0), &tree).clone();
    let part = |target: &str, path: &str| Part {
        target: target.to_owned(),
        series: Series::Tag(target.to_owned()),
        selection: Selection::Snapshot(Snapshot { paths: vec![path.into()], ..whole.clone() }),
    };
    fleet.drill.parts = vec![part("db", "/backup"), part("media", "/srv/media")];
    fleet
}

fn invariant(engine: &str) -> InvariantConfig {
    serde_json::from_value(serde_json::json!({
        "name": "originals",
        "query": {engine: "db/paperless.sql", "sql": "SELECT filename, checksum FROM documents"},
        "file": "media/originals/{1}",
        "md5": "{2}",
        "only": "media/originals",
    }))
    .unwrap()
}

fn examine(
    runtime: &Arc<dyn Runtime>,
    dump: &[u8],
    files: &[(&str, &str)],
    invariants: Vec<InvariantConfig>,
) -> Examination {
    let tokio = tokio::runtime::Runtime::new().unwrap();
    let _inside = tokio.enter();
    let mut fleet = fleet(dump, files);
    fleet.drill.trials.invariants = invariants;
    let mut case = fleet.case();
    case.subject.runtime = Some(Arc::clone(runtime));
    let examination = GroupProbe.examine(&case.subject);
    assert_eq!(std::fs::read_dir(&case.subject.work).unwrap().count(), 0, "a cell was left behind");
    examination
}

#[track_caller]
fn assert_interrupted(examination: &Examination, why: &str) {
    let reason = examination.interrupted.as_deref().unwrap_or_default();
    assert!(reason.contains(why), "{reason:?} {:#?}", examination.findings);
}

fn try_everything(runtime: &Arc<dyn Runtime>, engine: &str, dump: &str) {
    let whole = || vec![invariant(engine)];
    let good = examine(runtime, dump.as_bytes(), &FILES, whole());
    assert_good(&good);
    assert_eq!(good.checked, 2 + 3 + 3, "parts, rows, and files of the folder");
    assert!(good.notes.iter().any(|note| note.contains("3 of 4 rows have a file")), "{:?}", good.notes);
    let facts = good.engine.unwrap();
    assert_eq!(facts.phases.keys().collect::<Vec<_>>(), [&Phase::Verify], "no recovery waits for it");

    let bad = examine(runtime, dump.as_bytes(), &FILES[..2], whole());
    assert_found(&bad, "group.invariant", Class::Damage);
    assert_eq!(bad.findings.last().unwrap().seen, "rows without a file: 1: media/originals/0003.pdf");
    let mut swapped = FILES;
    swapped[0].1 = "another invoice";
    let bad = examine(runtime, dump.as_bytes(), &swapped, whole());
    assert_found(&bad, "group.invariant", Class::Damage);

    // A name that is the word for nothing, and a file that nobody knows any more.
    let named = dump.replace("0003.pdf", "NULL");
    let files = [FILES[0], FILES[1], ("NULL", "a contract")];
    assert_good(&examine(runtime, named.as_bytes(), &files, whole()));
    let bad = examine(runtime, named.as_bytes(), &FILES, whole());
    assert_found(&bad, "group.invariant", Class::Damage);
    assert_found(&bad, "group.invariant", Class::Anomaly);

    // What cannot be asked.
    assert_found(&examine(runtime, b"", &FILES, whole()), "group.invariant", Class::Damage);
    let with = |change: &dyn Fn(&mut InvariantConfig)| {
        let mut changed = invariant(engine);
        change(&mut changed);
        let mut first = invariant(engine);
        first.query.database = Some("paperless".into());
        examine(runtime, dump.as_bytes(), &FILES, vec![first, changed])
    };
    assert_found(
        &with(&|other| other.query.sql = "SELECT filename, checksum FROM letters".into()),
        "group.invariant",
        Class::Damage,
    );
    for writes in ["DELETE FROM documents", "SELECT 1, 2; DELETE FROM documents"] {
        assert_interrupted(&with(&|other| other.query.sql = writes.into()), "single SELECT");
    }
    let nowhere = with(&|other| other.query.database = Some("elsewhere".into()));
    // Two names of one dump: it is loaded into the first, and the other one is not there.
    assert_found(&nowhere, &format!("{engine}.missing"), Class::Damage);
}

#[test]
fn rows_of_postgres_and_their_files() {
    let mut codes = Vec::new();
    for runtime in runtimes("postgres", &POSTGRES) {
        let dump = String::from_utf8(pg_dump(runtime.as_ref(), "paperless", &sql(), "")).unwrap();
        try_everything(&runtime, "postgres", &dump);
        // A row that is lost is a file without one; half a dump is damage of its own.
        let line = dump.lines().find(|line| line.starts_with("0001.pdf")).unwrap();
        let less = dump.replace(&format!("{line}\n"), "");
        let cut = dump.split("0003.pdf").next().unwrap();
        let seen = [&less, cut, "no dump"].map(|dump| {
            let bad = examine(&runtime, dump.as_bytes(), &FILES, vec![invariant("postgres")]);
            assert_eq!(bad.interrupted, None);
            bad.findings.iter().map(|finding| (finding.code.clone(), finding.class)).collect::<Vec<_>>()
        });
        assert!(seen[0].contains(&("group.invariant".to_owned(), Class::Anomaly)), "{seen:?}");
        assert!(seen[1].contains(&("postgres.truncated".to_owned(), Class::Damage)), "{seen:?}");
        assert!(seen[2].iter().any(|(code, class)| code.starts_with("postgres.") && *class == Class::Damage));
        let mut slow = invariant("postgres");
        slow.query.sql = "SELECT n::text, n::text FROM generate_series(1, 6000000) n".into();
        let huge = examine(&runtime, dump.as_bytes(), &FILES, vec![slow]);
        assert_interrupted(&huge, "larger than");
        codes.push(seen);
    }
    assert!(codes.windows(2).all(|pair| pair[0] == pair[1]), "the runtimes do not agree: {codes:?}");
}

#[test]
fn rows_of_mariadb_and_their_files() {
    for runtime in runtimes("mariadb", &MARIADB) {
        for arguments in ["--skip-extended-insert", "--skip-extended-insert --databases"] {
            let dump = mariadb_dump(runtime.as_ref(), "paperless", &sql(), arguments);
            try_everything(&runtime, "mariadb", &String::from_utf8(dump).unwrap());
        }
    }
}
