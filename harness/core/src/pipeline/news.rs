//! What people have to be told: what went bad, what is still bad, what is well again. Once, and all in one message.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::job::Outcome;
use super::ledger::Ledger;
use super::spec::JobName;
use super::state::{JobState, Run};
use crate::error::Result;
use crate::watch::Watch;

/// What is still bad is told again after this time.
pub const REPEAT: Duration = Duration::from_secs(24 * 3600);
/// Somebody else may be telling for this long.
const PATIENCE: Duration = Duration::from_secs(60);

/// One line of news.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Item {
    /// The job.
    pub job: JobName,
    /// What happened, in a few words.
    pub text: String,
    /// Since when it is so.
    pub since: Timestamp,
}

/// A message to people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Message {
    /// Went bad since they were told last.
    pub bad: Vec<Item>,
    /// Went bad before, and still is.
    pub still_bad: Vec<Item>,
    /// Is well again.
    pub well: Vec<Item>,
}

impl Message {
    /// A headline.
    pub fn title(&self) -> String {
        let names =
            |items: &[Item]| items.iter().map(|item| item.job.0.as_str()).collect::<Vec<_>>().join(", ");
        let mut parts = Vec::new();
        for (items, what) in
            [(&self.bad, "failed"), (&self.still_bad, "still failing"), (&self.well, "well again")]
        {
            match items.len() {
                0 => {}
                n if n > 3 => parts.push(format!("{n} jobs {what}")),
                _ => parts.push(format!("{} {what}", names(items))),
            }
        }
        parts.join("; ")
    }

    /// Everything, one line for each.
    pub fn text(&self) -> String {
        let line =
            |item: &Item| format!("{}: {} (since {})", item.job, item.text, item.since.strftime("%F %H:%MZ"));
        let all = self.bad.iter().chain(&self.still_bad).chain(&self.well);
        all.map(line).collect::<Vec<_>>().join("\n")
    }
}

/// Whether a message came to people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Brought {
    /// At least one way worked, or there is none.
    Yes,
    /// None worked, which was said before. It is tried again later.
    Later,
}

/// Brings a message to people. All of its ways may be tried. An error is one that nobody has heard of yet.
pub trait Messenger: Send + Sync {
    /// Brings it.
    fn bring(&self, message: &Message) -> Result<Brought>;
}

/// What people were told last about a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// That it is bad.
    pub bad: bool,
    /// When.
    pub at: Timestamp,
}

/// Tells what there is to tell about `jobs`, and remembers it once it was brought: what could not be brought is told
/// the next time. Returns what was told.
pub fn tell(
    ledger: &Ledger,
    jobs: &[JobName],
    messenger: &dyn Messenger,
    now: Timestamp,
    repeat: Duration,
) -> Result<Option<Message>> {
    let lock = ledger.lock_told(&Watch::unlimited().within(Some(PATIENCE)))?;
    let mut told = ledger.told()?;
    let repeat = SignedDuration::try_from(repeat).unwrap_or(SignedDuration::MAX);
    let mut message = Message::default();
    let mut waiting = Vec::new();
    let mut changed = BTreeMap::new();
    for job in jobs {
        // What cannot be read is told by whoever wants to run the job.
        let Ok(state) = ledger.read(job) else { continue };
        let Some(bad) = is_bad(&state) else { continue };
        let known = told.get(job);
        let item = || item(&state);
        match (bad, known.is_some_and(|known| known.bad)) {
            (true, false) => message.bad.extend(item()),
            (true, true) => {
                let due = known.is_none_or(|known| now.duration_since(known.at) >= repeat);
                if !due {
                    waiting.extend(item());
                    continue;
                }
                message.still_bad.extend(item());
            }
            (false, true) => message.well.extend(item()),
            (false, false) => match died(&state, known.map(|known| known.at)) {
                Some(item) => message.well.push(item),
                None => continue,
            },
        }
        changed.insert(job.clone(), Told { bad, at: now });
    }
    if changed.is_empty() {
        return Ok(None);
    }
    // Whoever is told anything hears of everything that is bad.
    message.still_bad.extend(waiting);
    if messenger.bring(&message)? == Brought::Later {
        return Ok(None);
    }
    told.extend(changed);
    ledger.keep_told(&lock, &told)?;
    Ok(Some(message))
}

/// Whether a job is bad; `None` while that is open: it is tried again, or never ran.
fn is_bad(state: &JobState) -> Option<bool> {
    state.last()?;
    // From its start on a retry is no longer waited for, and its end is not known yet.
    if state.running.as_ref().is_some_and(|attempt| attempt.number > 1) {
        return None;
    }
    match (state.failures, &state.retry) {
        (0, _) => Some(false),
        (_, Some(_)) => None,
        _ => Some(true),
    }
}

/// A job that is well, and died since people were told last: nobody may kill it again and again unheard, or take the
/// memory away that it needs. Other failures that a retry healed are no news.
fn died(state: &JobState, told: Option<Timestamp>) -> Option<Item> {
    // Who was never told anything hears of what the newest run healed, and of no older stories.
    let before = state.runs.len().saturating_sub(1);
    let well = state.runs.iter().take(before).rposition(|run| run.outcome == Outcome::Succeeded);
    let recent = state.runs.iter().skip(if told.is_none() { well.map_or(0, |at| at + 1) } else { 0 });
    let since_told = |run: &&Run| told.is_none_or(|told| run.ended > told);
    let dead = || recent.clone().filter(since_told).filter(|run| run.outcome == Outcome::Died);
    let first = dead().next()?;
    let last = state.last().filter(|last| last.outcome != Outcome::Died)?;
    let when = |at: Timestamp| at.strftime("%F %H:%MZ").to_string();
    let text = match dead().count() {
        1 => format!(
            "died in the run of {}, and {} at {}",
            when(first.started),
            last.outcome.word(),
            when(last.ended)
        ),
        n => format!("died {n} times, and {} at {}", last.outcome.word(), when(last.ended)),
    };
    Some(Item { job: state.job.clone(), text, since: first.ended })
}

fn item(state: &JobState) -> Option<Item> {
    let last = state.last()?;
    let bad = state.runs.iter().rev().take_while(|run| run.outcome != Outcome::Succeeded).last();
    let text = match (&last.error, state.failures) {
        (_, 0) => "succeeded".to_owned(),
        (Some(error), _) => format!("{}: {}", last.outcome.word(), error.chain()),
        (None, _) => last.outcome.word().to_owned(),
    };
    Some(Item { job: state.job.clone(), text, since: bad.unwrap_or(last).ended })
}
