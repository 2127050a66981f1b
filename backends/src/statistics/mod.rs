//! What a bucket or a folder holds, by prefix, and what the bucket says of itself. Nothing is ever written.
//!
//! *Counted*: every object of an ordinary listing, and every regular file.
//!
//! *Not counted*: older versions, what delete markers hide, and parts of uploads that were never completed. They cost
//! money all the same; the settings that are told along say whether there may be some.

mod folder;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use firedrill_core::config::jobs::StatisticsConfig;
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::pipeline::job::{PrefixFacts, StatisticsFacts};
use firedrill_core::watch::Watch;

use crate::repository::location::{Access, Location, S3Location};
use crate::repository::s3::objects;

/// More folders at the top are not told one by one.
const PREFIXES_MAX: usize = 1000;
/// Names in one page of a listing, which is one request.
const PAGE: u64 = 1000;
/// Requests of a run besides those that list and move objects: keys, config, locks.
const AROUND: u64 = 10;
/// Storage classes from which an object must be fetched before it can be read.
const ARCHIVES: [&str; 2] = ["GLACIER", "DEEP_ARCHIVE"];

/// What a job does with the place, for the projection of requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Planned {
    /// Runs in a month.
    pub runs_per_month: f64,
    /// Objects that one run reads, writes or removes.
    pub objects_moved: u64,
}

/// Counts what is at `location`: of a bucket all of it, not only what is below the prefix. `planned` are the jobs
/// that work on it.
pub fn statistics(
    location: &Location,
    access: &Access,
    config: &StatisticsConfig,
    planned: &[Planned],
    watch: &Watch,
) -> Result<StatisticsFacts> {
    let mut count = Count::new(&config.prefixes);
    let mut settings = BTreeMap::new();
    match location {
        Location::Local(root) => folder::count(root, &mut count, watch)?,
        Location::S3(place) => {
            let whole = S3Location { prefix: String::new(), ..place.clone() };
            let bucket = objects::open(&whole, access)?;
            let mut stopped = Ok(());
            let listed = bucket.list("", |page| {
                for object in &page {
                    count.add(&object.key, object.size, ARCHIVES.contains(&object.class.as_str()));
                }
                stopped = watch.check();
                stopped.is_ok()
            });
            stopped?;
            listed.map_err(|fault| fault.into_error(format!("list {whole}")))?;
            settings = bucket.settings();
        }
        Location::Rest(_) => {
            return Err(Error::new(ErrorKind::Usage, format!("count what is in {location}"))
                .because("a rest-server shows no folders")
                .advise("count the folder or the bucket behind it"));
        }
    }
    let requests = requests(count.total.objects, planned);
    Ok(StatisticsFacts {
        prefixes: count.facts(),
        limit: config.limit.map(|limit| limit.0),
        requests_per_month: (!planned.is_empty()).then_some(requests),
        settings,
    })
}

/// Requests in a month: what is moved, and a listing of all there is in each run.
fn requests(objects: u64, planned: &[Planned]) -> u64 {
    let each = |plan: &Planned| {
        let listing = objects.div_ceil(PAGE).saturating_add(AROUND);
        plan.runs_per_month.max(0.0) * plan.objects_moved.saturating_add(listing) as f64
    };
    let all: f64 = planned.iter().map(each).sum();
    // A cast of a float stops at the largest number there is.
    all.ceil() as u64
}

/// Counters by prefix.
struct Count {
    /// Whether prefixes were given; otherwise folders at the top become some.
    chosen: bool,
    prefixes: BTreeMap<String, PrefixFacts>,
    rest: PrefixFacts,
    total: PrefixFacts,
}

impl Count {
    fn new(chosen: &[String]) -> Self {
        let named = |prefix: &String| {
            let prefix = prefix.trim_matches('/').to_owned();
            (prefix.clone(), PrefixFacts { prefix, ..PrefixFacts::default() })
        };
        Self {
            chosen: !chosen.is_empty(),
            prefixes: chosen.iter().map(named).filter(|(name, _)| !name.is_empty()).collect(),
            rest: PrefixFacts::default(),
            total: PrefixFacts::default(),
        }
    }

    fn add(&mut self, key: &str, bytes: u64, archived: bool) {
        let slot = match self.prefix_of(key) {
            Some(prefix) => self
                .prefixes
                .entry(prefix.clone())
                .or_insert_with(|| PrefixFacts { prefix, ..PrefixFacts::default() }),
            None => &mut self.rest,
        };
        for count in [slot, &mut self.total] {
            count.bytes = count.bytes.saturating_add(bytes);
            count.objects += 1;
            count.archived += u64::from(archived);
        }
    }

    /// The prefix that counts an object: the longest that was chosen, or its folder at the top.
    fn prefix_of(&self, key: &str) -> Option<String> {
        if !self.chosen {
            let (top, _) = key.split_once('/')?;
            let known = self.prefixes.contains_key(top) || self.prefixes.len() < PREFIXES_MAX;
            return (known && !top.is_empty()).then(|| top.to_owned());
        }
        let holds = |prefix: &&String| {
            key.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.prefixes.keys().filter(holds).max_by_key(|prefix| prefix.len()).cloned()
    }

    fn facts(self) -> Vec<PrefixFacts> {
        self.prefixes.into_values().chain([self.rest]).collect()
    }
}
