//! What data folders held when they were last verified. What dumps held, the structure probes remember.

use std::collections::BTreeMap;

use firedrill_core::finding::{Examination, Finding};
use firedrill_core::subject::Subject;
use serde_json::json;

use crate::probe::tables;

/// Where the baseline keeps them.
const KEY: &str = "folders";
/// Tables that are remembered.
const TABLES_MAX: usize = 2000;
/// Falls of smaller counts mean nothing.
const COUNT_MIN: u64 = 10;

/// Rows by table, by database of a data folder.
pub(super) type Rows = BTreeMap<String, BTreeMap<String, u64>>;

/// Compares with the last verified drill, and remembers.
pub(super) fn compare(subject: &Subject, now: &Rows, examination: &mut Examination) {
    let baseline =
        subject.history.baseline.as_ref().and_then(|b| b.probes.get(super::NAME)?.get(KEY).cloned());
    let before: Rows = baseline.and_then(|kept| serde_json::from_value(kept).ok()).unwrap_or_default();
    for (database, had) in &before {
        let Some(has) = now.get(database) else { continue };
        let gone = tables::gone(had, has);
        let meant = tables::moved_on(had, has) && !tables::lost_much(&gone, had);
        if !gone.is_empty() && !meant {
            let shown: Vec<_> = gone.iter().map(|(table, _)| *table).take(10).collect();
            examination.find(Finding::anomaly(
                "postgres.tables_vanished",
                database,
                format!("the {} tables of the last verified drill", had.len()),
                format!("{} of them are gone: {}", gone.len(), shown.join(", ")),
            ));
        }
        let (had, has) = (tables::lasting_rows(had), tables::lasting_rows(has));
        let ratio = subject.drill.probes.shape.files_drop_max_ratio;
        if had >= COUNT_MIN && (has as f64) < had as f64 * (1.0 - ratio) {
            examination.find(Finding::anomaly(
                "postgres.rows_fell",
                database,
                format!("about the {had} rows of the last verified drill"),
                format!("{has} rows"),
            ));
        }
    }
    let whole: usize = now.values().map(BTreeMap::len).sum();
    if whole <= TABLES_MAX && !now.is_empty() {
        examination.baseline.insert(KEY.to_owned(), json!(now));
    }
}
