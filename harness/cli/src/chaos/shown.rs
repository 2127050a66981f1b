//! What a campaign showed, for people.

use std::fmt::Write as _;

use firedrill_scenarios::chaos::{Outcome, Report, Score, Trial, named};

/// One line about one trial.
pub(super) fn trial(trial: &Trial) -> String {
    let told = match &trial.outcome {
        Outcome::Detected { by } => format!("detected by {}", joined(by)),
        Outcome::Lucky { by } => format!("LUCKY: it failed by {}, which does not explain it", joined(by)),
        Outcome::Missed => "MISSED".to_owned(),
        Outcome::NotApplicable { why } => format!("not applicable: {why}"),
        Outcome::Broken { why } => format!("BROKEN: {why}"),
    };
    let alarms = match trial.alarms.len() {
        0 => String::new(),
        _ => format!("; ALARM for nothing: {}", joined(&trial.alarms)),
    };
    format!("{} in {:.1} s: {told}{alarms}", trial.fault, trial.seconds)
}

/// All of it.
pub(super) fn report(report: &Report) -> String {
    let mut text = format!(
        "{:12} {:>9} {:>9} {:>9} {:>9} {:>15} {:>7}\n",
        "", "injected", "detected", "lucky", "missed", "not applicable", "score"
    );
    for (class, score) in &report.classes {
        row(&mut text, class.as_str(), score);
    }
    row(&mut text, "all", &report.score);
    if !report.probes.is_empty() {
        let mut probes: Vec<_> = report.probes.iter().collect();
        probes.sort_by_key(|(_, trials)| std::cmp::Reverse(**trials));
        let probes = probes.iter().map(|(probe, trials)| format!("{probe} {trials}"));
        let _ = writeln!(text, "\nExplained by: {}", probes.collect::<Vec<_>>().join(", "));
    }
    let alarms = &report.alarms;
    let _ = writeln!(
        text,
        "Alarms for nothing: {} in {} drills of healthy backups, a rate of at most {:.2} % (95 % confidence)",
        alarms.alarms.len(),
        alarms.drills,
        alarms.rate_max * 100.0
    );
    for alarm in &alarms.alarms {
        let _ = writeln!(text, "  {alarm}");
    }
    for tag in &report.not_verified {
        let _ = writeln!(text, "Not looked at, since it was not verified before: {tag}");
    }
    survivors(&mut text, report);
    for trial in &report.trials {
        if let Outcome::Broken { why } = &trial.outcome {
            let _ = writeln!(text, "Proves nothing: {}: {why}", trial.fault);
        }
    }
    for trouble in &report.trouble {
        let _ = writeln!(text, "Proves less than it should: {trouble}");
    }
    let (seed, rounds) = (report.seed, report.rounds);
    let _ = writeln!(
        text,
        "\nRepeat it by --seed {seed} --rounds {rounds}, and one fault by --fault NAME besides."
    );
    text
}

fn row(text: &mut String, name: &str, score: &Score) {
    let ratio = score.ratio().map_or_else(|| "-".to_owned(), |ratio| format!("{:.1} %", ratio * 100.0));
    let _ = writeln!(
        text,
        "{name:12} {:>9} {:>9} {:>9} {:>9} {:>15} {ratio:>7}",
        score.injected, score.detected, score.lucky, score.missed, score.not_applicable
    );
}

/// What was not detected, and what would have had to be seen.
fn survivors(text: &mut String, report: &Report) {
    for survivor in report.survivors() {
        let what = survivor.struck.as_ref().map_or("", |struck| struck.what.as_str());
        let _ = writeln!(text, "\nNot detected: {}: {what}", survivor.fault);
        if let Outcome::Lucky { by } = &survivor.outcome {
            let _ = writeln!(text, "  it failed by {}, which does not explain it", joined(by));
        }
        if let Some(fault) = named(&survivor.fault) {
            let _ = writeln!(text, "  {}", fault.notice);
            let _ = writeln!(text, "  Findings that explain it: {}", fault.codes.join(", "));
            let _ = writeln!(text, "  Known limits: {}", fault.not_verified);
        }
    }
}

fn joined(words: &std::collections::BTreeSet<String>) -> String {
    words.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}
