//! The suite.

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use firedrill_core::cell::{
    Address, Cell, CellRequest, Pipes, Program, Runtime, SealPart, SealState, inside,
};
use firedrill_core::error::{ErrorKind, Result};
use firedrill_core::watch::Watch;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{runtimes, shell};

fn open(runtime: &dyn Runtime, work: &Path, watch: &Watch) -> Result<Box<dyn Cell>> {
    runtime.open(&CellRequest {
        lease: "conformance",
        work,
        kits: &[shell()],
        aliases: &["shop-db".to_owned()],
        lifetime: Duration::from_secs(300),
        watch: watch.clone(),
    })
}

/// Does `test` in a cell of each runtime.
fn in_each(test: impl Fn(&dyn Cell, &Path)) {
    for runtime in runtimes() {
        let place = tempfile::tempdir().unwrap();
        let work = place.path().join("work");
        let cell = open(runtime.as_ref(), &work, &Watch::unlimited())
            .unwrap_or_else(|e| panic!("{}: {}", runtime.name(), e.chain()));
        test(cell.as_ref(), &work);
        cell.close().unwrap();
        assert!(!work.exists(), "{} left its folder", runtime.name());
    }
}

fn bash(script: &str) -> Program {
    Program::new("bash", ["-c", script])
}

fn say(cell: &dyn Cell, script: &str) -> String {
    let ended = cell.run(&bash(script), Pipes::default()).unwrap();
    String::from_utf8(ended.stdout).unwrap().trim().to_owned()
}

#[test]
fn programs_run_to_their_end() {
    in_each(|cell, _| {
        let ended = cell.run(&bash("echo out; echo err >&2; exit 7"), Pipes::default()).unwrap();
        assert_eq!((ended.code, ended.stdout.as_slice()), (Some(7), &b"out\n"[..]));
        assert!(ended.stderr.contains("err") && ended.describe().contains("exit code 7: err"));
        assert!(cell.run(&bash("kill -9 $$"), Pipes::default()).unwrap().code != Some(0));
        assert!(
            !cell
                .run(&Program::new("no-such-program", [""; 0]), Pipes::default())
                .is_ok_and(|e| e.succeeded())
        );
        let program = bash("echo \"$GREETING $PWD\"").env("GREETING", "a b'c");
        let ended = cell.run(&program, Pipes::default()).unwrap();
        assert_eq!(ended.stdout, b"a b'c /cell\n");
    });
}

#[test]
fn streams_of_any_length_go_in_and_out() {
    in_each(|cell, _| {
        let mut counted = Vec::new();
        let pipes = Pipes {
            stdin: Some(Box::new(std::io::Read::take(std::io::repeat(b'x'), 50 << 20))),
            stdout: Some(Box::new(&mut counted)),
        };
        assert!(cell.run(&bash("wc -c"), pipes).unwrap().succeeded());
        assert_eq!(String::from_utf8(counted).unwrap().trim(), (50 << 20).to_string());
        // A program that does not read all of it is no error of ours.
        let pipes = Pipes {
            stdin: Some(Box::new(std::io::Read::take(std::io::repeat(b'x'), 50 << 20))),
            stdout: None,
        };
        assert!(cell.run(&bash("head -c 10 >/dev/null"), pipes).unwrap().succeeded());
        let ended = cell.run(&bash("head -c 9000000 /dev/zero"), Pipes::default()).unwrap();
        assert!(ended.stdout_cut && ended.stdout.len() < 9_000_000);
        struct Broken;
        impl std::io::Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
                Err(std::io::Error::other("the dump is damaged"))
            }
        }
        let pipes = Pipes { stdin: Some(Box::new(Broken)), stdout: None };
        let error = cell.run(&bash("cat"), pipes).unwrap_err().chain();
        assert!(error.contains("the dump is damaged"), "{error}");
    });
}

