//! firedrill killed while an engine starts, loads and answers: nothing of it stays on the machine.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use firedrill_core::seed;

use crate::fixture::Fixture;
use crate::need::{Runtime, runtimes, tools};
use crate::place::{Place, listing};

/// A backup, a program that appears on the way to its verdict, and how many milliseconds after that to wait at most.
const MOMENTS: [(&str, &str, u64); 8] = [
    ("pg-plain", "initdb", 1),
    ("pg-plain", "postgres", 200),
    ("pg-cluster", "postgres", 1500),
    ("pg-custom", "postgres", 900),
    ("maria-stream", "mariadb-backup", 300),
    ("maria-stream", "mariadbd", 1200),
    ("maria-dump", "mariadbd", 1500),
    ("etcd", "etcd", 700),
];
/// Runs that end before they are killed are tried again, and killed earlier.
const TRIES: u32 = 4;
/// Stands for a container that belongs to the run.
const CONTAINER: &str = "a container";
/// The programs must appear within this time.
const APPEAR: Duration = Duration::from_secs(60);
/// What was killed must be gone within this time.
const GONE: Duration = Duration::from_secs(10);

#[test]
fn whenever_it_is_killed_nothing_stays() {
    if !tools() {
        return;
    }
    let fixture = Fixture::shared().unwrap();
    for runtime in runtimes() {
        let place = Place::new(&fixture, "").unwrap();
        let before = listing(&place.path("repository")).unwrap();
        let (mut lived, mut problems) = (BTreeSet::new(), Vec::new());
        for (round, (tag, program, wait)) in MOMENTS.into_iter().enumerate() {
            let moment = seed::child(11, &format!("{} {round}", runtime.word())) % wait;
            let tries =
                (0..TRIES).map(|n| killed(runtime, &place, tag, program, Duration::from_millis(moment >> n)));
            match tries.map(Result::transpose).find_map(|killed| killed) {
                None => problems.push(format!("{runtime:?}, {tag} at {program}: it always ended before")),
                Some(Ok(alive)) => lived.extend(alive),
                Some(Err(error)) => problems.push(format!("{runtime:?}, {tag} at {program}: {error:#}")),
            }
        }
        assert!(problems.is_empty(), "{}", problems.join("\n\n"));
        assert_eq!(
            listing(&place.path("repository")).unwrap(),
            before,
            "{runtime:?}: the repository was touched"
        );
        let container = (runtime == Runtime::Container).then_some(CONTAINER);
        for engine in ["postgres", "mariadbd", "etcd"].into_iter().chain(container) {
            assert!(lived.contains(engine), "{runtime:?}: no {engine} was alive at any kill: {lived:?}");
        }
    }
}

/// Kills one run; returns the programs that were alive in its cells. `None`: it had ended by then.
fn killed(
    runtime: Runtime,
    place: &Place,
    tag: &str,
    program: &str,
    wait: Duration,
) -> Result<Option<BTreeSet<String>>> {
    let state = place.path(&format!("state-{}", runtime.word()));
    if state.exists() {
        fs::remove_dir_all(&state)?;
    }
    let mut command = place.restore_test(runtime.word(), &[tag])?;
    let mut run = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let number = run.id();
    let appeared = appears(&mut run, &place.name(), program);
    std::thread::sleep(wait);
    let mut alive = inside(&place.name());
    // So that it is known that containers would be found.
    alive.extend((!containers(number)?.is_empty()).then(|| CONTAINER.to_owned()));
    run.kill()?;
    run.wait()?;
    appeared?;

    let mut sweep = place.command(&["sweep", "--scratch"])?;
    let swept = sweep.arg(place.path("scratch")).output()?;
    let told = String::from_utf8_lossy(&swept.stderr).into_owned();
    ensure!(swept.status.success(), "sweep: {}: {told}", swept.status);
    let start = Instant::now();
    loop {
        match nothing_stays(place, number) {
            Err(error) if start.elapsed() > GONE => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
            Ok(()) => break,
        }
    }
    let evidence = fs::read_dir(state.join("runs"))?.next().context("there is no evidence")??.path();
    let judged = place.command(&["judge"])?.arg(&evidence).output()?;
    if judged.status.success() {
        let told = fs::read_to_string(evidence.join("evidence.jsonl"))?;
        ensure!(told.contains("\"run_finished\""), "half of the evidence is enough for {}", judged.status);
        return Ok(None);
    }
    ensure!(judged.status.code() == Some(2), "the evidence is judged {}", judged.status);
    Ok(Some(alive))
}

fn appears(run: &mut Child, name: &str, program: &str) -> Result<()> {
    let start = Instant::now();
    while !inside(name).contains(program) {
        if let Some(status) = run.try_wait()? {
            bail!("it ended before there was any {program}: {status}");
        }
        ensure!(start.elapsed() < APPEAR, "there is no {program} after {APPEAR:?}: {:?}", inside(name));
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// The programs that see, or were told of, a folder with this name. In both runtimes a cell's folder is mounted from
/// scratch.
fn inside(name: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let Ok(processes) = fs::read_dir("/proc") else { return found };
    for process in
        processes.flatten().filter(|process| process.file_name().to_string_lossy().parse::<u32>().is_ok())
    {
        let read = |file: &str| fs::read(process.path().join(file)).unwrap_or_default();
        let sees = |bytes: &[u8]| bytes.windows(name.len()).any(|window| window == name.as_bytes());
        if sees(&read("cmdline")) || sees(&read("mountinfo")) {
            found.insert(String::from_utf8_lossy(read("comm").trim_ascii()).into_owned());
        }
    }
    found
}

/// Fails while anything of the killed run, which had the process id `number`, is still there.
fn nothing_stays(place: &Place, number: u32) -> Result<()> {
    let programs = inside(&place.name());
    ensure!(programs.is_empty(), "still running: {programs:?}");
    let sockets = fs::read_to_string("/proc/net/unix")?;
    ensure!(!sockets.contains(&place.name()), "a socket is still open");
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    ensure!(!mounts.contains(&place.name()), "something is still mounted");
    let containers = containers(number)?;
    ensure!(containers.is_empty(), "containers are left: {containers:?}");
    place.nothing_left()
}

/// The containers whose label names this process as their owner.
fn containers(number: u32) -> Result<Vec<String>> {
    const OWNER: &str = "org.firedrill.owner";
    let format = format!("{{{{.ID}}}} {{{{.Label \"{OWNER}\"}}}}");
    let filter = format!("label={OWNER}");
    let listed =
        Command::new("docker").args(["ps", "--all", "--filter", &filter, "--format", &format]).output();
    // Without the program there are no containers of ours, or the other runtime was skipped loudly.
    let Ok(listed) = listed else { return Ok(Vec::new()) };
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    let of_it = |line: &&str| line.split(':').rev().nth(1) == Some(&number.to_string());
    Ok(text.lines().filter(of_it).map(str::to_owned).collect())
}
