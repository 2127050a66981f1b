//! The pipeline on a simulated clock, with jobs that only pretend.

mod plans;
mod runs;
mod served;
mod times;
mod told;

use crate::config::{Config, load};
use crate::pipeline::spec::JobSpec;

/// A config with the copies `local` and `offsite` in front of `rest`.
fn config(rest: &str) -> Config {
    let text = format!(
        "version: 1\ncopies:\n  - {{name: local, repository: /srv/restic}}\n  - {{name: offsite, role: mirror, repository: /mnt/offsite}}\n{rest}"
    );
    load(&text, "firedrill.yaml").unwrap_or_else(|problems| panic!("{problems}")).config
}

fn jobs(rest: &str) -> Vec<JobSpec> {
    JobSpec::all(&config(rest))
}

/// A target that is backed up, with more keys and more rules.
fn target(name: &str, schedule: &str, rules: &str) -> String {
    format!(
        "  - name: {name}\n    tag: {name}\n    host: {name}\n    schedule: \"{schedule}\"\n    backup: {{capture: [{{files: {{paths: [/srv/{name}]}}}}], rules: {{{rules}}}}}\n"
    )
}
