//! Restore tests as trials, one per tag and copy, for `cargo test`, nextest and whatever reads their
//! reports. Set `FIREDRILL_CONFIG` to test a fleet of your own; without it a small fleet is made in the
//! target folder, so that this target never passes for want of anything to test.

#![expect(clippy::print_stderr, reason = "the listing of a test program may fail, and must say why")]

#[path = "support/binary.rs"]
mod binary;
#[path = "restore/firedrill.rs"]
mod firedrill;
#[path = "restore/fixture.rs"]
mod fixture;
#[path = "support/shared.rs"]
mod shared;

use std::path::PathBuf;
use std::process::ExitCode;

use firedrill_scenarios::fleet::TARGETS;
use libtest_mimic::{Arguments, Failed, Trial};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let trials = match std::env::var_os("FIREDRILL_CONFIG") {
        Some(config) => trials_of(PathBuf::from(config), &arguments),
        None => Ok(trials_of_the_fixture()),
    };
    match trials {
        Ok(trials) => libtest_mimic::run(&arguments, trials).exit_code(),
        Err(error) => {
            eprintln!("cannot list the restore tests: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The drills of somebody's own fleet.
fn trials_of(config: PathBuf, arguments: &Arguments) -> anyhow::Result<Vec<Trial>> {
    let drills = match &arguments.filter {
        // nextest starts one process per trial. It has planned already; there is no need to open every
        // repository again for each of them.
        Some(name) if arguments.exact && !arguments.list => {
            firedrill::Drill::named(name).map_or_else(|| firedrill::plan(&config), |drill| Ok(vec![drill]))
        }
        _ => firedrill::plan(&config),
    }?;
    anyhow::ensure!(!drills.is_empty(), "{} plans no drill", config.display());
    Ok(drills
        .into_iter()
        .map(|drill| {
            let config = config.clone();
            // A drill without a tag cannot be asked for by itself. It is listed, and shown as ignored.
            let ignored = drill.tag.is_none();
            Trial::test(drill.name.clone(), move || firedrill::verify(&config, &drill, None).map_err(failed))
                .with_ignored_flag(ignored)
        })
        .collect())
}

/// The drills of the fixture, whose names are known without making it, and one that must fail: a test
/// that passes whatever happens proves nothing.
fn trials_of_the_fixture() -> Vec<Trial> {
    let mut trials: Vec<_> = TARGETS
        .iter()
        .map(|target| {
            let name = format!("primary::{}::latest", target.tag);
            Trial::test(name.clone(), move || fixture::healthy(&name).map_err(failed))
        })
        .collect();
    trials
        .push(Trial::test("damaged::downloader::latest", || fixture::damaged("downloader").map_err(failed)));
    trials
}

fn failed(error: anyhow::Error) -> Failed {
    Failed::from(format!("{error:#}"))
}
