//! A repository is read and compared with itself.

use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::pipeline::job::{CheckFacts, Facts, Job, JobOrder, JobReport};

use super::Place;

/// Checks a repository.
pub struct CheckJob {
    /// The repository.
    pub place: Place,
    /// Which share of the packs is read, in percent.
    pub read_data_percent: u32,
}

impl Job for CheckJob {
    fn run(&self, order: &JobOrder<'_>) -> JobReport {
        self.check(order).unwrap_or_else(JobReport::failed)
    }
}

impl CheckJob {
    fn check(&self, order: &JobOrder<'_>) -> Result<JobReport> {
        let (writer, _) = self.place.open(&order.watch)?;
        // Another part each day: in time all of it is read.
        let day = u64::try_from(order.started.as_second() / 86_400).unwrap_or_default();
        let checked = writer.check(self.read_data_percent, day, &order.watch)?;
        let facts = Facts::Check(CheckFacts {
            packs: checked.packs,
            packs_read: checked.packs_read,
            errors: checked.errors.len() as u64 + checked.errors_more,
        });
        if checked.errors.is_empty() {
            return Ok(JobReport::succeeded(facts));
        }
        let first = checked.errors.first().cloned().unwrap_or_default();
        let error =
            Error::new(ErrorKind::Unavailable, format!("find {} sound", self.place.name)).because(first);
        Ok(JobReport { facts, notes: checked.errors, ..JobReport::failed(error) })
    }
}
