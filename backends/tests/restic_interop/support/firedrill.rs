//! The one place where the stories call firedrill.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use firedrill_backends::repository::location::{Access as Way, Environment, Location};
use firedrill_backends::repository::restic::Restic as Reader;
use firedrill_core::error::{Error, Result};
use firedrill_core::plan::DrillName;
use firedrill_core::ports::{Lease, Order, Repository as _, Restored};
use firedrill_core::secret::Secret;
use firedrill_core::watch::Watch;

use super::restic::Access;

/// A story about a server that never answers ends in this time.
const LIMIT: Duration = Duration::from_secs(100);

/// What came of a restore.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// What the repository could not give back.
    pub(crate) findings: Vec<String>,
    /// Why we could not look, if we could not.
    pub(crate) error: Option<String>,
}

impl Outcome {
    /// Whether all was restored.
    pub(crate) fn is_clean(&self) -> bool {
        self.findings.is_empty() && self.error.is_none()
    }

    #[track_caller]
    pub(crate) fn expect_clean(self) {
        assert!(self.is_clean(), "the restore was not clean: {self:#?}");
    }
}

/// Restores the snapshot `id` of the repository behind `access` into the folder `into`.
pub(crate) fn restore_with_firedrill(access: &Access, id: &str, into: &Path) -> Outcome {
    match restore(access, id, into) {
        Ok(findings) => Outcome { findings, error: None },
        Err(error) => Outcome { findings: Vec::new(), error: Some(error.chain()) },
    }
}

fn restore(access: &Access, id: &str, into: &Path) -> Result<Vec<String>> {
    let watch = Watch::unlimited().within(Some(LIMIT));
    let mut way = Way::from_environment(Environment::default());
    way.ca_cert.clone_from(&access.authority);
    way.request_timeout = Duration::from_secs(10);
    let backend = Location::parse(&access.url)?.open(&way)?;
    let reader = Reader::new(backend, Secret::new(access.password.clone()));
    let inventory = reader.snapshots(&watch)?;
    let snapshot = inventory.snapshots.iter().find(|s| s.id.0 == id).expect("the snapshot is listed");
    std::fs::create_dir_all(into).expect("a folder to restore into");
    let work = into.with_extension("work");
    let lease = Lease::new("story".to_owned(), into.to_owned(), work, |_| Ok(None));
    let drill = DrillName("story".to_owned());
    let order = Order {
        drill: &drill,
        snapshot,
        lease: &lease,
        bytes_max: None,
        progress: Arc::default(),
        watch: watch.clone(),
    };
    let restored: Restored = reader.restore(&[order]).pop().unwrap_or_else(|| {
        Err(Error::new(firedrill_core::error::ErrorKind::Internal, "restore").because("there was no result"))
    })?;
    let findings = inventory.findings.iter().chain(&restored.findings).chain(&restored.copy_findings);
    Ok(findings.map(|f| format!("{}: {}: {}", f.code, f.location, f.seen)).collect())
}
