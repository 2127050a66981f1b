//! The application itself: it is started on a copy of the restored data in a sealed cell, and must answer.
//!
//! *Verified*
//! - What the config gives the application is in the snapshot, and its databases can be loaded.
//! - It starts on it, with the servers and after the steps that it needs.
//! - Each request of the config is answered with the status, the text and the values that are wanted.
//! - How long a person would wait for the first good answer.
//!
//! *Not verified*
//! - What nobody asks it. An application that answers from memory, or a page that is the same without data, is
//!   green: ask for something that only the data can tell.
//! - What it does with other machines: it cannot reach any, and what it says about that is no finding.
//! - Its rights in a database, where the backup does not bring its role along: then it may do everything.
//! - Other versions of it than the one that the runtime has.

mod databases;
mod http;
mod judge;
mod log;
#[cfg(test)]
mod mariadb;
#[cfg(test)]
mod miniflux;
#[cfg(test)]
mod postgres;
#[cfg(test)]
mod powerdns;
mod start;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use firedrill_core::cell::{Cell, Service};
use firedrill_core::config::trials::{AppConfig, HttpCheck};
use firedrill_core::event::Phase;
use firedrill_core::finding::{Examination, Finding};
use firedrill_core::plan::APP_PROBE;
use firedrill_core::ports::Probe;
use firedrill_core::subject::Subject;

use self::http::{Answer, Silence, ask, reachable};
use self::judge::{Mismatch, mismatches, name};
use self::start::{Started, Stop};
use super::engine::session::Session;

/// It did not come up.
const START: &str = "app.start";
/// It came up, and did not answer well.
const ANSWER: &str = "app.answer";
/// What it needs is not in the snapshot.
const DATA: &str = "app.data";
/// How often one that starts is asked.
const PAUSE: Duration = Duration::from_millis(100);
/// How often a request is tried whose connection ended without an answer.
const TRIES: u32 = 3;

/// Starts the application.
#[derive(Clone, Copy, Debug, Default)]
pub struct AppProbe;

impl Probe for AppProbe {
    fn name(&self) -> &'static str {
        APP_PROBE
    }

    fn recognises(&self, subject: &Subject) -> bool {
        subject.drill.trials.app.is_some()
    }

    fn examine(&self, subject: &Subject) -> Examination {
        let mut session = Session::new(subject, APP_PROBE, "answers");
        if let Some(app) = &subject.drill.trials.app
            && let Err(stop) = try_app(&mut session, app)
        {
            match stop {
                Stop::Told => {}
                Stop::Finding(finding) => session.find(*finding),
                Stop::Trouble(why) => session.examination.interrupt(why),
            }
        }
        session.finish()
    }
}

fn try_app(session: &mut Session<'_>, app: &AppConfig) -> Result<(), Stop> {
    let data = start::data(session, app)?;
    let backups = databases::find(session, app)?;
    let kits = databases::kits(app, &backups);
    let begun = Instant::now();
    let cell = session.cell(&kits, &app.aliases).map_err(|e| Stop::Trouble(e.chain()));
    let cell = cell.inspect_err(|_| session.spent(Phase::Start, begun.elapsed()))?;
    for software in &cell.facts().software {
        let version = software.version.map(|version| format!(" {version}")).unwrap_or_default();
        session.note(format!(
            "uses {}{version} from {} ({})",
            software.kit,
            software.from,
            cell.facts().runtime
        ));
    }
    let brought = start::bring_all(session.subject, cell.as_ref(), app, &data);
    session.spent(Phase::Start, begun.elapsed());
    brought?;
    // A recovery loads them once, and that is what the probes of the engines do.
    let servers = session.aside(|session| databases::load(session, cell.as_ref(), app, &backups))?;
    let started =
        session.timed(Phase::Start, |session| start::start(session.subject, cell.as_ref(), app, servers))?;
    let talk = Talk { subject: session.subject, cell: cell.as_ref(), app, started: &started };
    session.timed(Phase::Answer, |session| talk.first(session))?;
    session.timed(Phase::Verify, |session| talk.rest(session))?;
    // The answers count; a cell that does not go away will be swept.
    drop(started);
    if let Err(error) = cell.close() {
        session.note(error.chain());
    }
    Ok(())
}

