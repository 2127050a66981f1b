//! What is left on the screen when the run is over: a table that is read in ten seconds, the reasons
//! for everything that is not verified, and how to see it again.

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};
use firedrill_core::finding::RecoveryBasis;
use firedrill_core::judge::{
    ControlState, CopyJudgement, DrillJudgement, Judgement, Objective, ObjectiveState,
};
use firedrill_core::snapshot::CopyName;
use firedrill_core::verdict::Verdict;

use crate::story::{self, Standing, Trouble};
use crate::text;

/// Verified drills in the table; when there are more of them they are only counted.
const ROWS_MAX: usize = 40;
/// Drills whose reasons are given.
const EXPLAINED_MAX: usize = 20;
/// Reasons per drill.
const REASONS_MAX: usize = 5;
/// A narrower terminal is treated as if it were this wide.
const WIDTH_MIN: usize = 40;
/// A tag gets at least this many columns.
const TAG_MIN: usize = 13;

/// A colour of the terminal's own palette, so that it is readable on any background.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Paint {
    Red,
    Yellow,
    Green,
    Bold,
    Dim,
}

/// Colours text, or leaves it alone.
#[derive(Clone, Copy, Debug)]
struct Painter(bool);

impl Painter {
    fn paint(self, paint: Paint, text: &str) -> String {
        let code = match paint {
            Paint::Red => "1;31",
            Paint::Yellow => "33",
            Paint::Green => "32",
            Paint::Bold => "1",
            Paint::Dim => "2",
        };
        if self.0 { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

fn paint_of(standing: Standing) -> Paint {
    match standing {
        Standing::Failed => Paint::Red,
        Standing::Inconclusive | Standing::ObjectiveMissed => Paint::Yellow,
        Standing::Verified => Paint::Green,
    }
}

/// Symbol and word, so that neither colour nor font is needed to tell verdicts apart.
fn badge(standing: Standing) -> &'static str {
    match standing {
        Standing::Failed => "✘ FAILED",
        Standing::Inconclusive => "? inconclusive",
        Standing::ObjectiveMissed => "! verified",
        Standing::Verified => "✔ verified",
    }
}

/// The judgement for a terminal of `width` columns.
pub fn render_summary(judgement: &Judgement, width: usize, colour: bool) -> String {
    let width = width.max(WIDTH_MIN);
    let painter = Painter(colour);
    let mut out = Vec::new();
    headline(judgement, width, painter, &mut out);
    table(judgement, width, painter, &mut out);
    reasons(judgement, width, painter, &mut out);
    closing(judgement, width, painter, &mut out);
    let mut text = out.join("\n");
    text.push('\n');
    text
}

fn headline(judgement: &Judgement, width: usize, painter: Painter, out: &mut Vec<String>) {
    let late = |c: &CopyJudgement| story::copy_standing(c) == Standing::ObjectiveMissed;
    let missed =
        judgement.drills.iter().any(DrillJudgement::objective_missed) || judgement.copies.iter().any(late);
    let paint = match judgement.verdict {
        Verdict::Failed => Paint::Red,
        Verdict::Inconclusive => Paint::Yellow,
        Verdict::Verified if missed => Paint::Yellow,
        Verdict::Verified => Paint::Green,
    };
    out.push(String::new());
    for line in text::wrap(&story::headline(judgement), width) {
        out.push(painter.paint(paint, &line));
    }
    for reason in &judgement.reasons {
        bullet(&text::brief(&reason.text, 400), "- ", width, out);
    }
}

/// One column of the table. Columns that are `spare` go first when there is no room.
struct Column {
    title: &'static str,
    right: bool,
    spare: u8,
    cells: Vec<String>,
}

impl Column {
    fn new(title: &'static str, right: bool, spare: u8, cells: impl Iterator<Item = String>) -> Self {
        Self { title, right, spare, cells: cells.collect() }
    }

    fn width(&self) -> usize {
        self.cells.iter().map(|c| text::width(c)).max().unwrap_or(0).max(text::width(self.title))
    }
}

fn table(judgement: &Judgement, width: usize, painter: Painter, out: &mut Vec<String>) {
    let rows = rows(judgement);
    if !rows.is_empty() {
        out.push(String::new());
        let lines = lines(judgement, &rows, width);
        let mut lines = lines.into_iter();
        out.extend(lines.next().map(|header| painter.paint(Paint::Dim, &header)));
        let mut copy = None;
        for (drill, line) in rows.iter().zip(lines) {
            if judgement.copies.len() > 1 && copy != Some(&drill.copy) {
                copy = Some(&drill.copy);
                out.push(painter.paint(Paint::Bold, &copy_heading(judgement, &drill.copy, width)));
            }
            let standing = Standing::of(drill);
            let badge = badge(standing);
            let paint = match judgement.control.state {
                // Nothing is green in a run that would have called damage verified.
                ControlState::Missed if standing == Standing::Verified => Paint::Dim,
                _ => paint_of(standing),
            };
            out.push(match line.strip_prefix(badge) {
                Some(rest) => format!("{}{rest}", painter.paint(paint, badge)),
                None => line,
            });
        }
    }
    let hidden = judgement.drills.len() - rows.len();
    if hidden > 0 {
        let noun = if hidden == 1 { "drill" } else { "drills" };
        out.push(format!("and {} more verified {noun}", text::count(hidden as u64)));
    }
    let by_snapshot =
        |d: &&DrillJudgement| d.rpa.as_ref().is_some_and(|r| r.basis == RecoveryBasis::Snapshot);
    if rows.iter().any(by_snapshot) {
        let note = "* known only from the time of the snapshot: when the job ran, not how recent its data is";
        out.extend(text::wrap(note, width).into_iter().map(|l| painter.paint(Paint::Dim, &l)));
    }
}

/// The drills that are listed: all that are not verified, and verified ones as far as there is room; by
/// copy in the order of the plan, worst first.
fn rows(judgement: &Judgement) -> Vec<&DrillJudgement> {
    let all = story::worst_first(judgement);
    let bad = all.iter().filter(|d| Standing::of(d) != Standing::Verified).count();
    let mut rows: Vec<_> = all.into_iter().take(bad.max(ROWS_MAX)).collect();
    let place = |name: &CopyName| judgement.copies.iter().position(|c| &c.name == name);
    rows.sort_by_key(|d| place(&d.copy).unwrap_or(usize::MAX));
    rows
}

fn copy_heading(judgement: &Judgement, name: &CopyName, width: usize) -> String {
    let heading = match judgement.copies.iter().find(|c| &c.name == name) {
        Some(copy) => format!("{}  {}", text::brief(&name.0, 80), text::brief(&copy.location, 300)),
        None => text::brief(&name.0, 80),
    };
    text::elide(&heading, width)
}

/// The table as lines, the header first, one line per row.
fn lines(judgement: &Judgement, rows: &[&DrillJudgement], width: usize) -> Vec<String> {
    let mut columns = columns(judgement, rows);
    let gap = 2;
    let taken = |columns: &[Column]| columns.iter().map(|c| c.width() + gap).sum::<usize>();
    while taken(&columns) + TAG_MIN > width
        && let Some(at) =
            (0..columns.len()).filter(|i| columns[*i].spare > 0).max_by_key(|i| columns[*i].spare)
    {
        columns.remove(at);
    }
    let room = width.saturating_sub(taken(&columns)).max(TAG_MIN);
    let tags = rows.iter().map(|d| text::elide(&story::tag(d), room));
    columns.insert(1.min(columns.len()), Column::new("TAG", false, 0, tags));

    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(columns.iter().map(|c| cell(c, c.title.to_owned())));
    for row in 0..rows.len() {
        table.add_row(columns.iter().map(|c| cell(c, c.cells.get(row).cloned().unwrap_or_default())));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, gap as u16));
    }
    table.lines().map(|l| l.trim_end().to_owned()).collect()
}

