//! Compares tables and keys, one by one and without tolerance.

use std::collections::BTreeMap;

use firedrill_core::digests::{Etcd, Table};
use firedrill_core::finding::{Examination, Finding};
use firedrill_core::manifest::display_path;

use super::expected::promise;

/// Findings about one database that are told; the rest is counted.
const TOLD_MAX: usize = 25;

/// How a database is compared.
pub(super) struct Rules<'a> {
    /// The database.
    pub(super) at: &'a str,
    /// The file of digests.
    pub(super) of: &'a str,
    /// Whether the digests are of the same moment as the backup.
    pub(super) exact: bool,
    /// Whether the engine is of the same version as the one that the digests are from.
    pub(super) same_version: bool,
}

impl Rules<'_> {
    /// Compares all tables.
    pub(super) fn compare(
        &self,
        expected: &BTreeMap<String, Table>,
        seen: &BTreeMap<String, Table>,
        leaves_out: &dyn Fn(&str) -> bool,
        examination: &mut Examination,
    ) {
        let mut findings = Vec::new();
        let mut moved = Vec::new();
        for (name, promised) in expected {
            let at = self.place(name);
            let Some(there) = seen.get(name) else {
                findings.push(self.names(at, rows(promised), "no such table"));
                continue;
            };
            if (there.rows, there.digest) == (promised.rows, promised.digest) {
                examination.checked += 1;
            } else if !self.exact || !promised.exact {
                moved.push(display_path(name.as_bytes()));
            } else {
                findings.push(self.content(at, promised, there));
            }
        }
        for (name, there) in
            seen.iter().filter(|(name, _)| !expected.contains_key(*name) && !leaves_out(name))
        {
            findings.push(self.names(self.place(name), "no such table".to_owned(), &rows(there)));
        }
        examination.findings_omitted += findings.len().saturating_sub(TOLD_MAX) as u64;
        findings.into_iter().take(TOLD_MAX).for_each(|finding| examination.find(finding));
        if !moved.is_empty() {
            let some = moved.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
            examination.not_verified.push(format!(
                "{}: the rows of {} tables, such as {some}: they differ from {}, which is not of the moment of the dump",
                self.at,
                moved.len(),
                self.of,
            ));
        }
    }

    fn place(&self, name: &str) -> String {
        format!("{}: {}", self.at, display_path(name.as_bytes()))
    }

    /// A table that is not there, or one too many. Where moments differ, somebody may have made or dropped it.
    fn names(&self, at: String, expected: String, seen: &str) -> Finding {
        let expected = promise(&expected, self.of);
        match self.exact {
            true => Finding::damage("digests.table", at, expected, seen),
            false => Finding::anomaly("digests.table", at, expected, seen),
        }
    }

    fn content(&self, at: String, promised: &Table, there: &Table) -> Finding {
        let expected = promise(&rows(promised), self.of);
        if promised.rows != there.rows {
            return Finding::damage("digests.table", at, expected, rows(there));
        }
        let seen = format!("{}, not all of them the same", rows(there));
        match self.same_version {
            true => Finding::damage("digests.table", at, expected, seen),
            // Another version may write a value in another way.
            false => {
                let seen = format!("{seen}; the engine is of another version than the server of the backup");
                Finding::anomaly("digests.table", at, expected, seen)
            }
        }
    }
}

fn rows(table: &Table) -> String {
    format!("{} rows", table.rows)
}

/// Compares the live keys of a snapshot of etcd.
pub(super) fn compare_keys(at: &str, of: &str, expected: &Etcd, seen: &Etcd, examination: &mut Examination) {
    let mut findings = Vec::new();
    let mut find = |prefix: &str, promised: String, seen: String| {
        let place = format!("{at}: {}", display_path(prefix.as_bytes()));
        findings.push(Finding::damage("digests.keys", place, promise(&promised, of), seen));
    };
    let count = |keys: u64| format!("{keys} keys");
    for (prefix, promised) in &expected.prefixes {
        match seen.prefixes.get(prefix) {
            Some(there) if there == promised => examination.checked += 1,
            Some(there) if there.keys == promised.keys => {
                let seen = format!("{}, not all of them the same", count(there.keys));
                find(prefix, count(promised.keys), seen);
            }
            Some(there) => find(prefix, count(promised.keys), count(there.keys)),
            None => find(prefix, count(promised.keys), "no key".to_owned()),
        }
    }
    for (prefix, there) in seen.prefixes.iter().filter(|(prefix, _)| !expected.prefixes.contains_key(*prefix))
    {
        find(prefix, "no key".to_owned(), count(there.keys));
    }
    if findings.is_empty() && expected.revision != seen.revision {
        let seen = format!("revision {}", seen.revision);
        findings.push(Finding::damage(
            "digests.keys",
            at,
            promise(&format!("revision {}", expected.revision), of),
            seen,
        ));
    }
    examination.findings_omitted += findings.len().saturating_sub(TOLD_MAX) as u64;
    findings.into_iter().take(TOLD_MAX).for_each(|finding| examination.find(finding));
}
