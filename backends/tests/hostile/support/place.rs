//! Each story takes place in a process of its own: its memory and its time can be measured, and where
//! `strace` is installed, every file that it touches is seen.
//!
//! Beside the story's folders lies a `victim` that nothing may touch: its content, its times and its
//! listing are compared, and no system call may name it.

use std::collections::BTreeMap;
use std::fs::{self, File, FileTimes};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant, SystemTime};

use super::craft::Craft;
use super::drill::{self, Told, names};

/// Set in the process in which a story takes place, to its folder.
const INSIDE: &str = "FIREDRILL_STORY";
/// Printed at the end of a story: a name that matches no test would otherwise pass.
const THE_END: &str = "the story has ended";
/// A story that takes longer hangs.
const HANGS: Duration = Duration::from_secs(100);
/// No drill of hostile content takes more time of processors than this.
const TIME_MAX: Duration = Duration::from_secs(10);
/// Nor does it wait for longer, on a machine that has other work to do.
const WAIT_MAX: Duration = Duration::from_secs(45);
/// What is in the victim's file.
const SECRET: &str = "nobody may read this";

/// What a story may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Bytes of memory beyond what the process had before the drill.
    pub(crate) memory: u64,
    /// Whether system calls are watched, which makes each of them slow.
    pub(crate) watched: bool,
    /// Whether it takes place in a file system in memory, if there is one: some disks need a minute for
    /// what takes a second there.
    pub(crate) in_memory: bool,
}

/// Few files and little content.
pub(crate) const SMALL: Bounds = Bounds { memory: 96 << 20, watched: true, in_memory: false };

/// The folders of one story.
#[derive(Debug)]
pub(crate) struct Place(PathBuf);

impl Place {
    pub(crate) fn repository(&self) -> PathBuf {
        self.0.join("repository")
    }

    pub(crate) fn scratch(&self) -> PathBuf {
        self.0.join("scratch")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.0.join("state")
    }

    /// The folder that nothing may touch, with a file `secret` and a database `database.db`.
    pub(crate) fn victim(&self) -> PathBuf {
        self.0.join("victim")
    }

    /// The path of `name` in the victim, as text for links.
    pub(crate) fn victims(&self, name: &str) -> String {
        self.victim().join(name).display().to_string()
    }
}

/// Tells the story `name` (the path of the test that calls this): `craft` writes a repository, all of it is
/// drilled, and `check` looks at what came of it. The bounds and the victim are looked after here.
#[track_caller]
pub(crate) fn story(
    name: &str,
    bounds: Bounds,
    craft: impl FnOnce(&Place, &Craft),
    check: impl FnOnce(&Place, &Told),
) {
    match std::env::var_os(INSIDE) {
        Some(folder) => inside(&Place(folder.into()), bounds, craft, check),
        None => outside(name, bounds),
    }
}

fn inside(
    place: &Place,
    bounds: Bounds,
    craft: impl FnOnce(&Place, &Craft),
    check: impl FnOnce(&Place, &Told),
) {
    let crafting = Craft::new(&place.repository());
    craft(place, &crafting);
    crafting.finish();
    let before = listing(&place.repository());
    // Forgets the peak so far: what counts is what the drill adds to it.
    fs::write("/proc/self/clear_refs", "5").expect("the peak can be reset");
    let (start, worked) = (memory("VmRSS:"), work());
    let told = drill::drill(place);
    let (used, worked) = (memory("VmHWM:").saturating_sub(start), work() - worked);
    let verdict = told.judgement.verdict;
    println!("took {:?}, {worked:?} of work, {} MiB, verdict {verdict}", told.took, used >> 20);
    for drill in &told.judgement.drills {
        println!("{}: {:?}", drill.name, drill.rta.phases);
    }
    assert!(used <= bounds.memory, "the drill took {} MiB of memory: {:#?}", used >> 20, told.reasons());
    assert!(worked <= TIME_MAX, "the drill took {worked:?} of work: {:#?}", told.reasons());
    assert!(told.took <= WAIT_MAX, "the drill took {:?}: {:#?}", told.took, told.reasons());
    assert!(before == listing(&place.repository()), "the repository was changed");
    told.assert_calm();
    check(place, &told);
    drill::assert_swept(place);
    println!("{THE_END}");
}

/// A line of `/proc/self/status`, in bytes.
fn memory(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("the kernel tells");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("the field is there");
    let kib = line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number");
    kib * 1024
}

/// Time of processors that this process took so far.
fn work() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").expect("the kernel tells");
    // The name of the program stands in brackets and may hold anything; fields 14 and 15 count hundredths.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let hundredths: u64 = fields.skip(11).take(2).map(|field| field.parse::<u64>().expect("a number")).sum();
    Duration::from_millis(hundredths * 10)
}

