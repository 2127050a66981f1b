//! `firedrill run JOB`: one job, once.

use std::time::Duration;

use firedrill_backends::repository::access::Environment;
use firedrill_core::clock::{Clock as _, SystemClock};
use firedrill_core::error::{Error, Result};
use firedrill_core::pipeline::job::{Facts, Job, JobOrder, JobReport, Outcome};
use firedrill_core::pipeline::runner::{self, Bench, Turn};
use firedrill_core::pipeline::spec::JobSpec;
use firedrill_core::pipeline::state::Run;
use firedrill_core::verdict::Exit;
use firedrill_core::watch::Watch;

use super::people::People;
use super::{Fleet, GRACE, made};
use crate::args::RunJobArgs;
use crate::{note, stop};

pub(crate) fn run(args: &RunJobArgs) -> Result<Exit> {
    let fleet = Fleet::open(&args.fleet)?;
    let spec = fleet.job(&args.job)?;
    let people = People::of(&fleet.config, Some(spec), &Environment::capture())?;
    let turn = Turn { slot: args.slot, number: args.attempt.max(1) };
    let ended = stop::blocking(&Watch::unlimited(), |watch| once(&fleet, spec, turn, &people, watch.clone()));
    let told = people.tell(&fleet, SystemClock.now());
    let run = ended?;
    note(line(spec, &run));
    let exit = match run.outcome {
        Outcome::Succeeded | Outcome::Skipped => Exit::Verified,
        Outcome::Cancelled => Exit::Inconclusive,
        Outcome::Incomplete | Outcome::Failed | Outcome::TimedOut | Outcome::Died => Exit::Failed,
    };
    Ok(if told { exit } else { exit.or(Exit::SinkFailed) })
}

fn once(fleet: &Fleet, spec: &JobSpec, turn: Turn, people: &People, watch: Watch) -> Result<Run> {
    // What is wrong with a copy is an ended run, like everything that goes wrong with a job.
    let job: Box<dyn Job> = match made::job(fleet, spec) {
        Ok(job) => job,
        Err(error) => Box::new(Broken(error)),
    };
    kill_if_late(spec.deadline());
    let work = fleet.work();
    let observers = people.observers();
    let bench =
        Bench { ledger: &fleet.ledger, clock: &SystemClock, watch, work: &work, observers: &observers };
    runner::run(spec, job.as_ref(), turn, &bench)
}

/// A job that could not be put together.
struct Broken(Error);

impl Job for Broken {
    fn run(&self, _: &JobOrder<'_>) -> JobReport {
        JobReport::failed(self.0.clone())
    }
}

/// A library that hangs does not hear of a deadline. The process ends, its locks with it, and the next run tells.
pub(super) fn kill_if_late(deadline: Duration) {
    std::thread::spawn(move || {
        std::thread::sleep(deadline.saturating_add(GRACE));
        note("the job did not keep its deadline; its process ends");
        stop::leave();
    });
}

/// What was made, as people call it: a snapshot by the start of its id, an object by its whole name.
fn shown(made: &str) -> &str {
    let snapshot = made.len() == 64 && made.bytes().all(|byte| byte.is_ascii_hexdigit());
    made.get(..8).filter(|_| snapshot).unwrap_or(made)
}

/// One line about a run.
pub(super) fn line(spec: &JobSpec, run: &Run) -> String {
    let mut line =
        format!("{} {} after {:.1} s", spec.name, run.outcome.word().replace('_', " "), run.seconds());
    match &run.facts {
        Facts::Backup(backup) => {
            if let Some(made) = &backup.made {
                line.push_str(&format!(": {}", shown(made)));
            }
            line.push_str(&format!(
                ", {} new, {} changed, {} unmodified files",
                backup.files_new, backup.files_changed, backup.files_unmodified
            ));
        }
        Facts::Retention(retention) => {
            line.push_str(&format!(": {} snapshots kept, {} dropped", retention.kept, retention.dropped));
        }
        Facts::Mirror(mirror) => line.push_str(&format!(": {} files copied", mirror.files_copied)),
        Facts::Check(check) => {
            line.push_str(&format!(": {} of {} packs read", check.packs_read, check.packs))
        }
        Facts::Statistics(_) | Facts::RestoreTest(_) | Facts::None => {}
    }
    if let Some(error) = &run.error {
        line.push_str(&format!(": {}", error.chain()));
    }
    for text in &run.notes {
        line.push_str(&format!("\n  {text}"));
    }
    firedrill_core::secret::redact_urls(&line)
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn a_snapshot_has_a_short_name_and_an_object_has_none() {
        assert_eq!(shown(&"0123456789abcdef".repeat(4)), "01234567");
        for object in ["dumps/wiki/wiki-20260211-154344.sql.gz", "a.dump", "0123456789abcdef"] {
            assert_eq!(shown(object), object);
        }
    }
}
