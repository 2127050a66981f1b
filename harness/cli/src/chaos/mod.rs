//! `firedrill chaos` and `firedrill faults`.

mod faults;
mod shown;
mod test;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use firedrill_backends::mirror::{MirrorRequest, identical};
use firedrill_backends::repository::location::{Access, Environment, Location};
use firedrill_backends::scratch::directory::DirectoryScratch;
use firedrill_core::clock::{Clock as _, SystemClock};
use firedrill_core::config::{BackupKind, Config, CopyConfig, Role};
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::plan::DrillName;
use firedrill_core::ports::{Lease, LeaseRequest, Scratch as _};
use firedrill_core::progress::Progress;
use firedrill_core::seed;
use firedrill_core::snapshot::CopyName;
use firedrill_core::verdict::Exit;
use firedrill_core::watch::Watch;
use firedrill_scenarios::chaos::{Campaign, FAULTS, Fault, Report};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;

use crate::args::ChaosArgs;
use crate::{copies, note, print, stop};

pub(crate) use faults::faults;

pub(crate) fn chaos(args: &ChaosArgs) -> Result<Exit> {
    let config = crate::config::load(&args.config)?;
    let copy = chosen_copy(&config, args.copy.as_deref())?;
    let seed = args.seed.unwrap_or_else(crate::restore_test::fresh_seed);
    let faults = chosen_faults(args, seed)?;
    let watch = Watch::unlimited().within(Some(args.timeout.0));
    if let Some(file) = &args.json_file {
        writable(file)?;
    }
    let report = stop::blocking(&watch, |watch| campaign(args, &config, copy, &faults, seed, watch))?;
    print(&shown::report(&report));
    if let Some(file) = &args.json_file {
        write_json(file, &report)?;
    }
    Ok(exit(&report))
}

/// Survivors and alarms for nothing are failures of the restore test; what we could not do proves nothing.
fn exit(report: &Report) -> Exit {
    match () {
        () if report.survivors().next().is_some() || !report.alarms.alarms.is_empty() => Exit::Failed,
        () if report.score.broken > 0 || !report.trouble.is_empty() || report.score.injected == 0 => {
            Exit::Inconclusive
        }
        () => Exit::Verified,
    }
}

/// The copy that is named, or the first that backups are written to.
fn chosen_copy<'c>(config: &'c Config, name: Option<&str>) -> Result<&'c CopyConfig> {
    let copy = match name {
        Some(name) => copies::known_copy(config, &CopyName(name.to_owned()))?,
        None => {
            let suits = |copy: &&CopyConfig| copy.kind == BackupKind::Restic && copy.role == Role::Primary;
            config.copies.iter().find(suits).ok_or_else(|| {
                Error::new(ErrorKind::Usage, "choose a copy to break a copy of")
                    .because("the config has no primary copy that is a restic repository")
            })?
        }
    };
    match copy.kind {
        BackupKind::Restic => Ok(copy),
        kind => Err(Error::new(ErrorKind::Usage, format!("break a copy of {}", copy.name))
            .because(format!("it holds {kind} backups; so far there are faults for restic repositories"))),
    }
}

fn chosen_faults(args: &ChaosArgs, seed: u64) -> Result<Vec<&'static Fault>> {
    for name in &args.fault {
        faults::known(name)?;
    }
    let by_name = |fault: &&Fault| args.fault.is_empty() || args.fault.iter().any(|name| name == fault.name);
    let by_class = |fault: &&Fault| {
        args.class.is_empty() || args.class.iter().any(|class| class.as_class() == fault.class)
    };
    let mut faults: Vec<_> = FAULTS.iter().filter(by_name).filter(by_class).collect();
    if let Some(sample) = args.sample {
        faults.shuffle(&mut StdRng::seed_from_u64(seed::child(seed, "sample")));
        faults.truncate(sample.get());
    }
    match faults.is_empty() {
        true => Err(Error::new(ErrorKind::Usage, "choose faults")
            .because("none of these classes has one of these names")
            .advise("`firedrill faults` lists them")),
        false => Ok(faults),
    }
}