/// Asking an application that runs.
struct Talk<'a> {
    subject: &'a Subject,
    cell: &'a dyn Cell,
    app: &'a AppConfig,
    started: &'a Started,
}

impl Talk<'_> {
    /// Asks the first question until it is answered well, or the time is over.
    fn first(&self, session: &mut Session<'_>) -> Result<(), Stop> {
        let Some(check) = self.app.http.first() else { return Ok(()) };
        let limit = self.app.start_limit.0;
        let begun = Instant::now();
        let mut bad: Option<Vec<Mismatch>> = None;
        loop {
            match self.ask(check) {
                Ok(answer) => match mismatches(check, &answer) {
                    none if none.is_empty() => {
                        session.examination.checked += 1;
                        let seconds = begun.elapsed().as_secs_f64();
                        session.note(format!("{} gave a good answer after {seconds:.1} s", self.app.kit()));
                        return Ok(());
                    }
                    wrong => bad = Some(wrong),
                },
                Err(Silence::Ours(why)) => return Err(Stop::Trouble(why)),
                Err(Silence::NoAnswer(_) | Silence::Slow) => {}
            }
            self.still_runs(START)?;
            if begun.elapsed() > limit {
                let Some(wrong) = bad else {
                    reachable(self.cell).map_err(Stop::Trouble)?;
                    return Err(Stop::finding(Finding::damage(
                        START,
                        self.app.kit(),
                        format!("an answer to {} within {limit:?}", name(check)),
                        format!("none; {}", self.said()),
                    )));
                };
                // It was looked at, and is not as it should be.
                session.examination.checked += 1;
                self.tell(session, wrong);
                return Ok(());
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Asks everything else, once.
    fn rest(&self, session: &mut Session<'_>) -> Result<(), Stop> {
        for check in self.app.http.iter().skip(1) {
            let mut tries = 1;
            let answer = loop {
                match self.ask(check) {
                    Err(Silence::NoAnswer(_)) if tries < TRIES && self.started.app.ended().is_none() => {
                        tries += 1;
                        std::thread::sleep(PAUSE);
                    }
                    answer => break answer,
                }
            };
            match answer {
                Ok(answer) => {
                    session.examination.checked += 1;
                    self.tell(session, mismatches(check, &answer));
                }
                Err(Silence::NoAnswer(why)) => {
                    self.still_runs(ANSWER)?;
                    let seen = format!("{why}; {}", self.said());
                    session.find(Finding::damage(ANSWER, name(check), "an answer", seen));
                }
                Err(Silence::Slow) => {
                    self.still_runs(ANSWER)?;
                    let limit = check.timeout;
                    return Err(Stop::Trouble(format!("{}: no answer within {limit}", name(check))));
                }
                Err(Silence::Ours(why)) => return Err(Stop::Trouble(why)),
            }
        }
        Ok(())
    }

    fn ask(&self, check: &HttpCheck) -> Result<Answer, Silence> {
        let question = ask(self.cell, self.app.port, check, &self.subject.watch);
        tokio::runtime::Handle::current().block_on(question)
    }

    fn tell(&self, session: &mut Session<'_>, wrong: Vec<Mismatch>) {
        let many = wrong.len();
        for (n, wrong) in wrong.into_iter().enumerate() {
            // What it said about that, once.
            let said = if n + 1 == many { format!("; {}", self.said()) } else { String::new() };
            let seen = format!("{}{said}", wrong.seen);
            session.find(Finding::damage(ANSWER, wrong.location, wrong.expected, seen));
        }
    }

    fn said(&self) -> String {
        log::last_words(&self.started.app.log())
    }

    /// `Err` when a server has ended by itself.
    fn still_runs(&self, code: &str) -> Result<(), Stop> {
        let app = (self.app.kit(), &self.started.app);
        let others = self.started.servers.iter().map(|(name, server)| (name.as_str(), server));
        for (name, server) in std::iter::once(app).chain(others) {
            if let Some(ended) = server.ended() {
                return Err(start::ended_early(code, name, &ended, &log_of(server.as_ref(), &ended.stderr)));
            }
        }
        Ok(())
    }
}

fn log_of(server: &dyn Service, stderr: &str) -> String {
    let log = server.log();
    if log.is_empty() { stderr.to_owned() } else { log }
}
