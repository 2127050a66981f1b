//! From a config (or none) and what the copies hold to a plan. Pure: the same config, inventories and
//! request give the same plan, byte for byte.
//!
//! What is planned, per copy and in this order:
//!
//! 1. each target that must be in the copy, in the order of the config. A target without a snapshot is
//!    `Missing`, which is a finding; in a copy that could not be read it is `Unknown`, which is
//!    inconclusive; so is a target of a kind that this version cannot drill.
//! 2. each series that the copy holds and no target names, by name: nothing is silently uncovered.
//! 3. each group of the config all of whose targets must be in the copy.
//! 4. each tag that the request names and no copy holds, as `Missing`.
//! 5. each series that was proven before in the copy and is not there any more, as `Missing`.

mod choose;
mod control;
mod explicit;
mod groups;
mod naming;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::config::settings::{Demand, Objectives, Probes};
use crate::config::{BackupKind, Config, TargetConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::{Drill, Limits, Plan, PlannedCopy, Selection};
use crate::ports::Inventory;
use crate::secret::redact_urls;
use crate::seed;
use crate::snapshot::{CopyName, Series, Snapshot};

use naming::Labels;

/// Probes without whose examination no drill proves anything.
const REQUIRED: [&str; 3] = ["tree", "shape", "freshness"];
/// The probe that is required where a canary is.
const CANARY: &str = "canary";
/// What the part of a drill's name is called that says which snapshot it restores.
const LATEST: &str = "latest";

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// The seed of the run.
    pub seed: u64,
    /// Now.
    pub at: Timestamp,
    /// What is drilled; empty: everything.
    pub filter: Filter,
    /// The bounds of the run.
    pub limits: Limits,
    /// Whether there is a negative control.
    pub control: bool,
    /// Series that were proven before. One that a copy holds no more is `Missing`, unless the request
    /// is about something in particular.
    pub proven: Vec<(CopyName, Series)>,
}

/// What is drilled. Empty lists leave everything in; several lists must all agree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// These tags.
    pub tags: Vec<String>,
    /// Snapshots of these hosts.
    pub hosts: Vec<String>,
    /// Exactly these snapshots: ids, or at least four hexadecimal digits of their beginning.
    pub snapshots: Vec<String>,
    /// Every snapshot instead of the latest of each series.
    pub all_snapshots: bool,
    /// These copies.
    pub copies: Vec<String>,
    /// These targets of the config.
    pub targets: Vec<String>,
    /// Which snapshot of a series.
    pub pick: Pick,
}

/// Which snapshot of a series is drilled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pick {
    /// The latest.
    #[default]
    Latest,
    /// The latest at or before this moment. Ages are measured against it too.
    At(Timestamp),
}

/// One copy and what it holds.
#[derive(Clone, Debug)]
pub struct CopyView<'a> {
    /// Its name; that of the config, if there is one.
    pub name: CopyName,
    /// Where it is, without secrets.
    pub location: String,
    /// What it holds; `None` when it could not be read.
    pub inventory: Option<&'a Inventory>,
}

/// Makes the plan. `Err` is always of [`ErrorKind::Usage`].
pub fn plan(config: Option<&Config>, copies: &[CopyView<'_>], request: &Request) -> Result<Plan> {
    let sources = sources(config, copies, request)?;
    check_targets(config, &request.filter)?;
    let at = match request.filter.pick {
        Pick::Latest => request.at,
        Pick::At(time) => time,
    };
    let planner = Planner { config, request, at };
    let mut drills = if request.filter.snapshots.is_empty() && !request.filter.all_snapshots {
        choose::latest(&planner, &sources)
    } else {
        explicit::snapshots(&planner, &sources)?
    };
    groups::plan(&planner, &sources, &mut drills);
    missing_tags(&planner, &sources, &mut drills);
    vanished(&planner, &sources, &mut drills);
    let mut drills: Vec<Drill> = drills.into_iter().map(|d| d.drill).collect();
    naming::make_unique(&mut drills);
    for drill in &mut drills {
        drill.seed = seed::child(request.seed, &drill.name.0);
    }
    let control = if request.control { control::control(&drills, request.seed) } else { None };
    Ok(Plan {
        seed: request.seed,
        at,
        copies: sources
            .iter()
            .map(|s| PlannedCopy { name: s.name.clone(), location: s.location.clone() })
            .collect(),
        drills,
        control,
        control_off: !request.control,
        limits: request.limits.clone(),
        interval: config.and_then(Config::restore_test_interval),
    })
}

/// A copy with its kind, and its snapshots by series.
struct Source<'a> {
    name: CopyName,
    location: String,
    kind: BackupKind,
    /// `None` when it could not be read, or not by this version.
    series: Option<BTreeMap<Series, Vec<&'a Snapshot>>>,
}

