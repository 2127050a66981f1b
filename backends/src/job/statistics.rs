//! What a bucket holds is told.

use firedrill_core::config::jobs::StatisticsConfig;
use firedrill_core::pipeline::job::{Facts, Job, JobOrder, JobReport};

use super::ObjectPlace;
use crate::statistics::{Planned, statistics};

/// Counts what is in a bucket or a folder.
pub struct StatisticsJob {
    /// Where.
    pub place: ObjectPlace,
    /// What is counted apart, and the limits.
    pub config: StatisticsConfig,
    /// The jobs that work on it.
    pub planned: Vec<Planned>,
}

impl Job for StatisticsJob {
    fn run(&self, order: &JobOrder<'_>) -> JobReport {
        let (place, access) = (&self.place, self.place.access.watched(&order.watch));
        match statistics(&place.location, &access, &self.config, &self.planned, &order.watch) {
            Err(error) => JobReport::failed(error),
            Ok(facts) => {
                let mut notes = Vec::new();
                let bytes: u64 = facts.prefixes.iter().map(|prefix| prefix.bytes).sum();
                if let Some(limit) = facts.limit.filter(|limit| bytes > *limit) {
                    notes.push(format!("{bytes} bytes are stored, and {limit} fit"));
                }
                let most = self.config.requests_max;
                if let (Some(requests), Some(most)) = (facts.requests_per_month, most)
                    && requests > most
                {
                    notes.push(format!("about {requests} requests in a month, more than {most}"));
                }
                let archived: u64 = facts.prefixes.iter().map(|prefix| prefix.archived).sum();
                if archived > 0 {
                    notes.push(format!("{archived} objects have to be thawed before they can be read"));
                }
                notes.extend(facts.settings.iter().map(|(name, value)| format!("{name}: {value}")));
                let mut report = JobReport::succeeded(Facts::Statistics(facts));
                report.notes = notes;
                report
            }
        }
    }
}
