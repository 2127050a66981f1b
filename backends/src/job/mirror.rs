//! One copy is filled from another.

use firedrill_core::config::jobs::{MirrorConfig, MirrorMode};
use firedrill_core::error::Result;
use firedrill_core::pipeline::job::{Job, JobOrder, JobReport};

use super::{ObjectPlace, Place};
use crate::mirror::{MirrorRequest, Mirrored, Side, lag, mirror_identical, mirror_objects, reencrypted};
use crate::repository::objects::ObjectSettings;

/// Fills a copy from another.
pub struct MirrorJob {
    /// How.
    pub config: MirrorConfig,
    /// What is filled from what.
    pub ends: Ends,
}

/// The two ends of a mirror.
pub enum Ends {
    /// Restic repositories: the source and the copy.
    Repositories(Place, Place),
    /// Plain objects: the source and the copy, and how their names are read.
    Objects(ObjectPlace, ObjectPlace, ObjectSettings),
}

impl Job for MirrorJob {
    fn run(&self, order: &JobOrder<'_>) -> JobReport {
        match self.fill(order) {
            Ok(mirrored) => mirrored.into_report(),
            Err(error) => JobReport::failed(error),
        }
    }
}

impl MirrorJob {
    fn fill(&self, order: &JobOrder<'_>) -> Result<Mirrored> {
        match &self.ends {
            Ends::Objects(from, to, settings) => {
                let side = |place: &ObjectPlace| Side {
                    location: place.location.clone(),
                    access: place.access.watched(&order.watch),
                    password: None,
                };
                let (from, to) = (side(from), side(to));
                let request = self.request(&from, &to);
                let now = (order.work, order.started);
                Ok(mirror_objects(&from, &to, settings, &request, now, &order.progress, &order.watch))
            }
            Ends::Repositories(from, to) => self.fill_repository(from, to, order),
        }
    }

    fn fill_repository(&self, from: &Place, to: &Place, order: &JobOrder<'_>) -> Result<Mirrored> {
        // Nobody may remove from the source what is just being copied, whoever that is: restic's lock says so.
        let (reader, password) = from.open(&order.watch)?;
        let _held = reader.lock_shared(&order.watch)?;
        let side = |place: &Place, password| Side {
            location: place.location.clone(),
            access: place.access.watched(&order.watch),
            password,
        };
        let source = side(from, Some(password.clone()));
        let mut copy = side(to, to.password.read().ok());
        let request = self.request(&source, &copy);
        let mut mirrored = match self.config.mode {
            MirrorMode::Identical => {
                copy.password = Some(password);
                mirror_identical(&source, &copy, &request, &order.progress, &order.watch)
            }
            MirrorMode::Reencrypted => {
                let (writer, own) = Place { make: true, ..to.clone() }.open(&order.watch)?;
                copy.password = Some(own);
                reencrypted(&source.open()?, &password, &writer, &request, &order.progress, &order.watch)
            }
        };
        if mirrored.error.is_none() {
            match lag(&source, &copy, self.config.mode, order.started, &order.watch) {
                Ok(behind) => {
                    mirrored.facts.files_missing = mirrored.facts.files_missing.max(behind.files_missing);
                    mirrored.facts.lag_seconds = behind.lag_seconds;
                }
                Err(error) => {
                    mirrored.notes.push(format!("how far it is behind is not known: {}", error.chain()))
                }
            }
        }
        Ok(mirrored)
    }

    fn request(&self, from: &Side, to: &Side) -> MirrorRequest {
        MirrorRequest {
            delete: self.config.delete,
            bandwidth: self.config.bandwidth.map(|size| size.0),
            keep_ratio_min: self.config.keep_ratio_min,
            ..MirrorRequest::between(from, to)
        }
    }
}
