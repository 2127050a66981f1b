//! Shows firedrill at work on a fleet that is made on the spot: a week of healthy backups and their
//! mirror in a bucket are restore-tested; then three things go wrong in a copy, and it is tested again.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this is a command; it talks to a person")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use firedrill_backends::repository::location::{Access, Environment, Location};
use firedrill_core::clock::{Clock as _, SystemClock};
use firedrill_core::secret::Secret;
use firedrill_scenarios::damage;
use firedrill_scenarios::fleet::{
    Config, Fleet, Scale, TARGETS, Target, TestRepository, canary_key, mirror, write_secret,
};
use firedrill_scenarios::s3_server::S3Server;
use jiff::SignedDuration;

const USAGE: &str = "usage: firedrill-demo [--dir DIR] [--seed NUMBER]

Makes seven targets with a week of backups, mirrors them to a bucket, restore-tests both copies,
breaks a third copy in three ways and tests that one too. DIR must be empty or missing; without it a
new folder firedrill-demo-* is made in the system's folder for temporary files.";

const PASSWORD: &str = "firedrill-demo";
const ACCESS_KEY: &str = "firedrill-demo-access";
const SECRET_KEY: &str = "firedrill-demo-secret";
const BUCKET: &str = "backups";
/// One restore test takes seconds; one that takes this long hangs.
const RUN_MAX: Duration = Duration::from_secs(600);

/// What is broken, and the tags that must fail for it.
const DAMAGED: [(&str, &str); 3] = [
    ("downloader", "one bit flipped in a data pack"),
    ("postgres", "a new snapshot holds a dump that was cut short"),
    ("emby", "in a new snapshot nine of ten files are gone"),
];

