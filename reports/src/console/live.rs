//! What is shown while the run goes on.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use firedrill_core::event::Event;
use firedrill_core::evidence::Record;
use firedrill_core::plan::{DrillName, Plan};
use firedrill_core::progress::Progress;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{LiveStyle, Output};
use crate::text;

/// Bars at a time; further drills are only counted.
const BARS_MAX: usize = 12;
/// How often bars are drawn.
const REDRAW: Duration = Duration::from_millis(125);
/// How often a log gets a sign of life.
const SIGN_OF_LIFE: Duration = Duration::from_secs(30);
/// Findings about copies that are told while the run goes on.
/// Notes about one copy that are told.
const COPY_NOTES_MAX: usize = 12;
const COPY_FINDINGS_MAX: u32 = 20;
/// Columns of a name beside its bar; the templates below say the same.
const NAME_WIDTH: usize = 22;
/// Characters of a name or a message.
const MESSAGE_MAX: usize = 300;

/// A handle to the live display.
#[derive(Clone)]
pub(super) struct Live(Arc<Shared>);

struct Shared {
    style: LiveStyle,
    state: Mutex<State>,
}

struct State {
    out: Output,
    bars: Option<Bars>,
    drills: BTreeMap<DrillName, Running>,
    control: Option<DrillName>,
    planned: usize,
    ended: usize,
    /// Bytes of drills that have ended.
    settled: u64,
    began: Instant,
    told: Instant,
    copy_findings: u32,
    ticker: Option<(Sender<()>, JoinHandle<()>)>,
}

struct Bars {
    all: MultiProgress,
    overall: ProgressBar,
}

/// What is known of a drill that has begun.
struct Running {
    began: Instant,
    progress: Option<Arc<Progress>>,
    bar: Option<ProgressBar>,
    findings: u64,
    trouble: Option<String>,
}

impl Running {
    fn new() -> Self {
        Self { began: Instant::now(), progress: None, bar: None, findings: 0, trouble: None }
    }
}

impl Live {
    pub(super) fn new(style: LiveStyle, out: Output) -> Self {
        Self::drawing_to(style, out, ProgressDrawTarget::stderr_with_hz(8))
    }

    pub(super) fn drawing_to(style: LiveStyle, out: Output, target: ProgressDrawTarget) -> Self {
        let bars = (style == LiveStyle::Bars).then(|| {
            let all = MultiProgress::with_draw_target(target);
            let overall = all.add(ProgressBar::no_length().with_style(template("{wide_msg}")));
            Bars { all, overall }
        });
        let now = Instant::now();
        let state = State {
            out,
            bars,
            drills: BTreeMap::new(),
            control: None,
            planned: 0,
            ended: 0,
            settled: 0,
            began: now,
            told: now,
            copy_findings: 0,
            ticker: None,
        };
        Self(Arc::new(Shared { style, state: Mutex::new(state) }))
    }

    pub(super) fn watch(&self, drill: &DrillName, progress: Arc<Progress>) {
        if self.0.style == LiveStyle::Off {
            return;
        }
        let mut state = self.state();
        state.begin(drill).progress = Some(progress);
        if state.ticker.is_none() {
            state.ticker = ticker(Arc::downgrade(&self.0));
        }
    }

    pub(super) fn accept(&self, record: &Record) {
        if self.0.style != LiveStyle::Off {
            self.state().accept(&record.event);
        }
    }