impl<'a> Source<'a> {
    fn new(name: CopyName, location: &str, kind: BackupKind, inventory: Option<&'a Inventory>) -> Self {
        let series = inventory.filter(|_| kind.drillable()).map(|inventory| {
            let mut series: BTreeMap<Series, Vec<&Snapshot>> = BTreeMap::new();
            let mut seen = BTreeSet::new();
            for snapshot in inventory.snapshots.iter().filter(|s| seen.insert(&s.id)) {
                for one in Series::all_of(snapshot) {
                    series.entry(one).or_default().push(snapshot);
                }
            }
            for snapshots in series.values_mut() {
                snapshots.sort_by(|a, b| (a.time, &a.id).cmp(&(b.time, &b.id)));
            }
            series
        });
        Self { name, location: redact_urls(location), kind, series }
    }
}

/// The copies of the config, in its order, then those that are only in `views`; filtered.
fn sources<'a>(
    config: Option<&Config>,
    views: &[CopyView<'a>],
    request: &Request,
) -> Result<Vec<Source<'a>>> {
    let mut by_name: BTreeMap<&CopyName, &CopyView<'a>> = BTreeMap::new();
    for view in views {
        if by_name.insert(&view.name, view).is_some() {
            return Err(Error::new(ErrorKind::Usage, "plan the run")
                .because(format!("two copies are called {}", view.name)));
        }
    }
    let mut sources = Vec::new();
    for copy in config.map(|c| c.copies.as_slice()).unwrap_or_default() {
        let name = copy.copy_name();
        // A copy that nobody opened stays in the plan: as one that could not be read.
        let view = by_name.remove(&name);
        let location = view.map_or_else(|| copy.location(), |v| v.location.clone());
        sources.push(Source::new(name, &location, copy.kind, view.and_then(|v| v.inventory)));
    }
    for view in views.iter().filter(|v| by_name.contains_key(&v.name)) {
        sources.push(Source::new(view.name.clone(), &view.location, BackupKind::Restic, view.inventory));
    }
    let known: Vec<&str> = sources.iter().map(|s| s.name.0.as_str()).collect();
    for wanted in &request.filter.copies {
        if !known.contains(&wanted.as_str()) {
            return Err(unknown("copy", wanted, &known));
        }
    }
    let filter = &request.filter.copies;
    sources.retain(|s| filter.is_empty() || filter.contains(&s.name.0));
    Ok(sources)
}

fn check_targets(config: Option<&Config>, filter: &Filter) -> Result<()> {
    let names = |c: &'_ Config| {
        let groups = c.groups.iter().map(|g| g.name.clone());
        c.targets.iter().map(|t| t.name.clone()).chain(groups).collect::<Vec<_>>()
    };
    let known = config.map(names).unwrap_or_default();
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    for wanted in &filter.targets {
        if config.is_none() {
            return Err(Error::new(ErrorKind::Usage, format!("select the target {wanted}"))
                .because("targets are in a config, and there is none")
                .advise("give a config, or select by tag"));
        }
        if !known.contains(&wanted.as_str()) {
            return Err(unknown("target", wanted, &known));
        }
    }
    Ok(())
}

fn unknown(what: &str, wanted: &str, known: &[&str]) -> Error {
    let error = Error::new(ErrorKind::Usage, format!("select the {what} {wanted}"))
        .because(format!("there is no {what} of that name"));
    match crate::config::closest(wanted, known) {
        Some(close) => error.advise(format!("did you mean {close}?")),
        None if known.is_empty() => error,
        None => error.advise(format!("there are: {}", known.join(", "))),
    }
}

/// A drill with what it is sorted by.
struct Ordered {
    copy: usize,
    /// The place of the target in the config; targets come before the rest.
    target: usize,
    drill: Drill,
}

/// What every step needs.
struct Planner<'r> {
    config: Option<&'r Config>,
    request: &'r Request,
    at: Timestamp,
}

