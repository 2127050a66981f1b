//! Every fault of the catalogue as a trial, `chaos::CLASS::FAULT`, for `cargo test`, nextest and whatever reads their
//! reports: struck at a copy of a small fleet, it has to be detected by the command and explained.
//!
//! The faults of a class are struck in one campaign, whose report all trials of the class read.

#[path = "support/binary.rs"]
mod binary;
#[path = "chaos/campaign.rs"]
mod campaign;
#[path = "chaos/fixture.rs"]
mod fixture;
#[path = "chaos/judged.rs"]
mod judged;
#[path = "support/shared.rs"]
mod shared;

use std::process::ExitCode;

use firedrill_scenarios::chaos::{Class, FAULTS};
use libtest_mimic::{Arguments, Failed, Trial};

fn main() -> ExitCode {
    let failed = |error: anyhow::Error| Failed::from(format!("{error:#}"));
    let mut trials: Vec<_> = FAULTS
        .iter()
        .map(|fault| {
            let name = format!("chaos::{}::{}", fault.class, fault.name);
            Trial::test(name, move || campaign::detects(fault).map_err(failed))
        })
        .collect();
    for class in Class::ALL {
        let name = format!("chaos::{class}::raises_no_alarm_for_nothing_and_leaves_the_backups_alone");
        trials.push(Trial::test(name, move || campaign::is_quiet(class).map_err(failed)));
    }
    trials.push(Trial::test("chaos::the_same_seed_strikes_the_same_way", move || {
        campaign::repeats().map_err(failed)
    }));
    trials.push(Trial::test("chaos::nothing_is_proven_with_backups_that_are_broken_already", move || {
        campaign::needs_something_healthy().map_err(failed)
    }));
    trials.push(Trial::test("chaos::who_notices_nothing_is_told_so", move || {
        judged::notices_nothing().map_err(failed)
    }));
    trials.push(Trial::test("chaos::links_in_a_backup_lead_no_fault_out_of_scratch", move || {
        judged::stays_in_scratch().map_err(failed)
    }));
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