fn outside(name: &str, bounds: Bounds) {
    let made_in = |base: &str| tempfile::Builder::new().prefix("hostile-").tempdir_in(base);
    let folder = Some("/dev/shm").filter(|_| bounds.in_memory).and_then(|base| made_in(base).ok());
    let folder = folder.or_else(|| made_in(env!("CARGO_TARGET_TMPDIR")).ok()).expect("a folder");
    let place = Place(folder.path().canonicalize().expect("it is there"));
    plant(&place.victim());
    let before = listing(&place.victim());
    let trace = place.0.join("trace");
    let watched = bounds.watched && tracer();
    let own = std::env::current_exe().expect("this program has a path");
    let mut command = if watched {
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-y", "-s", "4096", "-e", "trace=%file", "-o"]).arg(&trace).arg(own);
        command
    } else {
        Command::new(own)
    };
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]).env(INSIDE, &place.0);
    let (status, output) = run(&mut command);
    assert!(status.success(), "{status}\n{output}");
    assert!(output.contains(THE_END), "there is no test called {name}:\n{output}");
    println!("{output}");
    assert!(before == listing(&place.victim()), "the victim was touched: {:?}", listing(&place.victim()));
    if watched {
        let trace = fs::read(&trace).expect("a trace");
        check_trace(&String::from_utf8_lossy(&trace), &place);
    }
    let known = [&b"repository"[..], b"scratch", b"state", b"trace", b"victim"];
    let strangers: Vec<_> = names(&place.0).into_iter().filter(|n| !known.contains(&n.as_slice())).collect();
    assert!(strangers.is_empty(), "something was made outside of scratch: {strangers:?}");
}

fn tracer() -> bool {
    let there = Command::new("strace").args(["-qq", "-e", "trace=none", "true"]).output();
    let works = there.is_ok_and(|output| output.status.success());
    if !works {
        super::skip("system calls cannot be watched: strace is missing or may not trace");
    }
    works
}

fn run(command: &mut Command) -> (ExitStatus, String) {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the story can start");
    let (out, err) = (drain(child.stdout.take()), drain(child.stderr.take()));
    let status = wait(&mut child);
    let text = [out, err].map(|reader| reader.join().expect("output can be read"));
    (status, text.concat())
}

fn drain(pipe: Option<impl std::io::Read + Send + 'static>) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // The end of a story that was killed comes as an error.
        let _ = pipe.map(|mut pipe| pipe.read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn wait(child: &mut Child) -> ExitStatus {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("the story can be waited for") {
            return status;
        }
        if start.elapsed() > HANGS {
            let _ = child.kill();
            return child.wait().expect("it was killed");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Makes the folder that nothing may touch. Its access times are old, so that any read would move them.
fn plant(victim: &Path) {
    fs::create_dir(victim).expect("a folder");
    fs::write(victim.join("secret"), SECRET).expect("a file");
    let database = [b"SQLite format 3\0".as_slice(), &[0; 4080]].concat();
    fs::write(victim.join("database.db"), database).expect("a file");
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    for path in [victim.join("secret"), victim.join("database.db"), victim.to_owned()] {
        let file = File::open(path).expect("it is there");
        file.set_times(FileTimes::new().set_accessed(old).set_modified(old)).expect("times can be set");
    }
}

/// Every entry below `root` with what would show that it was touched. Content is read without moving
/// access times where that can be had, and times are looked at first.
fn listing(root: &Path) -> BTreeMap<PathBuf, (u64, i64, i64, i64, u32, String)> {
    let mut all = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let times = |path: &Path| {
            let meta = fs::symlink_metadata(path).expect("it is there");
            (meta.len(), meta.mtime(), meta.atime(), meta.ctime(), meta.mode())
        };
        let (len, mtime, _, _, mode) = times(&folder);
        // This very look may move the access time of a folder.
        all.insert(folder.clone(), (len, mtime, 0, 0, mode, String::new()));
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let (len, mtime, atime, ctime, mode) = times(&path);
            let secret = path.parent().is_some_and(|parent| parent.ends_with("victim"));
            let (atime, content) = if secret { (atime, String::new()) } else { (0, digest(&path)) };
            // A change of content moves the times of a file, so the victim need not be read.
            all.insert(path, (len, mtime, atime, ctime, mode, content));
        }
    }
    all
}

fn digest(path: &Path) -> String {
    use sha2::Digest as _;
    let mut content = Vec::new();
    File::open(path).and_then(|mut file| file.read_to_end(&mut content)).expect("a file");
    hex::encode(sha2::Sha256::digest(&content))
}

/// System calls that change something.
const CHANGING: [&str; 22] = [
    "mkdir",
    "mkdirat",
    "mknod",
    "mknodat",
    "symlink",
    "symlinkat",
    "link",
    "linkat",
    "unlink",
    "unlinkat",
    "rmdir",
    "rename",
    "renameat",
    "renameat2",
    "chmod",
    "fchmodat",
    "chown",
    "fchownat",
    "utimensat",
    "setxattr",
    "lsetxattr",
    "truncate",
];

/// Nothing but links may name the victim, and nothing outside of the place may be changed.
fn check_trace(trace: &str, place: &Place) {
    let (own, victim) = (place.0.display().to_string(), place.victim().display().to_string());
    let mut changes = 0;
    for line in trace.lines() {
        let call = line.split_once(' ').map_or(line, |(_, rest)| rest.trim_start());
        // A call that another thread interrupted stands on two lines.
        let name = call.strip_prefix("<... ").and_then(|rest| rest.split(' ').next());
        let name = name.or_else(|| call.split('(').next()).unwrap_or_default();
        let about_links = ["symlink", "symlinkat", "readlink", "readlinkat"].contains(&name);
        assert!(about_links || !line.contains(&victim), "the victim was reached: {line}");
        let opens_to_write = name.starts_with("open")
            && ["O_WRONLY", "O_RDWR", "O_CREAT"].iter().any(|flag| line.contains(flag));
        if !call.starts_with("<...") && (CHANGING.contains(&name) || opens_to_write) {
            changes += 1;
            let harmless = ["\"/dev/", "\"/proc/self/", "\"/sys/"].iter().any(|known| line.contains(known));
            assert!(harmless || line.contains(&own), "a change outside of the story's place: {line}");
        }
    }
    assert!(changes > 5, "the trace shows no change at all: it was not read as it should be");
}