fn campaign(
    args: &ChaosArgs,
    config: &Config,
    copy: &CopyConfig,
    faults: &[&Fault],
    seed: u64,
    watch: &Watch,
) -> Result<Report> {
    let env = Environment::capture();
    let place = copies::place(copy, &env)?;
    let password = place.password.read()?;
    let canary_key =
        copies::canary_key(config, &env)?.unwrap_or_else(|| firedrill_core::canary::derive_key(&password));
    let scratch = args.scratch.clone().or_else(|| config.restore_test.scratch.clone());
    let scratch = scratch.unwrap_or_else(DirectoryScratch::default_base);
    let specs = copies::from_config(config, std::slice::from_ref(&copy.name))?;
    copies::keep_out(&specs, [scratch.as_path()].into_iter().chain(args.json_file.as_deref()))?;
    let lease = lease(args, scratch, seed)?;
    let base = lease.data().join("base");
    note(format!("copying {} to {}", place.location, base.display()));
    let skipped = clone(&place.location, &place.access.watched(watch), &base, watch)?;
    skipped.iter().for_each(note);
    let test = test::Command::new(args, &copy.name, lease.work(), watch)?;
    let campaign = Campaign {
        base: &base,
        work: lease.data(),
        password: &password,
        canary_key: Some(&canary_key),
        test: &test,
        clock: &SystemClock,
        watch,
    };
    let mut done = 0;
    let all = faults.len() as u64 * args.rounds.get();
    let report = campaign.run(faults, args.rounds.get(), seed, &mut |trial| {
        done += 1;
        note(format!("{done}/{all} {}", shown::trial(trial)));
    });
    let report = report.map_err(|error| match watch.check() {
        Err(stopped) => stopped,
        Ok(()) => Error::new(ErrorKind::Unavailable, "break copies").because(format!("{error:#}")),
    })?;
    lease.release(false)?;
    Ok(report)
}

/// The one place that faults can reach.
fn lease(args: &ChaosArgs, base: PathBuf, seed: u64) -> Result<Lease> {
    let scratch = DirectoryScratch::new(base, Arc::new(SystemClock));
    let drill = DrillName("chaos".to_owned());
    let run = format!("{}-{seed:x}", SystemClock.now().strftime("%Y%m%dT%H%M%S%.fZ"));
    scratch.provision(&LeaseRequest { run: &run, drill: &drill, lifetime: args.timeout.0, bytes: None })
}

/// Copies the repository, file by file and proven by their names, without its key. Returns what is damaged already
/// and was not copied.
fn clone(from: &Location, access: &Access, to: &Path, watch: &Watch) -> Result<Vec<String>> {
    let source = from.open(access)?;
    let copy = Location::Local(PathBuf::from(to))
        .open_writable(&Access::from_environment(Environment::default()))?;
    let request = MirrorRequest { workers: 2, read_back: false, ..MirrorRequest::default() };
    let mirrored = identical(&source, &copy, &request, &Progress::default(), watch);
    match mirrored.error {
        Some(error) => Err(error),
        None => Ok(mirrored.notes),
    }
}

/// Fails now rather than after hours.
fn writable(file: &Path) -> Result<()> {
    let is_new = !file.exists();
    let opened = std::fs::OpenOptions::new().create(true).append(true).open(file);
    // An empty report would pass for one.
    let tried = opened.and_then(|_| if is_new { std::fs::remove_file(file) } else { Ok(()) });
    tried.map_err(|error| {
        Error::new(ErrorKind::Usage, format!("write {}", file.display())).from_source(&error)
    })
}

fn write_json(file: &Path, report: &Report) -> Result<()> {
    let failed = || Error::new(ErrorKind::Usage, format!("write {}", file.display()));
    let json = serde_json::to_vec_pretty(report).map_err(|error| failed().from_source(&error))?;
    std::fs::write(file, json).map_err(|error| failed().from_source(&error))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A report of so many detected, missed and broken trials.
    fn ended(detected: u64, missed: bool, broken: u64, alarms: &[&str], trouble: &[&str]) -> Exit {
        let missed = if missed {
            json!([{"fault": "data-bit", "class": "repository", "seed": 1, "outcome": "missed", "bystanders": 0,
                    "alarms": [], "seconds": 1.0}])
        } else {
            json!([])
        };
        let report = json!({
            "chaos": 1, "seed": 1, "rounds": 1, "tags": ["a"], "not_verified": [], "trials": missed,
            "score": {"injected": detected, "detected": detected, "lucky": 0, "missed": 0, "not_applicable": 0,
                      "broken": broken},
            "classes": {}, "probes": {}, "trouble": trouble,
            "alarms": {"drills": 1, "alarms": alarms, "rate_max": 0.5},
        });
        exit(&serde_json::from_value(report).unwrap())
    }

    #[test]
    fn only_what_was_shown_is_green() {
        assert_eq!(ended(3, false, 0, &[], &[]), Exit::Verified);
        assert_eq!(ended(3, true, 0, &[], &[]), Exit::Failed);
        assert_eq!(ended(3, false, 0, &["primary::a::latest"], &[]), Exit::Failed);
        assert_eq!(ended(3, false, 1, &[], &[]), Exit::Inconclusive);
        assert_eq!(ended(0, false, 0, &[], &[]), Exit::Inconclusive);
        assert_eq!(ended(3, false, 0, &[], &["it was stopped"]), Exit::Inconclusive);
        assert_eq!(ended(3, true, 1, &[], &["it was stopped"]), Exit::Failed);
    }
}
