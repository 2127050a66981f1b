//! What the probes that load dumps call: a loaded database against the digests that lie beside its dump.
//!
//! ```text
//! let mut comparison = Comparison::of(subject, Engine::Postgres);
//! // for each database that was loaded, over a connection to it:
//! comparison.postgres(&loaded, &mut |sql| ask(sql), &mut examination);
//! // at the end:
//! comparison.close(&mut examination);
//! ```

use std::collections::{BTreeMap, BTreeSet};

use firedrill_core::digests::{Database, Sequence, Table};
use firedrill_core::finding::{Examination, Finding};
use firedrill_core::manifest::display_path;
use firedrill_core::subject::Subject;
use firedrill_core::watch::Watch;

use super::expected::{self, Expected, Found, promise, whole};
use super::tables::Rules;
use crate::digests::{Ask, mariadb, postgres};
use crate::probe::engine::dumps::{DumpKind, Dumps};
use crate::probe::names::{last, parent};

/// An engine that dumps are loaded into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    Postgres,
    Mariadb,
}

impl Engine {
    fn kinds(self) -> &'static [DumpKind] {
        match self {
            Self::Postgres => {
                &[DumpKind::PostgresPlain, DumpKind::PostgresCluster, DumpKind::PostgresArchive]
            }
            Self::Mariadb => &[DumpKind::MysqlSql, DumpKind::Xbstream],
        }
    }

    fn databases(self, expected: &Expected) -> &BTreeMap<String, Database> {
        match self {
            Self::Postgres => &expected.digests.postgres,
            Self::Mariadb => &expected.digests.mariadb,
        }
    }
}

/// A database that was loaded from a dump.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loaded<'a> {
    /// The path of the dump in the snapshot.
    pub(crate) dump: &'a [u8],
    /// The dump, and the database in it where it has several, for people.
    pub(crate) location: &'a str,
    /// What the engine calls the database.
    pub(crate) database: &'a str,
    /// Whether the dump named it. Otherwise the name is ours, and the one that it had is found by the dump's.
    pub(crate) named: bool,
}

/// Compares what an engine has loaded in one examination.
#[derive(Debug)]
pub(crate) struct Comparison {
    engine: Engine,
    expected: Vec<Expected>,
    /// The dumps that are loaded, of which digests can be.
    dumps: Vec<Vec<u8>>,
    /// Dumps and folders of which an engine has said what is in them.
    loaded: BTreeSet<Vec<u8>>,
    /// File of digests and database.
    compared: BTreeSet<(usize, String)>,
    trouble: Option<String>,
    watch: Watch,
}

impl Comparison {
    /// Looks for files of digests. What is wrong with them, the probe `digests` tells.
    pub(crate) fn of(subject: &Subject, engine: Engine) -> Self {
        let (found, trouble) = match expected::find(subject) {
            Ok(found) => (found, None),
            Err(why) => (Vec::new(), Some(why)),
        };
        let good = found.into_iter().filter_map(|found| match found {
            Found::Good(expected) => Some(*expected),
            Found::Broken { .. } | Found::Forged { .. } => None,
        });
        let expected: Vec<_> = good.filter(|expected| !engine.databases(expected).is_empty()).collect();
        let dumps = match expected.is_empty() {
            true => Vec::new(),
            false => Dumps::of(subject, engine.kinds()).chosen.into_iter().map(|dump| dump.path).collect(),
        };
        Self {
            engine,
            expected,
            dumps,
            loaded: BTreeSet::new(),
            compared: BTreeSet::new(),
            trouble,
            watch: subject.watch.clone(),
        }
    }

    /// Takes note that an engine has said what is in `dump`, be it nothing.
    pub(crate) fn was_loaded(&mut self, dump: &[u8]) {
        if !self.expected.is_empty() {
            self.loaded.insert(dump.to_owned());
        }
    }

