use std::io::Read as _;
use std::path::Path;
use std::time::{Duration, Instant};

use firedrill_core::secret::Secret;
use firedrill_core::watch::Watch;

use super::super::process::{Output, Program};
use super::{LONG, Place, command};

fn shell(script: &str) -> Program {
    Program::new(["sh", "-c", script].map(str::to_owned).to_vec())
}

/// Waits until the process whose number is in `file` is gone, or nothing but a number.
fn await_end(file: &Path) {
    let start = Instant::now();
    let pid = loop {
        match std::fs::read_to_string(file).ok().and_then(|text| text.trim().parse::<u32>().ok()) {
            Some(pid) => break pid,
            None => assert!(start.elapsed() < LONG, "it was never started"),
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let runs = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
    };
    while runs() {
        assert!(start.elapsed() < LONG, "{pid} still runs");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn what_a_program_writes_arrives_whole() {
    let bytes = Place::new().shell("head -c 5000000 /dev/zero; echo end").unwrap();
    assert_eq!(bytes.len(), 5_000_004);
    assert!(bytes.ends_with(b"end\n"));
}

#[test]
fn a_program_that_fails_never_looks_like_success() {
    let place = Place::new();
    for (script, told) in [
        ("echo half; echo no space left >&2; exit 1", "sh ended with exit code 1: no space left"),
        ("echo half; kill -9 $$", "sh ended with signal 9"),
        ("exit 0", "it produced nothing"),
        ("exit 3", "exit code 3"),
    ] {
        let error = place.shell(script).unwrap_err();
        assert!(error.contains(told), "{script}: {error}");
    }
    let error = place.read(command(&["no-such-program"])).unwrap_err();
    assert!(error.contains("start no-such-program") && error.contains("PATH"), "{error}");
    let mut small = command(&["echo", "few"]);
    small.command.as_mut().unwrap().bytes_min = Some(firedrill_core::config::units::Size(5));
    assert!(place.read(small).unwrap_err().contains("4 bytes, and at least 5"));
}

#[test]
fn a_program_that_hangs_is_killed_with_its_children() {
    let place = Place::new();
    let pid = place.path().join("pid");
    let script = format!("echo data; sleep 1000 & echo $! > {}; wait", pid.display());
    // The deadline begins when the child is there.
    let watch = Watch::unlimited();
    let mut output = Output::start(shell(&script), &watch.within(Some(LONG))).unwrap();
    let mut head = [0; 5];
    output.read_exact(&mut head).unwrap();
    while std::fs::read_to_string(&pid).unwrap_or_default().is_empty() {
        std::thread::sleep(Duration::from_millis(10));
    }
    watch.stop();
    let error = output.read(&mut head).unwrap_err().to_string();
    assert!(error.contains("sh was stopped"), "{error}");
    await_end(&pid);

    let mut late = Place::new();
    late.watch = Watch::unlimited().within(Some(Duration::from_millis(500)));
    let error = late.shell("echo data; sleep 1000").unwrap_err();
    assert!(error.contains("limit of 500ms passed"), "{error}");
}

#[test]
fn nobody_who_left_the_group_can_hold_us() {
    let mut place = Place::new();
    place.watch = Watch::unlimited().within(Some(Duration::from_secs(2)));
    let start = Instant::now();
    // Its output stays open in the hands of somebody else.
    let error = place.shell("setsid sleep 60 & echo data").unwrap_err();
    assert!(error.contains("was stopped"), "{error}");
    assert!(start.elapsed() < LONG);
    // Where only what it complains about stays open, the output has ended well.
    let place = Place::new();
    assert_eq!(place.shell("setsid sleep 60 >/dev/null & echo data").unwrap(), b"data\n");
    assert_eq!(place.shell("sleep 600 >/dev/null & echo data").unwrap(), b"data\n");
}

#[test]
fn a_program_that_closes_its_output_has_to_end() {
    let place = Place::new();
    let pid = place.path().join("pid");
    let script =
        format!("echo $$ > {}; echo data; echo still here >&2; exec 1>&-; sleep 1000", pid.display());
    let program = Program { ending: Duration::from_millis(300), ..shell(&script) };
    let mut output = Output::start(program, &place.watch).unwrap();
    let error = output.read_to_end(&mut Vec::new()).unwrap_err().to_string();
    assert!(error.contains("closed its output and did not end"), "{error}");
    await_end(&pid);
    // One that takes a moment is given it.
    let mut output = Output::start(shell("echo data; exec 1>&-; sleep 1"), &place.watch).unwrap();
    assert_eq!(output.read_to_end(&mut Vec::new()).unwrap(), 5);
}

#[test]
fn a_program_that_nobody_reads_any_more_is_ended() {
    let place = Place::new();
    let pid = place.path().join("pid");
    let script = format!("echo $$ > {}; exec yes", pid.display());
    let mut output = Output::start(shell(&script), &place.watch).unwrap();
    output.read_exact(&mut [0; 100]).unwrap();
    drop(output);
    await_end(&pid);
}

#[test]
fn secrets_are_in_no_error() {
    let place = Place::new();
    let script = "echo password hunter2 for $PGPASSWORD at postgres://me:hunter3@db/x >&2; exit 1";
    let mut program = shell(script).with("PGPASSWORD", Some(Secret::new("s3cret")));
    program.secrets.push(Secret::new("hunter2"));
    let mut output = Output::start(program, &place.watch).unwrap();
    let error = output.read_to_end(&mut Vec::new()).unwrap_err().to_string();
    assert!(error.contains("password *** for *** at postgres://***@db/x"), "{error}");
}

#[test]
fn last_words_count() {
    let place = Place::new();
    let run = |script: &str| {
        let program = Program { last_words: Some("completed OK!"), ..shell(script) };
        Output::run(program, &place.watch)
    };
    assert!(run("echo data; echo 2026 completed OK! >&2; echo >&2").is_ok());
    let error = run("echo data; echo completed OK! >&2; echo but no >&2").unwrap_err().chain();
    assert!(error.contains("without saying `completed OK!`: completed OK!; but no"), "{error}");
}