fn cell(column: &Column, text: String) -> Cell {
    Cell::new(text).set_alignment(if column.right { CellAlignment::Right } else { CellAlignment::Left })
}

fn columns(judgement: &Judgement, rows: &[&DrillJudgement]) -> Vec<Column> {
    let each =
        |f: &dyn Fn(&DrillJudgement) -> String| rows.iter().map(|d| f(d)).collect::<Vec<_>>().into_iter();
    let none = || "-".to_owned();
    vec![
        Column::new("VERDICT", false, 0, each(&|d| badge(Standing::of(d)).to_owned())),
        Column::new(
            "SNAPSHOT",
            false,
            2,
            each(&|d| d.snapshot.as_ref().map_or_else(none, |s| text::brief(s.short(), 8))),
        ),
        Column::new(
            "AGE",
            true,
            3,
            each(&|d| {
                let age = |t| text::span_short(judgement.at.duration_since(t).as_secs_f64());
                d.snapshot_time.map_or_else(none, age)
            }),
        ),
        Column::new("FILES", true, 4, each(&|d| measured(d, text::count_short(d.files)))),
        Column::new("SIZE", true, 1, each(&|d| measured(d, text::bytes(d.bytes)))),
        Column::new("RTA/RTO", true, 0, each(&|d| against(d.rta.total_seconds, &d.rto, ""))),
        Column::new(
            "RPA/RPO",
            true,
            0,
            each(&|d| {
                let star = match &d.rpa {
                    Some(rpa) if rpa.basis == RecoveryBasis::Snapshot => "*",
                    _ => "",
                };
                against(d.rpa.as_ref().map(|r| r.seconds), &d.rpo, star)
            }),
        ),
    ]
}

