//! `firedrill restore-test`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use firedrill_backends::scratch::directory::DirectoryScratch;
use firedrill_core::cell::Runtime;
use firedrill_core::clock::{Clock as _, SystemClock};
use firedrill_core::config::runtime::RuntimeKind;
use firedrill_core::config::settings::Proof;
use firedrill_core::config::units::Span;
use firedrill_core::config::{Config, CopyOptions};
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::event::Event;
use firedrill_core::evidence::{self, Writer};
use firedrill_core::memory::{Memory, learn};
use firedrill_core::plan::{Limits, Plan};
use firedrill_core::planner::{self, CopyView, Filter, Pick, Request};
use firedrill_core::ports::{Scratch as _, Swept};
use firedrill_core::run::{self, Bench, OpenCopy};
use firedrill_core::secret::redact_address;
use firedrill_core::snapshot::{CopyName, Series};
use firedrill_core::verdict::Exit;
use firedrill_core::watch::Watch;
use firedrill_reports::console::{ConsoleOptions, SummaryPlace, render_plan};
use firedrill_scenarios::control;
use jiff::Timestamp;

use crate::args::{CloneArg, RestoreTestArgs};
use crate::copies::{self, CopySpec};
use crate::sinks::Sinks;
use crate::{complain, note, state, stop, verdicts};

const TIMEOUT: Span = Span(Duration::from_secs(6 * 3600));

pub(crate) fn restore_test(args: RestoreTestArgs) -> Result<Exit> {
    let config = args.config.as_deref().map(crate::config::load).transpose()?;
    let config = match (&args.clone, config) {
        (Some(clone), Some(config)) => Some(of_clone(clone, config)?),
        (_, config) => config,
    };
    let specs = match &config {
        Some(config) => copies::from_config(config, &args.copy)?,
        None => copies::from_arguments(&args.repository)?,
    };
    stop::until_done(go(args, config, specs))
}

/// The config for a clone of one copy. What comes of it is nobody's metric and nobody's report.
fn of_clone(clone: &CloneArg, mut config: Config) -> Result<Config> {
    let mut copy = copies::known_copy(&config, &CopyName(clone.name.clone()))?.clone();
    copy.repository = clone.place.clone();
    (copy.ca_cert, copy.options) = (None, CopyOptions::default());
    config.copies = vec![copy];
    config.sinks = Default::default();
    Ok(config)
}

async fn go(args: RestoreTestArgs, config: Option<Config>, specs: Vec<CopySpec>) -> Result<Exit> {
    let started = SystemClock.now();
    let watch = Watch::unlimited();
    stop::on_signal(&watch);
    let mut request = request(&args, config.as_ref(), started)?;
    let folder = state::folder(args.state.as_deref(), config.as_ref());
    let scratch = scratch_base(&args, config.as_ref());
    // All that can be wrong with the arguments shows before a repository is opened, which may take long.
    let sinks = match args.dry_run {
        true => None,
        false => Some(ready_sinks(&args, config.as_ref(), &specs, [&folder, &scratch])?),
    };

    let locations: Vec<_> = specs.iter().map(|s| (s.name.clone(), s.location.clone())).collect();
    let opening = watch.within(request.limits.timeout.map(|t| t.0));
    let copies = Arc::new(copies::open(specs, &opening).await);
    if config.is_none() {
        // With a config the other copies are drilled all the same; here there is no other.
        copies::refuse_unusable(&copies)?;
    }
    if folder.is_dir() {
        request.proven = proven(&Memory::open(&folder)?);
    }
    let plan = plan(&args, config.as_ref(), &locations, &copies, &request)?;
    let Some(mut sinks) = sinks else { return dry_run(&args, &plan, &copies) };

    let memory = Memory::open(&folder)?;
    let (run, run_folder) = state::new_run(&folder, started, request.seed)?;
    let writer = Arc::new(Writer::create(&run_folder, Arc::new(SystemClock))?);
    sinks.report_beside(&run_folder);
    // Without a config nobody knows whether another firedrill pushes to the same groups.
    sinks.covers_everything(config.is_some() && covers_everything(&args));
    let mut bench = bench(scratch, &run, &copies, &writer, &memory, &sinks, &watch);
    bench.runtime = runtime(&args, config.as_ref());
    if let Some(runtime) = &bench.runtime {
        tell_swept(runtime.sweep());
    }

    let sinks = Arc::new(Mutex::new(sinks));
    let listening = Arc::clone(&sinks);
    writer.listen(Box::new(move |record| {
        listening.lock().unwrap_or_else(PoisonError::into_inner).accept(record);
    }));
    writer.write(Event::RunStarted {
        run,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        command: command(request.seed),
        plan: Box::new(plan.clone()),
    })?;
    if let Err(error) = run::run(&plan, &bench).await {
        complain(&error);
    }
    let judgement = verdicts::judged(&run_folder)?;
    remember(&run_folder, &judgement, &memory);
    let mut sinks = sinks.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(sinks.finish(&judgement))
}