fn main() -> ExitCode {
    match arguments(std::env::args().skip(1)).and_then(|arguments| arguments.map_or(Ok(()), demonstrate)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("firedrill-demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

struct Arguments {
    dir: Option<PathBuf>,
    seed: u64,
}

/// `None` when help was asked for and given.
fn arguments(mut given: impl Iterator<Item = String>) -> Result<Option<Arguments>> {
    let mut arguments = Arguments { dir: None, seed: 1 };
    while let Some(argument) = given.next() {
        match argument.as_str() {
            "--dir" => arguments.dir = Some(given.next().context("--dir needs a folder")?.into()),
            "--seed" => arguments.seed = given.next().context("--seed needs a number")?.parse()?,
            "--help" | "-h" => {
                println!("{USAGE}");
                return Ok(None);
            }
            other => bail!("there is no argument {other}\n{USAGE}"),
        }
    }
    Ok(Some(arguments))
}

fn demonstrate(arguments: Arguments) -> Result<()> {
    let firedrill = firedrill()?;
    let dir = work_folder(arguments.dir)?;
    println!("Working in {} with seed {}.\n", dir.display(), arguments.seed);

    let started = Instant::now();
    let password = Secret::new(PASSWORD);
    // The last round ends an hour before now, so that there is room for one in which things go wrong.
    let start = SystemClock.now().checked_sub(SignedDuration::from_hours(6 * 24 + 2))?;
    let mut fleet = Fleet::create(&dir.join("fleet"), Scale::Demo, arguments.seed, start, &password)?;
    let repository = TestRepository::init(&dir.join("repository"), &password)?;
    write_secret(&dir.join("canary.key"), &canary_key(&password))?;
    fleet.back_up_all(&repository)?;
    for _ in 1..7 {
        fleet.next_day()?;
        fleet.back_up_all(&repository)?;
    }
    println!("1. Backed up {} targets on seven days ({:.0?}).", TARGETS.len(), started.elapsed());

    let buckets = dir.join("buckets");
    std::fs::create_dir_all(buckets.join(BUCKET))?;
    let server = S3Server::start(&buckets, ACCESS_KEY, SECRET_KEY)?;
    let address = format!("s3:{}/{BUCKET}/fleet", server.endpoint());
    let mirrored = mirror(&repository.backend()?, &*open_bucket(&address)?)?;
    println!("2. Mirrored {} files, {} MiB, to {address}.", mirrored.files, mirrored.bytes >> 20);

    println!("3. Restore-testing both copies.\n");
    let copies =
        [("primary", "primary", repository.path().display().to_string()), ("mirror", "mirror", address)];
    let healthy = restore_test(&firedrill, &dir, "healthy", &copies)?;
    drop(server);
    ensure!(healthy.exit == 0, "the healthy fleet did not pass: exit code {}", healthy.exit);
    ensure!(healthy.drills.len() == 2 * TARGETS.len(), "only {} drills were judged", healthy.drills.len());

    println!("\n4. Breaking a copy of the repository:");
    let copy = repository.copy_to(&dir.join("broken"))?;
    break_copy(&mut fleet, &copy, arguments.seed)?;
    for (tag, what) in DAMAGED {
        println!("   {tag}: {what}");
    }
    println!("5. Restore-testing the broken copy.\n");
    let broken = restore_test(
        &firedrill,
        &dir,
        "broken",
        &[("primary", "primary", copy.path().display().to_string())],
    )?;

    drop(fleet);
    for bulky in ["fleet", "buckets", "scratch"] {
        let _ = std::fs::remove_dir_all(dir.join(bulky));
    }
    compare(&healthy, &broken);
    println!("\nReports: {}\n         {}", healthy.html.display(), broken.html.display());
    println!("Everything else is in {}; remove it when you have seen enough.", dir.display());
    judge(&broken)
}

/// The folder to work in.
fn work_folder(wanted: Option<PathBuf>) -> Result<PathBuf> {
    let Some(dir) = wanted else {
        return Ok(tempfile::Builder::new().prefix("firedrill-demo-").tempdir()?.keep());
    };
    std::fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
    let dir = dir.canonicalize()?;
    ensure!(std::fs::read_dir(&dir)?.next().is_none(), "{} is not empty", dir.display());
    Ok(dir)
}

/// The command beside this one.
fn firedrill() -> Result<PathBuf> {
    let here = std::env::current_exe()?;
    let beside = here.parent().context("this command is in a folder")?.join("firedrill");
    ensure!(beside.is_file(), "{} is missing; build it by `cargo build --bin firedrill`", beside.display());
    Ok(beside)
}

fn open_bucket(address: &str) -> Result<std::sync::Arc<dyn rustic_core::WriteBackend>> {
    let environment = Environment::default()
        .with("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .with("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        .with("AWS_REGION", "us-east-1");
    Location::parse(address)
        .and_then(|location| location.open_writable(&Access::from_environment(environment)))
        .map_err(|error| anyhow!(error.chain()))
}

fn break_copy(fleet: &mut Fleet, copy: &TestRepository, seed: u64) -> Result<()> {
    let guard = damage::named("data-bit")?.apply_to(copy.path(), PASSWORD, seed, "downloader")?;
    ensure!(guard.hits().iter().eq(["downloader"]), "the damage hit {:?}", guard.hits());
    fleet.advance(SignedDuration::from_hours(1))?;
    fleet.cut_dump()?;
    fleet.back_up(copy, Target::tagged("postgres")?)?;
    fleet.lose_files("emby")?;
    fleet.back_up(copy, Target::tagged("emby")?)?;
    Ok(())
}

/// What came of one run of firedrill.
struct Run {
    exit: i32,
    /// Verdicts by drill.
    drills: BTreeMap<String, String>,
    html: PathBuf,
}

/// Runs `firedrill restore-test` as a person would, with its output on the terminal.
fn restore_test(firedrill: &Path, dir: &Path, name: &str, copies: &[(&str, &str, String)]) -> Result<Run> {
    let config = dir.join(format!("{name}.yaml"));
    let (json, html) = (dir.join(format!("{name}.json")), dir.join(format!("{name}.html")));
    let (scratch, key) = (dir.join("scratch"), dir.join("canary.key"));
    std::fs::create_dir_all(&scratch)?;
    let written = Config { copies, scratch: &scratch, canary_key_file: &key, password_file: None };
    std::fs::write(&config, written.to_yaml()?)?;
    let mut child = Command::new(firedrill)
        .arg("restore-test")
        .arg("--config")
        .arg(&config)
        .arg("--state")
        .arg(dir.join(format!("{name}-state")))
        .arg("--json-file")
        .arg(&json)
        .arg("--html")
        .arg(&html)
        .env("RESTIC_PASSWORD", PASSWORD)
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        .env("AWS_REGION", "us-east-1")
        .env("NO_PROXY", "127.0.0.1")
        .spawn()
        .with_context(|| format!("start {}", firedrill.display()))?;
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if started.elapsed() > RUN_MAX {
            child.kill()?;
            child.wait()?;
            bail!("firedrill did not finish within {RUN_MAX:?}");
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let exit = status.code().with_context(|| format!("firedrill ended by {status}"))?;
    let judgement =
        std::fs::read(&json).with_context(|| format!("firedrill ended with {exit}, without a judgement"))?;
    let judgement: serde_json::Value = serde_json::from_slice(&judgement)?;
    let text = |value: &serde_json::Value| value.as_str().unwrap_or("?").to_owned();
    let drills = judgement["drills"].as_array().context("the judgement has no drills")?;
    let drills = drills.iter().map(|drill| (text(&drill["name"]), text(&drill["verdict"]))).collect();
    Ok(Run { exit, drills, html })
}

/// The tags side by side.
fn compare(healthy: &Run, broken: &Run) {
    let verdict = |run: &Run, copy: &str, tag: &str| {
        run.drills.get(&format!("{copy}::{tag}::latest")).cloned().unwrap_or_else(|| "-".to_owned())
    };
    println!("\n{:<12} {:<13} {:<13} {:<13} what was broken", "tag", "primary", "mirror", "broken copy");
    for target in TARGETS {
        let what = DAMAGED.iter().find(|(tag, _)| *tag == target.tag).map_or("", |(_, what)| what);
        let tag = target.tag;
        println!(
            "{tag:<12} {:<13} {:<13} {:<13} {what}",
            verdict(healthy, "primary", tag),
            verdict(healthy, "mirror", tag),
            verdict(broken, "primary", tag),
        );
    }
}

/// The broken copy must fail for what was broken, and for nothing else.
fn judge(broken: &Run) -> Result<()> {
    let name = |tag: &str| format!("primary::{tag}::latest");
    let expected: BTreeSet<_> = DAMAGED.iter().map(|(tag, _)| name(tag)).collect();
    let failed: BTreeSet<_> = broken
        .drills
        .iter()
        .filter(|(_, verdict)| *verdict == "failed")
        .map(|(drill, _)| drill.clone())
        .collect();
    ensure!(broken.drills.len() == TARGETS.len(), "only {} drills were judged", broken.drills.len());
    ensure!(failed == expected, "these failed: {failed:?}; these were broken: {expected:?}");
    ensure!(broken.exit == 1, "the broken copy gave exit code {}", broken.exit);
    Ok(())
}
