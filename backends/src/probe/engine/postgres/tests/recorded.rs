//! Dumps with the digests that were recorded when they were made.

use super::healthy::EVERYTHING;
use super::source::SHARED;
use super::*;

const FILE: &str = "b/.firedrill-digests.json";

#[test]
fn a_dump_is_compared_with_its_digests() {
    if !present() {
        return;
    }
    let database = SHARED.database(EVERYTHING);
    let digests = SHARED.recorded(&database);
    let text = digests.to_file(None).unwrap();
    assert!(
        digests.postgres[&database].tables.len() > 5 && digests.postgres[&database].large_objects.is_some()
    );
    let plain = SHARED.dump(&database, &[]);
    let archive = SHARED.dump(&database, &["-Fc"]);
    let named = SHARED.dump(&database, &["-C"]);
    for (name, dump) in [("b/some.sql", &plain), ("b/some.dump", &archive), ("b/some.sql", &named)] {
        let (_fixture, subject) = subject(&[(name, dump), (FILE, text.as_bytes())]);
        let examination = examine(&subject);
        assert_green(&examination);
        assert!(
            !examination.not_verified.iter().any(|text| text.contains("not compared")),
            "{examination:#?}"
        );
    }

    SHARED.sql(&database, "UPDATE app.orders SET note = 'Note' WHERE id = 2000");
    let later = SHARED.dump(&database, &[]);
    let (_fixture, subject) = subject(&[("b/some.sql", &later), (FILE, text.as_bytes())]);
    let examination = examine(&subject);
    let found = examination.findings.iter().find(|f| f.code == "digests.table").unwrap();
    assert_eq!((found.location.as_str(), found.class), ("b/some.sql: app.orders", Class::Damage));
    assert_eq!(wrong(&examination), ["digests.table"]);
}

#[test]
fn digests_of_a_database_that_no_dump_brings_are_not_green() {
    if !present() {
        return;
    }
    let database = SHARED.database("CREATE TABLE t (a int)");
    let digests = SHARED.recorded(&database).to_file(None).unwrap();
    let other = SHARED.database("CREATE TABLE t (a int)");
    let dump = SHARED.dump(&other, &["-C"]);
    let (_fixture, subject) = subject(&[("b/some.sql", &dump), (FILE, digests.as_bytes())]);
    let examination = examine(&subject);
    assert!(
        examination.interrupted.as_deref().is_some_and(|why| why.contains(&database)),
        "{examination:#?}"
    );
}
