//! `firedrill serve`: starts every job at its time, until it is told to stop.

use std::time::Duration;

use firedrill_backends::repository::access::Environment;
use firedrill_core::clock::{Clock as _, SystemClock};
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::pipeline::runner::Bench;
use firedrill_core::pipeline::scheduler::Scheduler;
use firedrill_core::pipeline::serve::look;
use firedrill_core::verdict::Exit;
use firedrill_core::watch::Watch;
use std::fs::TryLockError;
use std::sync::mpsc::SyncSender;

use super::hands::Processes;
use super::people::People;
use super::{Fleet, shown};
use crate::args::ServeArgs;
use crate::{complain, note, stop};

/// How often processes are looked after.
const GLANCE: Duration = Duration::from_millis(200);

pub(crate) fn serve(args: &ServeArgs, verbose: u8) -> Result<Exit> {
    let fleet = Fleet::open(&args.fleet)?;
    let _only = only_one(&fleet)?;
    let people = People::of(&fleet.config, None, &Environment::capture())?;
    stop::blocking(&Watch::unlimited(), |watch| until_stopped(args, &fleet, &people, verbose, watch))
}

/// Two servers of one fleet would not hurt it, but each other's patience.
fn only_one(fleet: &Fleet) -> Result<std::fs::File> {
    let path = fleet.state.join("serve.lock");
    let failed = || Error::new(ErrorKind::Usage, "serve");
    let file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|e| failed().because(shown(&path)).from_source(&e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(failed().because("another `firedrill serve` uses this state folder").advise("stop it first"))
        }
        Err(TryLockError::Error(e)) => Err(failed().because(shown(&path)).from_source(&e)),
    }
}

fn until_stopped(
    args: &ServeArgs,
    fleet: &Fleet,
    people: &People,
    verbose: u8,
    watch: &Watch,
) -> Result<Exit> {
    let scheduler = Scheduler::new(fleet.jobs.clone(), usize::from(args.parallel));
    let mut hands = Processes::new(fleet.file.clone(), fleet.state.clone(), verbose);
    let (work, observers) = (fleet.work(), people.observers());
    let bench = Bench {
        ledger: &fleet.ledger,
        clock: &SystemClock,
        watch: watch.clone(),
        work: &work,
        observers: &observers,
    };
    let planned = fleet.jobs.iter().filter(|job| job.schedule.is_some()).count();
    note(format!("serving {planned} jobs of {}", fleet.file.display()));
    let (news, told) = std::sync::mpsc::sync_channel(1);
    std::thread::scope(|scope| {
        // Whoever is told may be slow to listen, and no job waits for that.
        scope.spawn(move || {
            told.iter().for_each(|()| {
                people.tell(fleet, SystemClock.now());
            })
        });
        serve_on(&scheduler, &bench, &mut hands, &news);
        if hands.count() > 0 {
            note(format!("stopping {} running jobs", hands.count()));
        }
        hands.end_all();
        let _ = news.send(());
        drop(news);
    });
    Ok(Exit::Verified)
}

fn serve_on(scheduler: &Scheduler, bench: &Bench<'_>, hands: &mut Processes, news: &SyncSender<()>) {
    let mut troubles_before = Vec::new();
    let watch = &bench.watch;
    while !watch.stopped() {
        let looked = look(scheduler, bench, hands);
        looked.told.iter().for_each(note);
        // What is wrong for hours is told once.
        let troubles: Vec<String> = looked.troubles.iter().map(Error::chain).collect();
        if troubles != troubles_before {
            looked.troubles.iter().for_each(complain);
            troubles_before = troubles;
        }
        // When it is full, somebody is about to be told anyway.
        let _ = news.try_send(());
        while !watch.stopped() && SystemClock.now() < looked.wake && !hands.any_ended() {
            hands.enforce();
            std::thread::sleep(GLANCE);
        }
    }
}