impl<'r> Planner<'r> {
    fn filter(&self) -> &'r Filter {
        &self.request.filter
    }

    /// The targets that must be in `source`, with their places in the config.
    fn targets(&self, source: &Source<'_>) -> Vec<(usize, &'r TargetConfig)> {
        let targets = self.config.map(|c| c.targets.as_slice()).unwrap_or_default();
        targets.iter().enumerate().filter(|(_, t)| t.belongs_in(&source.name, source.kind)).collect()
    }

    /// Whether the request leaves `series` in.
    fn wants_series(&self, series: &Series) -> bool {
        let tags = &self.filter().tags;
        tags.is_empty() || matches!(series, Series::Tag(tag) if tags.contains(tag))
    }

    fn wants_target(&self, target: &TargetConfig) -> bool {
        let names = &self.filter().targets;
        let tagged = self.filter().tags.is_empty() || target.tag.is_some();
        (names.is_empty() || names.contains(&target.name)) && tagged && self.wants_series(&target.series())
    }

    fn wants_host(&self, host: &str) -> bool {
        let hosts = &self.filter().hosts;
        hosts.is_empty() || hosts.iter().any(|h| h == host)
    }

    /// Whether the request leaves in at least one of the hosts of `target`.
    fn wants_a_host_of(&self, target: &TargetConfig) -> bool {
        target.hosts().is_empty() || target.hosts().iter().any(|h| self.wants_host(h))
    }

    fn probes(&self, target: Option<&TargetConfig>) -> Probes {
        match (self.config, target) {
            (Some(config), Some(target)) => config.target_probes(target),
            (Some(config), None) => config.probes.clone(),
            (None, _) => Probes::default(),
        }
    }

    fn objectives(&self, target: Option<&TargetConfig>, copy: &CopyName) -> Objectives {
        match (self.config, target) {
            (Some(config), Some(target)) => config.objectives(target, copy),
            _ => Objectives::default(),
        }
    }

    /// Whether `snapshot` was there at the moment that the request is about.
    fn existed(&self, snapshot: &Snapshot) -> bool {
        match self.filter().pick {
            Pick::Latest => true,
            Pick::At(time) => snapshot.time <= time,
        }
    }

    /// A drill; its seed is set once its name is final.
    fn drill(
        &self,
        (place, source): (usize, &Source<'_>),
        target: Option<(usize, &TargetConfig)>,
        series: Series,
        selection: Selection,
        (labels, which): (&Labels, &str),
    ) -> Ordered {
        let config = target.map(|(_, t)| t);
        let expectations = config.map(TargetConfig::expectations).unwrap_or_default();
        let mut required: Vec<String> = REQUIRED.map(str::to_owned).into();
        if expectations.canary == Demand::Required {
            required.push(CANARY.to_owned());
        }
        let trials = config.map(TargetConfig::trials).unwrap_or_default();
        required.extend(trials.probes());
        let drill = Drill {
            name: labels.name(&source.name, config, &series, which),
            copy: source.name.clone(),
            series,
            target: config.map(|t| t.name.clone()),
            selection,
            objectives: self.objectives(config, &source.name),
            expectations,
            hosts: config.map(|t| t.hosts().to_vec()).unwrap_or_default(),
            probes: self.probes(config),
            parts: Vec::new(),
            trials,
            required,
            seed: 0,
        };
        Ordered { copy: place, target: target.map_or(usize::MAX, |(i, _)| i), drill }
    }
}

/// Adds a drill for each series that was proven before and is gone: without a config nothing else would
/// miss it.
fn vanished(planner: &Planner<'_>, sources: &[Source<'_>], drills: &mut Vec<Ordered>) {
    let filter = planner.filter();
    let everything =
        Filter { all_snapshots: filter.all_snapshots, copies: filter.copies.clone(), ..Filter::default() };
    if *filter != everything {
        return;
    }
    for (copy, series) in &planner.request.proven {
        let Some((place, source)) = sources.iter().enumerate().find(|(_, s)| &s.name == copy) else {
            continue;
        };
        // A group lives in the config, and its parts are missed one by one.
        let group = matches!(series, Series::Group(_));
        let gone = !group && source.series.as_ref().is_some_and(|held| !held.contains_key(series));
        let planned = drills.iter().any(|d| d.copy == place && &d.drill.series == series);
        if gone && !planned {
            let labels = Labels::of(source);
            let missing = (&labels, LATEST);
            drills.push(planner.drill((place, source), None, series.clone(), Selection::Missing, missing));
        }
    }
    drills.sort_by_key(|d| d.copy);
}

/// Adds a drill for each tag that was asked for and is in no copy: it must not look as if nothing had
/// been selected.
fn missing_tags(planner: &Planner<'_>, sources: &[Source<'_>], drills: &mut Vec<Ordered>) {
    let mut asked: Vec<&String> = planner.filter().tags.iter().collect();
    asked.sort();
    asked.dedup();
    for tag in asked {
        let series = Series::Tag(tag.clone());
        let held = sources.iter().filter_map(|s| s.series.as_ref()).any(|s| s.contains_key(&series));
        let planned = drills.iter().any(|d| d.drill.series == series);
        if held || planned {
            continue;
        }
        for (place, source) in sources.iter().enumerate().filter(|(_, s)| s.series.is_some()) {
            let labels = Labels::of(source);
            let missing =
                planner.drill((place, source), None, series.clone(), Selection::Missing, (&labels, LATEST));
            drills.push(missing);
        }
    }
    drills.sort_by_key(|d| d.copy);
}