    /// Compares a database of PostgreSQL. `ask` is a connection to it as a superuser, outside of any transaction.
    pub(crate) fn postgres(&mut self, loaded: &Loaded<'_>, ask: &mut Ask<'_>, examination: &mut Examination) {
        let watch = self.watch.clone();
        let mut proceed = || watch.check().map_err(|error| error.chain());
        self.each(loaded, examination, |promised, examination, rules| {
            let seen = postgres::begin(ask).and_then(|()| {
                let listing = postgres::list(ask, &|table| promised.leaves_out(table))?;
                postgres::measure(ask, &listing, &mut proceed)
            });
            // A failed transaction has to end, too, before anybody else uses the connection.
            let ended = postgres::end(ask);
            let seen = seen.and_then(|seen| ended.map(|()| seen))?;
            let same_version = major(&seen.server, 1) == major(&promised.server, 1);
            let rules = Rules { same_version, ..rules };
            rules.compare(&promised.tables, &seen.tables, &|table| promised.leaves_out(table), examination);
            views(&rules, &promised.materialized_views, &seen.materialized_views, examination);
            if rules.exact {
                sequences(&rules, &promised.sequences, &seen.sequences, examination);
            }
            let objects = |of: &Database| -> BTreeMap<String, Table> {
                of.large_objects.iter().map(|table| ("large objects".to_owned(), table.clone())).collect()
            };
            rules.compare(&objects(promised), &objects(&seen), &|_| false, examination);
            Ok(())
        });
    }

    /// Compares a database of MariaDB. `ask` need not keep its settings from one question to the next.
    pub(crate) fn mariadb(&mut self, loaded: &Loaded<'_>, ask: &mut Ask<'_>, examination: &mut Examination) {
        let watch = self.watch.clone();
        let mut proceed = || watch.check().map_err(|error| error.chain());
        let mut ask = |sql: &str| ask(&format!("{} {sql}", mariadb::SETTINGS));
        self.each(loaded, examination, |promised, examination, rules| {
            let listing = mariadb::list(&mut ask, loaded.database, &|table| promised.leaves_out(table))?;
            let seen = mariadb::measure(&mut ask, &listing, &mut proceed)?;
            let rules = Rules { same_version: major(&seen.server, 2) == major(&promised.server, 2), ..rules };
            rules.compare(&promised.tables, &seen.tables, &|table| promised.leaves_out(table), examination);
            Ok(())
        });
    }

    /// Tells which databases that digests name were not compared.
    pub(crate) fn close(self, examination: &mut Examination) {
        if let Some(why) = &self.trouble {
            examination.interrupt(format!("files of digests could not be read: {why}"));
        }
        for (number, expected) in self.expected.iter().enumerate() {
            for name in self.engine.databases(expected).keys() {
                if self.compared.contains(&(number, name.clone())) {
                    continue;
                }
                let any_loaded = !self.loaded.is_empty();
                let beside = self.dumps.iter().any(|dump| expected.is_about(dump));
                let about = self.loaded.iter().any(|dump| expected.is_about(dump)) || (any_loaded && beside);
                let shown = display_path(name.as_bytes());
                let what = format!("{}: its digests of {shown} were not compared", expected.location);
                if about {
                    examination
                        .interrupt(format!("{what}: no such database was loaded from the dumps beside it"));
                } else {
                    examination.not_verified.push(format!("{what}: no dump beside it was loaded"));
                }
            }
        }
    }