/// What was counted while restoring, or nothing where nothing was restored.
fn measured(drill: &DrillJudgement, shown: String) -> String {
    if drill.rpa.is_some() { shown } else { "-".to_owned() }
}

/// `12s/30m` where the measurement is within the objective, `31m>30m` where it is not.
fn against(actual: Option<f64>, objective: &Objective, mark: &str) -> String {
    let actual = actual.map_or_else(|| "-".to_owned(), |s| format!("{}{mark}", text::span_short(s)));
    let sign = if objective.state == ObjectiveState::Missed { ">" } else { "/" };
    match objective.objective_seconds {
        Some(promised) => format!("{actual}{sign}{}", text::span_short(promised)),
        None => actual,
    }
}

fn reasons(judgement: &Judgement, width: usize, painter: Painter, out: &mut Vec<String>) {
    for copy in &judgement.copies {
        let standing = story::copy_standing(copy);
        if standing == Standing::Verified {
            continue;
        }
        let name = format!("the copy {}", text::brief(&copy.name.0, 80));
        explain(standing, &name, &story::copy_troubles(copy), width, painter, out);
    }
    let bad: Vec<_> =
        story::worst_first(judgement).into_iter().filter(|d| Standing::of(d) != Standing::Verified).collect();
    for drill in bad.iter().take(EXPLAINED_MAX) {
        let name = story::subject(judgement, drill);
        explain(Standing::of(drill), &name, &story::troubles(drill), width, painter, out);
    }
    if bad.len() > EXPLAINED_MAX {
        out.push(String::new());
        out.push(format!(
            "and {} more drills that are not verified, see the report",
            bad.len() - EXPLAINED_MAX
        ));
    }
}

fn explain(
    standing: Standing,
    name: &str,
    troubles: &[Trouble],
    width: usize,
    painter: Painter,
    out: &mut Vec<String>,
) {
    out.push(String::new());
    let heading = match standing {
        Standing::ObjectiveMissed => format!("! {name}: restorable, but an objective was missed"),
        _ => format!("{}: {name}", badge(standing)),
    };
    for line in text::wrap(&heading, width) {
        out.push(painter.paint(paint_of(standing), &line));
    }
    for trouble in troubles.iter().take(REASONS_MAX) {
        bullet(&trouble.what, "  - ", width, out);
        if let Some(detail) = &trouble.detail {
            bullet(detail, "    ", width, out);
        }
    }
    if troubles.len() > REASONS_MAX {
        out.push(format!("  and {} more, see the report", troubles.len() - REASONS_MAX));
    }
}

/// `text` after `mark`, with its further lines below it.
fn bullet(text: &str, mark: &str, width: usize, out: &mut Vec<String>) {
    let mut mark = mark.to_owned();
    for line in text::wrap(text, width.saturating_sub(mark.len())) {
        out.push(format!("{mark}{line}"));
        mark = " ".repeat(mark.len());
    }
}

fn closing(judgement: &Judgement, width: usize, painter: Painter, out: &mut Vec<String>) {
    out.push(String::new());
    let control = format!("negative control: {}", story::control(judgement));
    let paint = match judgement.control.state {
        ControlState::Caught => Paint::Green,
        ControlState::Missed => Paint::Red,
        ControlState::NotRun | ControlState::NotPlanned | ControlState::SwitchedOff => Paint::Yellow,
    };
    out.extend(text::wrap(&control, width).into_iter().map(|l| painter.paint(paint, &l)));
    for missed in judgement.control.missed.iter().take(REASONS_MAX) {
        let what = text::brief(&missed.what, 200);
        bullet(&format!("not found: {what} ({})", text::brief(&missed.location, 200)), "  - ", width, out);
    }
    out.extend(
        text::wrap(&story::tally(judgement), width).into_iter().map(|l| painter.paint(Paint::Bold, &l)),
    );
    // Not wrapped: it is there to be copied.
    out.push(format!("replay (seed {}): {}", judgement.seed, text::brief(&judgement.command, 2_000)));
}

#[cfg(test)]
mod tests;
