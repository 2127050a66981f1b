//! The pipeline: `serve`, `run`, `jobs`, `init` and `backup`.

pub(crate) mod backup;
mod hands;
pub(crate) mod init;
pub(crate) mod jobs;
mod made;
mod people;
pub(crate) mod run;
pub(crate) mod serve;

use std::path::{Path, PathBuf};

use firedrill_core::config::Config;
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::pipeline::ledger::Ledger;
use firedrill_core::pipeline::spec::{JobName, JobSpec};

use crate::args::FleetArgs;
use crate::state;

/// A fleet: its config, its jobs, and what is known of them.
pub(crate) struct Fleet {
    pub(crate) config: Config,
    pub(crate) file: PathBuf,
    pub(crate) jobs: Vec<JobSpec>,
    pub(crate) ledger: Ledger,
    pub(crate) state: PathBuf,
}

impl Fleet {
    pub(crate) fn open(args: &FleetArgs) -> Result<Self> {
        let config = crate::config::load(&args.config)?;
        let state = state::folder(args.state.as_deref(), Some(&config));
        let jobs = JobSpec::all(&config);
        if jobs.is_empty() {
            return Err(Error::new(ErrorKind::Usage, format!("find jobs in {}", args.config.display()))
                .because("no target has `backup`, and there are no `jobs`")
                .advise("see \"Backups and jobs\" in the documentation of the config"));
        }
        Ok(Self { ledger: Ledger::open(&state)?, config, file: args.config.clone(), jobs, state })
    }

    pub(crate) fn job(&self, name: &str) -> Result<&JobSpec> {
        self.jobs.iter().find(|job| job.name.0 == name).ok_or_else(|| {
            let known: Vec<_> = self.jobs.iter().map(|job| job.name.0.as_str()).collect();
            Error::new(ErrorKind::Usage, format!("find the job {name}"))
                .because(format!("the config has {}", known.join(", ")))
        })
    }

    pub(crate) fn names(&self) -> Vec<JobName> {
        self.jobs.iter().map(|job| job.name.clone()).collect()
    }

    /// Where jobs get a folder each.
    pub(crate) fn work(&self) -> PathBuf {
        self.state.join("work")
    }
}

/// The deadline of a job is its own matter; one that does not keep it is killed so much later.
const GRACE: std::time::Duration = std::time::Duration::from_secs(60);

fn shown(path: &Path) -> String {
    path.display().to_string()
}