    /// Does `compare` for every expectation of a loaded database.
    fn each(
        &mut self,
        loaded: &Loaded<'_>,
        examination: &mut Examination,
        mut compare: impl FnMut(&Database, &mut Examination, Rules<'_>) -> Result<(), String>,
    ) {
        self.was_loaded(loaded.dump);
        let chosen: Vec<_> = (0..self.expected.len())
            .filter_map(|number| Some((number, self.name_in(self.expected.get(number)?, loaded)?)))
            .collect();
        for (number, name) in chosen {
            let Some(expected) = self.expected.get(number) else { continue };
            let Some(promised) = self.engine.databases(expected).get(&name) else {
                continue;
            };
            self.compared.insert((number, name));
            let rules = Rules {
                at: loaded.location,
                of: &expected.location,
                exact: promised.exact,
                same_version: true,
            };
            if !promised.exact {
                examination.notes.push(format!(
                    "{}: {} is not of the moment of the dump, so only the names of tables count",
                    loaded.location, expected.location
                ));
            }
            if let Err(why) = compare(promised, examination, rules) {
                examination
                    .interrupt(format!("{}: failed to compare it with digests: {why}", loaded.location));
            }
        }
    }

    /// What a file of digests calls a database that was loaded, if it tells of it.
    fn name_in(&self, expected: &Expected, loaded: &Loaded<'_>) -> Option<String> {
        let databases = self.engine.databases(expected);
        // What lies beside a dump and a data folder is about the dump, which has one moment.
        let beside_dump = || self.dumps.iter().any(|dump| expected.is_about(dump));
        let is_dump = self.dumps.iter().any(|dump| dump == loaded.dump);
        if !expected.is_about(loaded.dump) || (!is_dump && !expected.is_inside(loaded.dump) && beside_dump())
        {
            return None;
        }
        if loaded.named {
            return databases.contains_key(loaded.database).then(|| loaded.database.to_owned());
        }
        let only = databases.keys().next().filter(|_| databases.len() == 1).cloned();
        if expected.is_named() {
            return only;
        }
        let dump = String::from_utf8_lossy(last(whole(loaded.dump))).into_owned();
        let starts = |name: &&String| {
            dump.strip_prefix(name.as_str())
                .is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
        };
        let longest = databases.keys().filter(starts).max_by_key(|name| name.len()).cloned();
        let beside =
            self.dumps.iter().filter(|dump| parent(whole(dump)) == parent(whole(loaded.dump))).count();
        longest.or(only.filter(|_| beside == 1))
    }
}

/// The first numbers of a version.
fn major(version: &str, parts: usize) -> Vec<&str> {
    version.split(|c: char| !c.is_ascii_digit()).take(parts).collect()
}

/// A restore computes materialized views anew, and their originals may have been out of date.
fn views(
    rules: &Rules<'_>,
    expected: &BTreeMap<String, Table>,
    seen: &BTreeMap<String, Table>,
    examination: &mut Examination,
) {
    for (name, promised) in expected {
        let at = format!("{}: {}", rules.at, display_path(name.as_bytes()));
        match seen.get(name) {
            Some(there) if (there.rows, there.digest) == (promised.rows, promised.digest) => examination.checked += 1,
            Some(_) => examination.not_verified.push(format!(
                "{at}: the rows of this materialized view: they are others than in the original, which may have been \
                 out of date"
            )),
            None if rules.exact => {
                let promise = promise(&format!("{} rows", promised.rows), rules.of);
                examination.find(Finding::damage("digests.table", at, promise, "no filled materialized view"));
            }
            None => {}
        }
    }
}

/// Sequences do not belong to snapshots: one that has moved on is as good as the original.
fn sequences(
    rules: &Rules<'_>,
    expected: &BTreeMap<String, Sequence>,
    seen: &BTreeMap<String, Sequence>,
    examination: &mut Examination,
) {
    for (name, promised) in expected {
        let at = format!("{}: {}", rules.at, display_path(name.as_bytes()));
        let expected = promise(&format!("a sequence at {}", promised.last), rules.of);
        match seen.get(name) {
            Some(there) if promised.is_ahead_of(there) => {
                let seen = format!("{}: it gives out numbers again", there.last);
                examination.find(Finding::damage("digests.sequence", at, expected, seen));
            }
            Some(_) => examination.checked += 1,
            None => examination.find(Finding::damage("digests.sequence", at, expected, "no such sequence")),
        }
    }
}