/// Sinks that can be written to, after a look at where this run is going to write.
fn ready_sinks(
    args: &RestoreTestArgs,
    config: Option<&Config>,
    specs: &[CopySpec],
    places: [&Path; 2],
) -> Result<Sinks> {
    let mut sinks = Sinks::new(&args.sinks, config)?;
    copies::keep_out(specs, sinks.files().iter().map(PathBuf::as_path).chain(places))?;
    sinks.covers_everything(covers_everything(args));
    sinks.preflight()?;
    Ok(sinks)
}

fn request(args: &RestoreTestArgs, config: Option<&Config>, now: Timestamp) -> Result<Request> {
    let settings = config.map(|c| c.restore_test.clone()).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let at = args.at.as_deref().map(time).transpose()?;
    Ok(Request {
        seed: args.seed.unwrap_or_else(fresh_seed),
        at: at.unwrap_or(now),
        filter: Filter {
            tags: args.tag.clone(),
            hosts: args.host.clone(),
            snapshots: args.snapshot.clone(),
            all_snapshots: args.all_snapshots,
            copies: args.copy.clone(),
            targets: args.target.clone(),
            pick: at.map_or(Pick::Latest, Pick::At),
        },
        limits: Limits {
            jobs: args.jobs.map(usize::from).or(settings.jobs).unwrap_or(cores.min(4)),
            scratch: args.scratch_limit.or(settings.scratch_limit),
            timeout: args.timeout.or(settings.timeout).or(Some(TIMEOUT)),
            keep: args.keep,
        },
        control: settings.control,
        proven: Vec::new(),
    })
}

/// What verified drills left behind. A baseline that cannot be read is told by the drill that needs it.
fn proven(memory: &Memory) -> Vec<(CopyName, Series)> {
    match memory.list() {
        Ok(all) => all.into_iter().filter_map(|b| b.ok()).map(|b| (b.copy, b.series)).collect(),
        Err(error) => {
            complain(&error);
            Vec::new()
        }
    }
}

/// A time as people write it: RFC 3339, or a date with or without a time of day in this time zone.
fn time(text: &str) -> Result<Timestamp> {
    let zone = jiff::tz::TimeZone::system();
    text.parse::<Timestamp>()
        .or_else(|_| {
            text.parse::<jiff::civil::DateTime>().and_then(|t| t.to_zoned(zone)).map(|z| z.timestamp())
        })
        .map_err(|e| {
            Error::new(ErrorKind::Usage, format!("understand the time {text}"))
                .from_source(&e)
                .advise("write it like 2026-03-08T04:00:00Z or 2026-03-08")
        })
}

#[expect(clippy::disallowed_methods, reason = "the one seed of a run; it is printed and can be given again")]
pub(crate) fn fresh_seed() -> u64 {
    use rand::Rng as _;
    // Short enough to be typed again.
    u64::from(rand::rng().next_u32())
}

fn plan(
    args: &RestoreTestArgs,
    config: Option<&Config>,
    locations: &[(CopyName, String)],
    copies: &BTreeMap<CopyName, OpenCopy>,
    request: &Request,
) -> Result<Plan> {
    let views: Vec<_> = locations
        .iter()
        .map(|(name, location)| CopyView {
            name: name.clone(),
            location: location.clone(),
            inventory: copies
                .get(name)
                .and_then(|copy| copy.inventory.as_ref().ok())
                .filter(|inventory| inventory.readable),
        })
        .collect();
    let mut plan = planner::plan(config, &views, request)?;
    if args.accept_recorded_owners {
        for drill in plan.drills.iter_mut().chain(plan.control.as_mut().map(|c| &mut c.drill)) {
            drill.probes.tree.owner = Proof::Recorded;
        }
    }
    Ok(plan)
}

fn dry_run(args: &RestoreTestArgs, plan: &Plan, copies: &BTreeMap<CopyName, OpenCopy>) -> Result<Exit> {
    let mut exit = if plan.drills.is_empty() { Exit::NothingSelected } else { Exit::Verified };
    for (name, copy) in copies {
        let problem = match &copy.inventory {
            Ok(inventory) => inventory.findings.first().map(|f| format!("{}: {}", f.location, f.seen)),
            Err(error) => Some(error.chain()),
        };
        if let Some(problem) = problem {
            note(format!("copy {name}: {problem}"));
            exit = exit.or(Exit::Inconclusive);
        }
    }
    if args.sinks.json {
        let text = serde_json::to_string_pretty(plan)
            .map_err(|e| Error::new(ErrorKind::Internal, "print the plan").from_source(&e))?;
        crate::print(&format!("{text}\n"));
    } else {
        let width = ConsoleOptions::detect(SummaryPlace::Stdout).width;
        crate::print(&render_plan(plan, width));
    }
    Ok(exit)
}

/// Whether this run looks at every tag of every copy, so that metrics of others may go.
fn covers_everything(args: &RestoreTestArgs) -> bool {
    args.copy.is_empty()
        && args.target.is_empty()
        && args.tag.is_empty()
        && args.host.is_empty()
        && args.snapshot.is_empty()
        && args.at.is_none()
}

