//! `firedrill jobs`: what is known of each job.

use firedrill_core::clock::{Clock as _, SystemClock};
use firedrill_core::error::Result;
use firedrill_core::pipeline::scheduler::Scheduler;
use firedrill_core::pipeline::state::JobState;
use firedrill_core::verdict::Exit;
use firedrill_reports::console::table;
use jiff::Timestamp;
use serde_json::json;

use super::Fleet;
use crate::args::JobsArgs;

pub(crate) fn jobs(args: &JobsArgs) -> Result<Exit> {
    let fleet = Fleet::open(&args.fleet)?;
    let scheduler = Scheduler::new(fleet.jobs.clone(), 1);
    let now = SystemClock.now();
    let mut exit = Exit::Verified;
    let (mut rows, mut list) = (Vec::new(), Vec::new());
    for spec in &fleet.jobs {
        let known = fleet.ledger.read(&spec.name);
        let dead = known.as_ref().is_ok_and(|state| is_dead(&fleet, state));
        if dead || known.as_ref().map_or(true, |state| state.failures > 0) {
            exit = Exit::Failed;
        }
        let next = known.as_ref().ok().and_then(|state| {
            let mut state = state.clone();
            state.handled = state.handled.or(Some(now));
            scheduler.next_start(spec, &state)
        });
        let schedule = spec.schedule.as_ref().map_or("by hand".to_owned(), ToString::to_string);
        let (last, success) = match &known {
            Ok(state) => (
                last(state, dead),
                state.last_success.as_ref().map_or("never".to_owned(), |run| when(run.ended)),
            ),
            Err(error) => (error.chain(), "not known".to_owned()),
        };
        list.push(json!({
            "job": spec.name,
            "kind": spec.kind.word(),
            "schedule": spec.schedule,
            "next": next,
            "state": known.as_ref().ok(),
            "dead": dead,
            "error": known.as_ref().err(),
        }));
        let next = next.map_or(String::new(), when);
        rows.push(vec![spec.name.0.clone(), spec.kind.word().to_owned(), schedule, next, last, success]);
    }
    let text = match args.json {
        true => format!("{:#}\n", serde_json::Value::Array(list)),
        false => {
            format!("{}\n", table(&["job", "kind", "schedule", "next", "last run", "last success"], rows))
        }
    };
    crate::print(&text);
    Ok(exit)
}

/// Whether a run goes on of which nobody holds the lock any more. The next run, or the server, takes note of it.
fn is_dead(fleet: &Fleet, state: &JobState) -> bool {
    if state.running.is_none() || !matches!(fleet.ledger.lock(&state.job), Ok(Some(_))) {
        return false;
    }
    // It may have ended since its state was read.
    fleet.ledger.read(&state.job).is_ok_and(|now| now.running == state.running)
}

fn last(state: &JobState, dead: bool) -> String {
    if let Some(running) = &state.running {
        if dead {
            return format!("died in the run since {}", when(running.started));
        }
        return format!("running since {}", when(running.started));
    }
    match state.last() {
        None => "never".to_owned(),
        Some(run) => {
            let again = state
                .retry
                .as_ref()
                .map_or(String::new(), |retry| format!(", tried again after {}", when(retry.not_before)));
            format!("{} {}{again}", run.outcome.word().replace('_', " "), when(run.ended))
        }
    }
}

fn when(at: Timestamp) -> String {
    at.strftime("%F %H:%MZ").to_string()
}
