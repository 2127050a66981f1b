//! Invariants about databases in dumps and data folders: each of these is loaded once, and asked everything.

use firedrill_core::config::databases::Engine;
use firedrill_core::config::trials::InvariantConfig;

use super::invariant;
use crate::probe::engine::served::{Backup, Unfound, Wanted, serve};
use crate::probe::engine::session::Session;

/// A backup, and what is asked of it.
type Asked<'s> = ((Engine, &'s str), Vec<&'s InvariantConfig>);

/// Examines all invariants that need an engine.
pub(super) fn examine(session: &mut Session<'_>) {
    let mut all: Vec<Asked<'_>> = Vec::new();
    for invariant in &session.subject.drill.trials.invariants {
        match (invariant.query.backup(), &invariant.query.sqlite) {
            (Some(backup), None) => match all.iter_mut().find(|(known, _)| *known == backup) {
                Some((_, invariants)) => invariants.push(invariant),
                None => all.push((backup, vec![invariant])),
            },
            (None, Some(_)) => {}
            // The config was checked; a plan from elsewhere was not.
            _ => interrupt(session, &[invariant], "its query names no backup, or several"),
        }
    }
    for ((engine, path), invariants) in all {
        if let Err(why) = one(session, engine, path, &invariants) {
            interrupt(session, &invariants, &why);
        }
    }
}

fn interrupt(session: &mut Session<'_>, invariants: &[&InvariantConfig], why: &str) {
    let names: Vec<_> = invariants.iter().map(|invariant| format!("`{}`", invariant.name)).collect();
    session.examination.interrupt(format!("the invariant {}: {why}", names.join(", ")));
}

/// Loads one backup, and asks it. `Err` says why that was not possible.
fn one(
    session: &mut Session<'_>,
    engine: Engine,
    path: &str,
    invariants: &[&InvariantConfig],
) -> Result<(), String> {
    let seen = match Backup::find(session, engine, path) {
        Ok(backup) => return ask(session, &backup, invariants),
        Err(Unfound::Nothing) => format!("no backup of {engine} at {path} in the snapshot"),
        Err(Unfound::Other(what)) => format!("{path} is no backup of {engine} but {what}"),
        Err(Unfound::Ours(why)) => return Err(why),
        Err(Unfound::Told) => return Ok(()),
    };
    for invariant in invariants {
        invariant::absent(invariant, seen.clone(), &mut session.examination);
    }
    Ok(())
}

fn ask(session: &mut Session<'_>, backup: &Backup, invariants: &[&InvariantConfig]) -> Result<(), String> {
    let cell = session.cell(&[backup.kit()], &[]).map_err(|e| e.chain())?;
    let wanted: Vec<_> = invariants
        .iter()
        .map(|invariant| Wanted { backup, database: invariant.query.database.as_deref(), account: None })
        .collect();
    // What is wrong with the backup is on record.
    let Some(server) = serve(session, cell.as_ref(), &wanted, None) else { return Ok(()) };
    for (number, invariant) in invariants.iter().enumerate() {
        let subject = session.subject;
        let answer = server.rows(subject, number, &invariant.query.sql);
        if let Err(why) = invariant::compare(subject, invariant, answer, &mut session.examination) {
            interrupt(session, &[invariant], &why);
        }
    }
    drop(server);
    if let Err(error) = cell.close() {
        session.note(error.chain());
    }
    Ok(())
}
