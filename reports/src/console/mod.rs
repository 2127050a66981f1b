//! Progress on stderr while the run goes on, and a table when it is over.
//!
//! On a terminal there is a bar per running drill; elsewhere (CI logs) there are plain lines, with a
//! sign of life from time to time. The live display tells facts: verdicts come from the judge alone,
//! when the run is over.

mod live;
mod plan;
mod summary;

use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::evidence::Record;
use firedrill_core::judge::Judgement;
use firedrill_core::plan::DrillName;
use firedrill_core::ports::Sink;
use firedrill_core::progress::Progress;

use crate::text;
use live::Live;
pub use plan::render_plan;
pub use summary::render_summary;

/// What is shown while the run goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LiveStyle {
    /// Bars that are drawn over and over again: for terminals.
    Bars,
    /// Plain lines: for logs.
    Lines,
    /// Nothing.
    Off,
}

/// Where the table goes when the run is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SummaryPlace {
    /// To stdout.
    Stdout,
    /// To stderr, because stdout is for something else (JSON).
    Stderr,
    /// Nowhere.
    Off,
}

/// How the console behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsoleOptions {
    /// What is shown while the run goes on.
    pub live: LiveStyle,
    /// Where the table goes.
    pub summary: SummaryPlace,
    /// Whether the table is coloured.
    pub colour: bool,
    /// The width of the table in columns.
    pub width: usize,
    /// What is named below the table, as label and place: `("report", "report.html")`.
    pub places: Vec<(String, String)>,
}

impl ConsoleOptions {
    /// What suits the terminal that this process has, if any. Respects `NO_COLOR` and `TERM=dumb`.
    pub fn detect(summary: SummaryPlace) -> Self {
        let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty());
        let dumb = set("TERM").is_some_and(|t| t == "dumb");
        let (terminal, size) = match summary {
            SummaryPlace::Stderr => (std::io::stderr().is_terminal(), ::console::Term::stderr()),
            _ => (std::io::stdout().is_terminal(), ::console::Term::stdout()),
        };
        let width = size.size_checked().map(|(_, columns)| usize::from(columns));
        Self {
            live: if std::io::stderr().is_terminal() && !dumb { LiveStyle::Bars } else { LiveStyle::Lines },
            summary,
            colour: terminal && !dumb && set("NO_COLOR").is_none(),
            // Beyond this a line is hard to follow; below it, and in a file, the usual width serves.
            width: width.filter(|w| *w > 0).map_or(100, |w| w.min(140)),
            places: Vec::new(),
        }
    }
}

/// A place to write to.
type Output = Box<dyn Write + Send>;

/// Shows a run to whoever sits before it. Clones are handles to the same console.
#[derive(Clone)]
pub struct Console {
    options: ConsoleOptions,
    live: Live,
    out: Arc<Mutex<Output>>,
}

impl Console {
    /// A console on stdout and stderr.
    pub fn new(options: ConsoleOptions) -> Self {
        let out: Output = match options.summary {
            SummaryPlace::Stderr => Box::new(std::io::stderr()),
            SummaryPlace::Stdout | SummaryPlace::Off => Box::new(std::io::stdout()),
        };
        Self::writing_to(options, out, Box::new(std::io::stderr()))
    }

    fn writing_to(options: ConsoleOptions, out: Output, live: Output) -> Self {
        let live = Live::new(options.live, live);
        Self { options, live, out: Arc::new(Mutex::new(out)) }
    }

    /// Shows the progress of `drill` until it ends. May be called from any thread, before or after the
    /// drill's first event.
    pub fn watch(&self, drill: &DrillName, progress: Arc<Progress>) {
        self.live.watch(drill, progress);
    }

    /// Names a place below the table, for example where the report is. For places that become known
    /// only while the run goes on.
    pub fn name_place(&mut self, label: impl Into<String>, place: impl Into<String>) {
        self.options.places.push((label.into(), place.into()));
    }

    fn out(&self) -> MutexGuard<'_, Output> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink for Console {
    fn name(&self) -> String {
        "console".to_owned()
    }

    fn accept(&mut self, record: &Record) {
        self.live.accept(record);
    }

    fn finish(&mut self, judgement: &Judgement) -> Result<()> {
        self.live.stop();
        if self.options.summary == SummaryPlace::Off {
            return Ok(());
        }
        let mut text = render_summary(judgement, self.options.width, self.options.colour);
        for (label, place) in &self.options.places {
            text.push_str(&format!("{}: {}\n", text::clean(label), text::clean(place)));
        }
        let mut out = self.out();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|e| {
            Error::new(ErrorKind::Unavailable, "write the result to the console").from_source(&e)
        })
    }
}

/// Rows as a plain table, without lines.
pub fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_content_arrangement(comfy_table::ContentArrangement::Disabled);
    table.set_header(header.iter().map(|title| title.to_uppercase()));
    for row in rows {
        table.add_row(row.into_iter().map(|text| text::clean(&text)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests;