    /// Ends the display and leaves nothing of the bars on the screen.
    pub(super) fn stop(&self) {
        let ticker = self.state().ticker.take();
        if let Some((stop, thread)) = ticker {
            drop(stop);
            // The lock is not held here, so the ticker can finish what it is drawing.
            let _ = thread.join();
        }
        let mut state = self.state();
        state.drills.clear();
        if let Some(bars) = state.bars.take() {
            bars.overall.finish_and_clear();
            // A terminal that is gone cannot be cleared, and nobody is looking at it.
            let _ = bars.all.clear();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Draws at a bounded rate, whatever the rate of progress, until it is told to stop or nobody is left
/// to see it. Without a thread there are no bars, which is no reason to stop a run.
fn ticker(shared: Weak<Shared>) -> Option<(Sender<()>, JoinHandle<()>)> {
    let (stop, stopped) = mpsc::channel();
    let tick = move || {
        while stopped.recv_timeout(REDRAW) == Err(RecvTimeoutError::Timeout) {
            let Some(shared) = shared.upgrade() else { return };
            shared.state.lock().unwrap_or_else(PoisonError::into_inner).tick();
        }
    };
    let thread = std::thread::Builder::new().name("console".to_owned()).spawn(tick).ok()?;
    Some((stop, thread))
}

fn template(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn shown(name: &str) -> String {
    text::brief(name, MESSAGE_MAX)
}

/// The name of a drill beside its bar. Most drills restore the latest snapshot; that is not repeated.
fn bar_name(drill: &DrillName) -> String {
    let name = text::brief(&drill.0, MESSAGE_MAX);
    text::elide(name.strip_suffix("::latest").unwrap_or(&name), NAME_WIDTH)
}

impl State {
    fn begin(&mut self, drill: &DrillName) -> &mut Running {
        self.drills.entry(drill.clone()).or_insert_with(Running::new)
    }

    /// Writes one line above the bars, if there are any.
    fn tell(&mut self, line: &str) {
        // A log that nobody reads any more must not stop the run.
        let _ = match &self.bars {
            Some(bars) if !bars.all.is_hidden() => bars.all.println(line),
            _ => writeln!(self.out, "{line}").and_then(|()| self.out.flush()),
        };
        self.told = Instant::now();
    }

    /// Writes one line to a log; on a terminal the bars say the same.
    fn log(&mut self, line: &str) {
        if self.bars.is_none() {
            self.tell(line);
        }
    }

    fn accept(&mut self, event: &Event) {
        match event {
            Event::RunStarted { run, version, command, plan } => {
                self.run_started(run, version, command, plan)
            }
            Event::CopyOpened { copy, facts } => {
                self.log(&format!(
                    "{} opened: {} in {}",
                    shown(&copy.0),
                    text::counted(
                        usize::try_from(facts.snapshots).unwrap_or(usize::MAX),
                        "snapshot",
                        "snapshots"
                    ),
                    text::span(facts.seconds)
                ));
                for note in facts.notes.iter().take(COPY_NOTES_MAX) {
                    self.tell(&format!("{}: {}", shown(&copy.0), shown(note)));
                }
            }
            Event::CopyFinding { copy, finding } => {
                self.copy_findings = self.copy_findings.saturating_add(1);
                if self.copy_findings <= COPY_FINDINGS_MAX {
                    let (code, place) = (shown(&finding.code), shown(&finding.location));
                    self.tell(&format!("{}: {code}: {place}: {}", shown(&copy.0), shown(&finding.seen)));
                }
            }
            Event::CopyError { copy, error } => {
                self.tell(&format!("{}: {}", shown(&copy.0), shown(&error.chain())));
            }
            Event::DrillStarted { drill } => {
                self.begin(drill).began = Instant::now();
                let name = self.name(drill);
                self.log(&format!("{name} started"));
            }
            Event::PhaseFinished { .. } | Event::Recognised { .. } => {}
            Event::Restored { drill, files, bytes, findings, findings_omitted, .. } => {
                let running = self.begin(drill);
                running.findings += findings.len() as u64 + findings_omitted;
                if let Some(bar) = &running.bar {
                    bar.set_message("examining");
                }
                let took = text::span(running.began.elapsed().as_secs_f64());
                let files = text::counted(usize::try_from(*files).unwrap_or(usize::MAX), "file", "files");
                let name = self.name(drill);
                self.log(&format!("{name} restored {} in {files} in {took}", text::bytes(*bytes)));
            }
            Event::Examined { drill, examination } => {
                let running = self.begin(drill);
                running.findings += examination.findings.len() as u64 + examination.findings_omitted;
                if let Some(why) = &examination.interrupted {
                    running.trouble.get_or_insert_with(|| shown(&format!("{}: {why}", examination.probe)));
                }
            }
            Event::ControlDamaged { drill, injected } => {
                let name = self.name(drill);
                let damages = text::counted(injected.len(), "deliberate damage", "deliberate damages");
                self.log(&format!("{name}: {damages} done"));
            }
            Event::DrillError { drill, error } => {
                self.begin(drill).trouble.get_or_insert_with(|| shown(&error.chain()));
            }
            Event::DrillFinished { drill, .. } => self.drill_finished(drill),
            Event::Interrupted { reason } => self.tell(&format!("interrupted: {}", shown(reason))),
            Event::RunFinished { .. } => {}
        }
    }

    fn run_started(&mut self, run: &str, version: &str, command: &str, plan: &Plan) {
        self.planned = plan.drills.len() + usize::from(plan.control.is_some());
        self.control = plan.control.as_ref().map(|c| c.drill.name.clone());
        self.began = Instant::now();
        let drills = text::counted(plan.drills.len(), "drill", "drills");
        let (version, run, seed) = (shown(version), shown(run), plan.seed);
        self.tell(&format!("firedrill {version}, run {run}: {drills}, seed {seed}"));
        self.tell(&format!("replay: {}", text::brief(command, 2_000)));
    }

    fn name(&self, drill: &DrillName) -> String {
        if self.control.as_ref() == Some(drill) { "negative control".to_owned() } else { shown(&drill.0) }
    }

    fn drill_finished(&mut self, drill: &DrillName) {
        self.ended += 1;
        let running = self.drills.remove(drill).unwrap_or_else(Running::new);
        self.settled = self.settled.saturating_add(running.progress.map_or(0, |p| p.done()));
        if let (Some(bars), Some(bar)) = (&self.bars, &running.bar) {
            bars.all.remove(bar);
        }
        let control = self.control.as_ref() == Some(drill);
        let found = match (running.findings, control) {
            (0, _) => "nothing wrong found".to_owned(),
            (n, true) => format!("{} of damage that was done on purpose", counted_findings(n)),
            (n, false) => counted_findings(n),
        };
        let line = match &running.trouble {
            Some(trouble) => format!("{found}, but not examined to the end: {trouble}"),
            None => found,
        };
        let took = text::span(running.began.elapsed().as_secs_f64());
        let line = format!("{} ended after {took}: {line}", self.name(drill));
        // On a terminal only what is wrong is worth a line that stays.
        if running.trouble.is_some() || (running.findings > 0 && !control) {
            self.tell(&line);
        } else {
            self.log(&line);
        }
    }

    fn tick(&mut self) {
        if self.bars.is_some() {
            self.draw();
        } else if self.told.elapsed() >= SIGN_OF_LIFE {
            let line = self.overall();
            self.tell(&line);
        }
    }

    fn draw(&mut self) {
        let overall = self.overall();
        let Some(bars) = &self.bars else { return };
        let mut shown_bars = self.drills.values().filter(|r| r.bar.is_some()).count();
        for (name, running) in &mut self.drills {
            let Some(progress) = &running.progress else { continue };
            if running.bar.is_none() && shown_bars < BARS_MAX {
                shown_bars += 1;
                let bar = ProgressBar::no_length()
                    .with_style(template("{prefix:22} {spinner} waiting {elapsed}"))
                    .with_prefix(bar_name(name));
                running.bar = Some(bars.all.insert_before(&bars.overall, bar));
            }
            let Some(bar) = &running.bar else { continue };
            if progress.total() > 0 && bar.length().is_none() {
                bar.set_style(
                    template(
                        "{prefix:22} {wide_bar} {binary_bytes}/{binary_total_bytes} \
                         {binary_bytes_per_sec} {eta:>4} {msg}",
                    )
                    .progress_chars("━╸ "),
                );
                bar.set_length(progress.total());
            }
            bar.set_position(progress.done());
        }
        bars.overall.set_message(overall);
        bars.overall.tick();
    }

    /// How far the run has come, in one line.
    fn overall(&self) -> String {
        let sum = |f: fn(&Progress) -> u64| {
            self.drills.values().filter_map(|r| r.progress.as_deref()).map(f).fold(0, u64::saturating_add)
        };
        let done = self.settled.saturating_add(sum(Progress::done));
        let total = self.settled.saturating_add(sum(Progress::total)).max(done);
        let elapsed = self.began.elapsed().as_secs_f64();
        let rate = if elapsed > 0.5 { done as f64 / elapsed } else { 0.0 };
        let mut line = format!(
            "{} of {} drills done, {} running, {} of {}",
            self.ended,
            self.planned.max(self.ended + self.drills.len()),
            self.drills.len(),
            text::bytes(done),
            text::bytes(total)
        );
        if rate >= 1.0 {
            line.push_str(&format!(", {}/s", text::bytes(rate as u64)));
        }
        line.push_str(&format!(", {}", text::span(elapsed.round())));
        line
    }
}

fn counted_findings(number: u64) -> String {
    text::counted(usize::try_from(number).unwrap_or(usize::MAX), "finding", "findings")
}
