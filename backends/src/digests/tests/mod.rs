//! Digests with real servers, which make the dumps, load them, and are changed.

pub(crate) mod mariadb;
pub(crate) mod postgres;
pub(crate) mod server;

use firedrill_core::finding::{Class, Examination};
use firedrill_core::subject::Subject;

use crate::probe::digests::compare::{Comparison, Engine, Loaded};
use crate::probe::fixture::{Fixture, found};

/// A snapshot with a dump and the digests beside it.
fn restored(dump: &[u8], digests: &[u8]) -> (Fixture, Subject) {
    let fixture = Fixture::new();
    fixture.write("backup/dump.sql", dump);
    fixture.write("backup/.firedrill-digests.json", digests);
    let subject = fixture.subject();
    (fixture, subject)
}

/// What an engine's probe does with one database, to which `ask` talks.
fn compared(subject: &Subject, engine: Engine, database: &str, ask: &mut super::Ask<'_>) -> Examination {
    let mut examination = Examination::new("engine", "databases");
    let mut comparison = Comparison::of(subject, engine);
    let loaded = Loaded { dump: b"backup/dump.sql", location: "backup/dump.sql", database, named: false };
    match engine {
        Engine::Postgres => comparison.postgres(&loaded, ask, &mut examination),
        Engine::Mariadb => comparison.mariadb(&loaded, ask, &mut examination),
    }
    comparison.close(&mut examination);
    examination
}

#[track_caller]
fn must_be_green(what: &str, examination: &Examination) {
    assert!(examination.findings.is_empty(), "{what}: {examination:#?}");
    assert_eq!(examination.interrupted, None, "{what}");
    assert!(examination.checked > 3, "{what}: {examination:#?}");
}

/// Exactly these places are damaged.
#[track_caller]
fn must_find(what: &str, examination: &Examination, code: &str, places: &[&str]) {
    let expected: Vec<_> = places.iter().map(|place| (code, Class::Damage, *place)).collect();
    assert_eq!(found(examination), expected, "{what}: {examination:#?}");
    assert_eq!(examination.interrupted, None, "{what}");
}
