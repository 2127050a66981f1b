//! A plan for people: what a run would do.

use comfy_table::{ContentArrangement, Table, presets};
use firedrill_core::config::units::Span;
use firedrill_core::plan::{Drill, Plan, Selection};

use crate::text;

/// The plan as a table, for `--dry-run`.
pub fn render_plan(plan: &Plan, width: usize) -> String {
    let mut out = String::new();
    for copy in &plan.copies {
        out.push_str(&format!("copy {}: {}\n", text::clean(&copy.name.0), text::clean(&copy.location)));
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(u16::try_from(width).unwrap_or(u16::MAX));
    table.set_header(["drill", "snapshot", "taken", "files", "size", "RPO", "RTO"]);
    for drill in &plan.drills {
        table.add_row(row(drill));
    }
    if !plan.drills.is_empty() {
        out.push_str(&format!("\n{}\n", table.trim_fmt()));
    }
    if let Some(control) = &plan.control {
        let of = text::clean(&control.of.0);
        out.push_str(&format!("\nnegative control: {of} is restored once more and damaged on purpose\n"));
    } else if plan.control_off {
        out.push_str("\nnegative control: switched off in the config\n");
    }
    let limit =
        |name: &str, value: Option<String>| value.map(|v| format!(", {name} {v}")).unwrap_or_default();
    out.push_str(&format!(
        "{}, {} at a time{}{}; seed {}\n",
        text::counted(plan.drills.len(), "drill", "drills"),
        plan.limits.jobs,
        limit("scratch up to", plan.limits.scratch.map(|s| s.to_string())),
        limit("each within", plan.limits.timeout.map(|t| t.to_string())),
        plan.seed
    ));
    out
}

fn row(drill: &Drill) -> [String; 7] {
    let name = text::clean(&drill.name.0);
    let span = |objective: Option<Span>| objective.map(|s| text::span_short(s.seconds())).unwrap_or_default();
    let (rpo, rto) = (span(drill.objectives.rpo), span(drill.objectives.rto));
    let none = |why: &str| {
        [name.clone(), why.to_owned(), String::new(), String::new(), String::new(), rpo.clone(), rto.clone()]
    };
    match &drill.selection {
        Selection::Snapshot(snapshot) => [
            name,
            snapshot.id.short().to_owned(),
            text::moment(snapshot.time),
            snapshot.files.map(text::count_short).unwrap_or_default(),
            snapshot.bytes.map(text::bytes).unwrap_or_default(),
            rpo,
            rto,
        ],
        Selection::Missing => none("none: a finding"),
        Selection::Unknown => none("unknown"),
    }
}