fn scratch_base(args: &RestoreTestArgs, config: Option<&Config>) -> PathBuf {
    args.scratch
        .clone()
        .or_else(|| config.and_then(|c| c.restore_test.scratch.clone()))
        .unwrap_or_else(DirectoryScratch::default_base)
}

fn bench(
    scratch: PathBuf,
    run: &str,
    copies: &Arc<BTreeMap<CopyName, OpenCopy>>,
    writer: &Arc<Writer>,
    memory: &Memory,
    sinks: &Sinks,
    watch: &Watch,
) -> Bench {
    let scratch = DirectoryScratch::new(scratch, Arc::new(SystemClock));
    // What an earlier run left behind would take the space that this one needs.
    tell_swept(scratch.sweep());
    let memory = memory.clone();
    let console = sinks.console();
    Bench {
        run: run.to_owned(),
        copies: Arc::clone(copies),
        scratch: Arc::new(scratch),
        runtime: None,
        probes: Arc::new(firedrill_backends::probe::all()),
        sabotage: Arc::new(control::damage_lease),
        recall: Arc::new(move |copy, series| memory.get(copy, series)),
        observe: Arc::new(move |drill, progress| console.watch(drill, progress)),
        evidence: Arc::clone(writer),
        watch: watch.clone(),
    }
}

fn tell_swept(swept: Result<Swept>) {
    match swept {
        Ok(swept) if !swept.removed.is_empty() => {
            note(format!("swept {} leftovers of killed runs", swept.removed.len()))
        }
        Ok(_) => {}
        Err(error) => complain(&error),
    }
}

/// Where restored software runs.
fn runtime(args: &RestoreTestArgs, config: Option<&Config>) -> Option<Arc<dyn Runtime>> {
    let mut settings = config.map(|c| c.runtime.clone()).unwrap_or_default();
    settings.kind = args.runtime.map_or(settings.kind, RuntimeKind::from);
    firedrill_backends::runtime::from_config(&settings)
}

/// Keeps what was proven. A failure is told and changes nothing about the verdict.
fn remember(run_folder: &Path, judgement: &firedrill_core::judge::Judgement, memory: &Memory) {
    let evidence = match evidence::read(run_folder) {
        Ok(evidence) => evidence,
        Err(error) => return complain(&error),
    };
    for baseline in learn(&evidence, judgement) {
        // A drill of an older state (`--at`) teaches nothing that is not known. What cannot be kept must not
        // cost the others their memory.
        let kept = match memory.get(&baseline.copy, &baseline.series) {
            Ok(Some(known)) if !baseline.supersedes(&known) => Ok(()),
            _ => memory.put(&baseline),
        };
        if let Err(error) = kept {
            complain(&error);
        }
    }
}

/// The command that repeats this run: as typed, without secrets, and with the seed.
fn command(seed: u64) -> String {
    let mut words: Vec<String> =
        std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    if let Some(first) = words.first_mut() {
        *first = "firedrill".to_owned();
    }
    hide_secrets(&mut words);
    if !words.iter().any(|word| word == "--seed" || word.starts_with("--seed=")) {
        words.extend(["--seed".to_owned(), seed.to_string()]);
    }
    shell_words::join(words)
}

/// The arguments of a command that tells a password may be one; the name of its program is not. The value of
/// an option may be anything; its key is not secret. Addresses lose their user part.
fn hide_secrets(words: &mut [String]) {
    let mut before = String::new();
    for word in words {
        let shown = match (before.as_str(), word.split_once('=')) {
            ("--password-command", _) => first_part(word, char::is_whitespace, " "),
            ("--option" | "-o", _) => first_part(word, |c| c == '=', "="),
            (_, Some((name @ "--password-command", own))) => {
                format!("{name}={}", first_part(own, char::is_whitespace, " "))
            }
            (_, Some((name @ "--option", own))) => format!("{name}={}", first_part(own, |c| c == '=', "=")),
            _ => redact_address(word),
        };
        before = std::mem::replace(word, shown);
    }
}

fn first_part(text: &str, ends: impl Fn(char) -> bool, end: &str) -> String {
    match text.trim().split_once(ends) {
        Some((first, _)) => format!("{first}{end}***"),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::hide_secrets;

    #[test]
    fn the_command_that_repeats_a_run_holds_no_secret() {
        let mut words = [
            "firedrill",
            "--password-command",
            "echo hunter2",
            "--password-command=echo hunter2",
            "-o",
            "key=hunter2",
            "--option=key=hunter2",
            "-r",
            "rest:http://user:hunter2@host/x",
        ]
        .map(str::to_owned);
        hide_secrets(&mut words);
        assert_eq!(
            words.join(" "),
            "firedrill --password-command echo *** --password-command=echo *** -o key=*** --option=key=*** \
             -r rest:http://***@host/x"
        );
    }
}
