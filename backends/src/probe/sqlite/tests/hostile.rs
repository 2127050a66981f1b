//! Files made to harm whoever opens them, files broken at random, and a machine that does not cooperate.

use std::fs;
use std::time::Duration;

use proptest::prelude::*;

use super::fixtures::*;
use crate::probe::fixture::Fixture;

/// A hot journal, as a copy of a running database has it.
fn hot() -> Files {
    let (folder, connection) = open(&format!("PRAGMA cache_size=2; {SCHEMA} {}", rows("t", 500)));
    connection
        .execute_batch(&format!("BEGIN; {} UPDATE t SET text = text || 'x';", rows("t", 5000)))
        .unwrap();
    let files = Files::of(&folder.path().join("app.db"));
    assert!(files.journal.as_ref().unwrap().len() > 512);
    files
}

/// Ends a journal like one of a transaction over several databases.
fn with_super_journal(mut files: Files, name: &str) -> Files {
    let journal = files.journal.as_mut().unwrap();
    let sum: u32 = name.bytes().map(u32::from).sum();
    journal.extend(0_u32.to_be_bytes());
    journal.extend(name.as_bytes());
    journal.extend((name.len() as u32).to_be_bytes());
    journal.extend(sum.to_be_bytes());
    journal.extend([0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7]);
    files
}

/// A name as SQLite gives it to the file that all journals of such a transaction refer to.
const SUPER: &str = "app.db-mj0123AB9CD";

#[test]
fn a_journal_cannot_have_a_file_of_this_machine_deleted() {
    let victims = tempfile::tempdir().unwrap();
    for name in ["precious", SUPER] {
        let victim = victims.path().join(name);
        let fixture = with_super_journal(hot(), victim.to_str().unwrap()).fixture();
        // SQLite deletes such a file if it names the journal.
        let journal = fixture.work.join("sqlite/db-journal");
        fs::write(&victim, format!("{}\0", journal.display())).unwrap();
        let examination = examine(&fixture.subject());
        assert!(victim.exists(), "{name}");
        assert_eq!(examination.interrupted, None);
    }
}

#[test]
fn a_transaction_over_several_databases_is_rolled_back_if_it_was_under_way() {
    let named = format!("/app/{SUPER}");
    let fixture = with_super_journal(hot(), &named).fixture();
    fixture.write(&format!("app/{SUPER}"), "/app/app.db-journal\0");
    let examination = examine(&fixture.subject());
    assert_green(&examination, 1);
    assert_eq!(remembered_rows(&examination, "t"), 500);
}

#[test]
fn a_view_that_never_ends_is_not_even_asked() {
    let sql =
        "CREATE VIEW t AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT * FROM n;
        CREATE TABLE ok (x); CREATE TRIGGER r AFTER INSERT ON ok BEGIN SELECT x FROM t; END;";
    assert_green(&closed(sql).examined(), 1);
}

#[test]
fn a_stop_or_a_deadline_interrupts() {
    let fixture = closed(&format!("{SCHEMA} {}", rows("t", 1000))).fixture();
    let mut subject = fixture.subject();
    subject.watch = subject.watch.within(Some(Duration::ZERO));
    let examination = examine(&subject);
    assert_eq!((examination.checked, examination.findings.len()), (0, 0));
    assert!(examination.interrupted.unwrap().contains("limit"));

    let mut subject = fixture.subject();
    subject.drill.probes.sqlite.statement_timeout = firedrill_core::config::units::Span(Duration::ZERO);
    let examination = examine(&subject);
    assert_eq!((examination.checked, examination.findings.len()), (0, 0));
    assert!(examination.interrupted.unwrap().contains("statement_timeout"));
}

#[test]
fn a_work_folder_that_cannot_be_used_interrupts() {
    let fixture = closed(SCHEMA).fixture();
    let mut subject = fixture.subject();
    subject.work = fixture.path("app/app.db");
    let examination = firedrill_core::ports::Probe::examine(&crate::probe::sqlite::SqliteProbe, &subject);
    assert_eq!((examination.checked, examination.findings.len()), (0, 0));
    assert!(examination.interrupted.unwrap().contains("cannot examine app/app.db"));
}

#[test]
fn links_on_the_way_are_not_followed() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("app.db"), closed(SCHEMA).db).unwrap();
    let manifest = closed(SCHEMA).fixture().manifest();
    let fixture = Fixture::new();
    std::os::unix::fs::symlink(outside.path(), fixture.root.join("app")).unwrap();
    assert_green(&examine(&fixture.subject_of(manifest)), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_can_be_in_a_file_is_our_error(
        seed in any::<u64>(),
        which in 0..4_usize,
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut files = if seed % 2 == 0 { live_files() } else { hot() };
        let target = match which {
            1 => files.wal.as_mut(),
            2 => files.shm.as_mut(),
            3 => files.journal.as_mut(),
            _ => None,
        };
        let target = target.unwrap_or(&mut files.db);
        for (at, byte) in flips {
            let at = at.index(target.len());
            target[at] ^= byte;
        }
        if let Some(cut) = cut {
            target.truncate(cut.index(target.len()));
        }
        let fixture = files.fixture();
        let examination = examine(&fixture.subject());
        prop_assert_eq!(examination.interrupted, None);
    }

    #[test]
    fn a_flipped_bit_before_the_last_commit_of_a_log_is_found(at in 0.0..0.8_f64, bit in 0..8_u32) {
        let mut files = live_files().without_shm();
        let wal = files.wal.as_mut().unwrap();
        let at = 32 + ((wal.len() - 32) as f64 * at) as usize;
        wal[at] ^= 1 << bit;
        let examination = files.examined();
        prop_assert_eq!(examination.findings.len(), 1, "byte {}", at);
    }
}