#[test]
fn what_is_brought_in_is_there_and_belongs_to_the_cell() {
    in_each(|cell, _| {
        assert_eq!(cell.bring(&mut &b"text"[..], &inside("a/b/f")).unwrap(), 4);
        assert_eq!(say(cell, "cat a/b/f && echo more >>a/b/f && cat a/b/f"), "texttextmore");
        let restored = tempfile::tempdir().unwrap();
        std::fs::create_dir(restored.path().join("d")).unwrap();
        std::fs::write(restored.path().join("d/f"), "restored").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", restored.path().join("d/link")).unwrap();
        cell.bring_tree(&restored.path().join("d"), &inside("data")).unwrap();
        assert_eq!(
            say(cell, "cat data/f; readlink data/link; echo x >>data/f && echo written"),
            "restored/etc/passwd\nwritten"
        );
        for path in ["/etc/x", "/cell/../x", "x"] {
            assert!(cell.bring(&mut &b""[..], path).is_err(), "{path}");
        }
        // A link that a program of the cell made leads nowhere.
        let outside = tempfile::tempdir().unwrap();
        say(
            cell,
            &format!("ln -s {} out; ln -s {}/f file", outside.path().display(), outside.path().display()),
        );
        let _ = cell.bring(&mut &b"x"[..], &inside("out/f"));
        let _ = cell.bring(&mut &b"x"[..], &inside("file"));
        assert!(!outside.path().join("f").exists());
    });
}

#[test]
fn the_seal_is_proven_and_holds() {
    in_each(|cell, _| {
        let seal = &cell.facts().seal;
        for part in SealPart::ALL {
            assert!(matches!(seal.parts.get(&part), Some(SealState::Holds(_))), "{part:?}: {:?}", seal.parts);
        }
        assert_ne!(say(cell, "id -u"), "0");
        assert_eq!(say(cell, "touch /usr/x /etc/x 2>/dev/null || echo no"), "no");
        assert_eq!(say(cell, "(exec 3<>/dev/tcp/1.1.1.1/53) 2>/dev/null || echo no"), "no");
        assert_eq!(say(cell, "env | grep -ci CARGO || :"), "0");
        let host = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = host.local_addr().unwrap().port();
        assert_eq!(say(cell, &format!("(exec 3<>/dev/tcp/127.0.0.1/{port}) 2>/dev/null || echo no")), "no");
        assert!(say(cell, "getent hosts shop-db || cat /etc/hosts").contains("127.0.0.1"));
    });
}

const SERVER: &str =
    "use IO::Socket::UNIX; use IO::Socket::INET; $SIG{INT} = sub { exit 3 }; $SIG{TERM} = sub { exit 4 };
my $s = $ARGV[0] =~ m{/} ? IO::Socket::UNIX->new(Local => $ARGV[0], Listen => 5)
  : IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $ARGV[0], Listen => 5, ReuseAddr => 1);
die \"no socket: $!\" unless $s; print STDERR \"listening\\n\";
while (my $c = $s->accept) { while (sysread $c, my $b, 4096) { syswrite $c, uc $b } close $c }";

#[test]
fn servers_are_reached_and_stopped() {
    let tokio = tokio::runtime::Runtime::new().unwrap();
    in_each(|cell, _| {
        for (argument, address) in
            [(inside("socket"), Address::Unix(inside("socket"))), ("4711".to_owned(), Address::Tcp(4711))]
        {
            let service = cell.start(&Program::new("/usr/bin/perl", ["-e", SERVER, &argument])).unwrap();
            let start = Instant::now();
            while !service.log().contains("listening") {
                assert!(
                    service.ended().is_none() && start.elapsed() < Duration::from_secs(20),
                    "{}",
                    service.log()
                );
                std::thread::sleep(Duration::from_millis(20));
            }
            let answer = tokio.block_on(async {
                let mut wire = cell.dial(&address).unwrap();
                wire.write_all(b"hello").await.unwrap();
                wire.flush().await.unwrap();
                let mut answer = [0; 5];
                wire.read_exact(&mut answer).await.unwrap();
                answer
            });
            assert_eq!(&answer, b"HELLO");
            let fast = matches!(address, Address::Unix(_));
            let ended = service.stop(fast, Duration::from_secs(10)).unwrap();
            assert_eq!(ended.code, Some(if fast { 3 } else { 4 }), "{ended:?}");
            assert!(service.ended().is_some());
        }
        // One that does not listen to reason.
        let deaf = cell.start(&bash("trap '' TERM INT; while :; do sleep 0.1; done")).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        let ended = deaf.stop(false, Duration::from_millis(300)).unwrap();
        assert_ne!(ended.code, Some(0));
        let gone = cell.start(&bash("echo it broke >&2; exit 9")).unwrap();
        let start = Instant::now();
        while gone.ended().is_none() && start.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(gone.ended().unwrap().code, Some(9));
        assert!(gone.log().contains("it broke"));
    });
}

#[test]
fn time_limits_and_stops_end_programs() {
    in_each(|cell, _| {
        let mut program = bash("sleep 60 & sleep 60");
        program.limit = Some(Duration::from_millis(500));
        let start = Instant::now();
        let error = cell.run(&program, Pipes::default()).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Timeout, "{}", error.chain());
        assert!(start.elapsed() < Duration::from_secs(20));
    });
    for runtime in runtimes() {
        let place = tempfile::tempdir().unwrap();
        let watch = Watch::unlimited();
        let cell = open(runtime.as_ref(), &place.path().join("work"), &watch).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(300));
                watch.stop();
            });
            let error = cell.run(&bash("sleep 60"), Pipes::default()).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Cancelled, "{}", error.chain());
        });
        cell.close().unwrap();
    }
}

#[test]
fn memory_processes_and_disk_are_limited() {
    in_each(|cell, _| {
        let eat = "perl -e '$x = \"x\" x (600 << 20); print length $x'";
        assert_ne!(say(cell, eat), (600 << 20).to_string());
        let many = "for i in $(seq 400); do sleep 5 & done 2>/dev/null; jobs -r | wc -l";
        let ended = cell.run(&bash(many), Pipes::default()).unwrap();
        let running: u32 = String::from_utf8_lossy(&ended.stdout).trim().parse().unwrap_or(0);
        assert!(running < 300, "{running} processes");
    });
    in_each(|cell, _| {
        // Many files, each smaller than the limit.
        let fill =
            "for i in $(seq 100); do head -c 1000000 /dev/zero >f$i || exit 1; sleep 0.1; done; echo full";
        let ended = cell.run(&bash(fill), Pipes::default());
        assert!(!ended.as_ref().is_ok_and(|e| e.succeeded()), "{ended:?}");
    });
}

#[test]
fn nothing_is_left_when_a_cell_is_dropped() {
    for runtime in runtimes() {
        let place = tempfile::tempdir().unwrap();
        let work = place.path().join("work");
        let cell = open(runtime.as_ref(), &work, &Watch::unlimited()).unwrap();
        let mark = format!("987{}", std::process::id());
        let _service = cell.start(&bash(&format!("sleep {mark} & sleep {mark}"))).unwrap();
        let start = Instant::now();
        while running(&mark) == 0 {
            assert!(start.elapsed() < Duration::from_secs(10), "it did not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        drop(cell);
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(running(&mark), 0, "{} left processes", runtime.name());
        assert!(!work.exists());
    }
}

/// How many processes have `mark` as an argument of `sleep`.
fn running(mark: &str) -> usize {
    let listing = std::fs::read_dir("/proc").unwrap().flatten();
    listing
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .filter(|line| line.starts_with(b"sleep\0") && line.ends_with(format!("{mark}\0").as_bytes()))
        .count()
}

/// The part of the crash test that is killed.
#[test]
#[ignore = "it is started, and killed, by `a_killed_run_leaves_nothing_after_a_sweep`"]
fn hold_a_cell_until_killed() {
    let Some(work) = std::env::var_os("CELL_WORK") else { return };
    let name = std::env::var("CELL_RUNTIME").unwrap();
    let mark = std::env::var("CELL_MARK").unwrap();
    let runtime = runtimes().into_iter().find(|r| r.name() == name).unwrap();
    let cell = open(runtime.as_ref(), Path::new(&work), &Watch::unlimited()).unwrap();
    let _service = cell.start(&bash(&format!("sleep {mark} & sleep {mark}"))).unwrap();
    writeln!(std::io::stderr(), "holding").unwrap();
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn a_killed_run_leaves_nothing_after_a_sweep() {
    for runtime in runtimes() {
        let place = tempfile::tempdir().unwrap();
        let mark = format!("986{}", std::process::id());
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "suite::hold_a_cell_until_killed", "--nocapture"])
            .env("CELL_WORK", place.path().join("work"))
            .env("CELL_RUNTIME", runtime.name())
            .env("CELL_MARK", &mark)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let start = Instant::now();
        while running(&mark) < 2 {
            assert!(start.elapsed() < Duration::from_secs(30), "it did not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        let _alone = super::containers::SWEEPING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        child.kill().unwrap();
        child.wait().unwrap();
        std::thread::sleep(Duration::from_millis(300));
        runtime.sweep().unwrap();
        assert_eq!(running(&mark), 0, "{} left processes", runtime.name());
    }
}
