//! Servers in bad weather: refusals, throttling, lines that break in the middle of an upload, answers that never
//! arrive. What passes must not be noticed; what does not pass must not hang, and must leave nothing half.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use firedrill_backends::job::{BackupJob, Ends, MirrorJob, ObjectPlace, Place, RetentionJob};
use firedrill_backends::repository::location::{Access, Environment, Location};
use firedrill_backends::repository::objects::ObjectSettings;
use firedrill_backends::repository::password::PasswordSource;
use firedrill_core::clock::{Clock as _, SystemClock};
use firedrill_core::config::jobs::{MirrorConfig, MirrorMode};
use firedrill_core::config::load;
use firedrill_core::pipeline::job::{Job, JobOrder, JobReport, Outcome};
use firedrill_core::pipeline::spec::{JobKind, JobName, JobSpec};
use firedrill_core::progress::Progress;
use firedrill_core::secret::Secret;
use firedrill_core::watch::Watch;
use firedrill_scenarios::s3_server::S3Server;
use jiff::tz::TimeZone;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use crate::place::{PASSWORD, Restic, change, cheap_repository, content, need, snapshot_files, workplace};
use crate::proxy::{Down, FAULTS, Fault, From, Proxy, Weather};

const KEY: &str = "firedrill";
const SECRET: &str = "firedrill-secret";
/// A job may be over its deadline by this much: what it has begun it ends, and it takes its lock away.
const OVER: Duration = Duration::from_secs(60);

const CALM: Weather = Weather { seed: 0, percent: 0, down: None };
/// A server that says nothing may cost a job that much more than its deadline; a client left alone waits for minutes.
const SILENCE_COSTS: Duration = Duration::from_secs(20);

/// What serves the repository.
enum Server {
    Rest(Child, SocketAddr),
    S3(S3Server),
}

impl Server {
    fn rest(folder: &std::path::Path) -> Option<Self> {
        let program = need("rest-server")?;
        (0..5).find_map(|_| {
            let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
            // When the test is killed, the server must not stay behind.
            let child = Command::new("setpriv")
                .args(["--pdeathsig", "KILL", "--"])
                .arg(&program)
                .args(["--no-auth", "--listen", &address.to_string(), "--path"])
                .arg(folder)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            // Somebody else may have taken the port meanwhile; then there is another one.
            let mut server = Self::Rest(child, address);
            server.answers().then_some(server)
        })
    }

    fn answers(&mut self) -> bool {
        let Self::Rest(child, address) = self else { return true };
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(60) {
            if child.try_wait().is_ok_and(|status| status.is_some()) {
                return false;
            }
            if TcpStream::connect(*address).is_ok() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    fn address(&self) -> SocketAddr {
        match self {
            Self::Rest(_, address) => *address,
            Self::S3(server) => server.endpoint().strip_prefix("http://").unwrap().parse().unwrap(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Self::Rest(child, _) = self {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

struct Fixture {
    folder: tempfile::TempDir,
    server: Server,
    restic: Restic,
    /// The repository, as files behind the server.
    files: PathBuf,
    chance: StdRng,
}

impl Fixture {
    fn new(s3: bool) -> Option<Self> {
        let folder = workplace();
        let served = folder.path().join("served");
        let files = served.join("bucket");
        std::fs::create_dir(&served).unwrap();
        let server = match s3 {
            true => Server::S3(S3Server::start(&served, KEY, SECRET).unwrap()),
            false => Server::rest(&served)?,
        };
        cheap_repository(&files);
        let restic = Restic::need(files.to_str().unwrap())?;
        Some(Self { folder, server, restic, files, chance: StdRng::seed_from_u64(5) })
    }

    /// The repository through a proxy in this weather.
    fn through(&self, weather: Weather) -> (Proxy, Place) {
        let proxy = Proxy::in_front_of(self.server.address(), weather);
        let address = match self.server {
            Server::Rest(..) => format!("rest:http://{}/bucket/", proxy.address),
            Server::S3(_) => format!("s3:http://{}/bucket", proxy.address),
        };
        let env = Environment::default()
            .with("AWS_ACCESS_KEY_ID", KEY)
            .with("AWS_SECRET_ACCESS_KEY", SECRET)
            .with("AWS_EC2_METADATA_DISABLED", "true");
        let place = Place {
            name: "served".to_owned(),
            location: Location::parse(&address).unwrap(),
            access: Access::from_environment(env),
            password: PasswordSource::Variable(Secret::new(PASSWORD)),
            make: false,
        };
        (proxy, place)
    }

    fn source(&self) -> PathBuf {
        self.folder.path().join("source")
    }

    fn run(&self, job: &dyn Job, deadline: Duration) -> (JobReport, Duration) {
        let work = self.folder.path().join("work");
        std::fs::create_dir_all(&work).unwrap();
        let started = Instant::now();
        let report = job.run(&JobOrder {
            job: &JobName("weather".to_owned()),
            slot: None,
            started: SystemClock.now(),
            work: &work,
            watch: Watch::unlimited().within(Some(deadline)),
            progress: Arc::new(Progress::default()),
        });
        (report, started.elapsed())
    }

    fn backup(&self, place: Place) -> BackupJob {
        let text = format!(
            "version: 1\ncopies: [{{name: served, repository: /nowhere}}]\ntargets:\n  - {{name: files, tag: files, host: files, backup: {{capture: [{{files: {{paths: [{}]}}}}]}}}}\n",
            self.source().display()
        );
        let config = load(&text, "firedrill.yaml").unwrap_or_else(|problems| panic!("{problems}")).config;
        let Some(JobSpec { kind: JobKind::Backup { target, backup, .. }, .. }) = JobSpec::all(&config).pop()
        else {
            panic!("there is one backup");
        };
        BackupJob {
            target: *target,
            backup: *backup,
            place,
            environment: Environment::default(),
            canary_key: None,
            zone: TimeZone::UTC,
        }
    }

    fn retention(place: Place) -> RetentionJob {
        let rules = serde_json::json!({"copy": "served", "keep": {"last": 2}, "drop_max_ratio": 0.9});
        RetentionJob {
            place,
            rules: serde_json::from_value(rules).unwrap(),
            verified: std::collections::BTreeMap::new(),
            detection: None,
            zone: TimeZone::UTC,
            only_hosts: Vec::new(),
            dry_run: false,
        }
    }
}

/// Backups and a retention run in weather that passes. Nothing of it may be noticed.
fn passes(s3: bool) {
    let Some(mut fixture) = Fixture::new(s3) else { return };
    let mut met = std::collections::BTreeMap::new();
    let mut requests = 0;
    for round in 0..6_u64 {
        change(&fixture.source(), 400_000, &mut fixture.chance);
        let before = snapshot_files(&fixture.files);
        let (proxy, place) = fixture.through(Weather { seed: round, percent: 20, down: None });
        let (report, _) = fixture.run(&fixture.backup(place.clone()), Duration::from_secs(1200));
        let why = report.error.as_ref().map(firedrill_core::error::Error::chain);
        assert_eq!(report.outcome, Outcome::Succeeded, "round {round}: {why:?}; {:?}", proxy.met());
        let after = snapshot_files(&fixture.files);
        let new: Vec<_> = after.difference(&before).collect();
        assert!(new.len() == 1 && before.is_subset(&after), "round {round}: {new:?}; {:?}", proxy.met());
        let restored = fixture.restic.restored(new[0], &fixture.source()).unwrap();
        assert!(restored == content(&fixture.source()), "round {round}: something else restores");
        if round % 3 == 2 {
            let keep = fixture.restic.would_forget(&["--keep-last=2".to_owned()], "UTC").keep;
            let (report, _) = fixture.run(&Fixture::retention(place), Duration::from_secs(1200));
            let why = report.error.as_ref().map(firedrill_core::error::Error::chain);
            assert_eq!(report.outcome, Outcome::Succeeded, "round {round}: {why:?}; {:?}", proxy.met());
            assert_eq!(snapshot_files(&fixture.files), keep);
        }
        let locks = std::fs::read_dir(fixture.files.join("locks")).unwrap().count();
        assert_eq!(locks, 0, "round {round}: a lock stays; {:?}", proxy.met());
        fixture.restic.check(true);
        requests += proxy.requests();
        for (what, count) in proxy.met() {
            *met.entry(what).or_insert(0) += count;
        }
    }
    eprintln!("{requests} requests; {met:?}");
    let writes = |fault| met.iter().any(|((met, method), _)| *met == fault && method != "GET");
    assert!(
        FAULTS.into_iter().all(|fault| met.keys().any(|(met, _)| *met == fault)),
        "{met:?}: proves little"
    );
    assert!(writes(Fault::LostAnswer) && writes(Fault::CutRequest) && writes(Fault::Status(429)), "{met:?}");
}

#[test]
fn a_rest_server_in_weather_that_passes() {
    passes(false);
}

#[test]
fn a_bucket_in_weather_that_passes() {
    passes(true);
}

/// The server goes down for good, at the beginning, somewhere, or shortly before the end of a backup.
fn goes_down(s3: bool, down: Down) {
    let Some(mut fixture) = Fixture::new(s3) else { return };
    change(&fixture.source(), 300_000, &mut fixture.chance);
    let (proxy, place) = fixture.through(CALM);
    let (report, _) = fixture.run(&fixture.backup(place), Duration::from_secs(1200));
    assert_eq!(report.outcome, Outcome::Succeeded);
    let all = proxy.requests();
    let deadline = Duration::from_secs(6);
    let moments = [
        From::Request(0),
        From::Request(all / 2),
        From::WriteTo("/data/"),
        From::WriteTo("/index/"),
        From::WriteTo("/snapshots/"),
    ];
    for from in moments {
        change(&fixture.source(), 300_000, &mut fixture.chance);
        let before = snapshot_files(&fixture.files);
        let (proxy, place) = fixture.through(Weather { down: Some((from, down)), ..CALM });
        let (report, took) = fixture.run(&fixture.backup(place), deadline);
        let said = report.error.as_ref().map(firedrill_core::error::Error::chain).unwrap_or_default();
        let told = format!("down from {from:?} of {all}, {:?} after {took:?}: {said}", report.outcome);
        eprintln!("{told}");
        assert!(matches!(report.outcome, Outcome::Failed | Outcome::TimedOut), "{told}");
        assert!(took < deadline + OVER, "{told}");
        assert!(proxy.is_down(), "{told}: it did not go that far");
        let clear = ["503", "answers there", "connection", "in time", "took too long", "timed out", "within"];
        assert!(clear.iter().any(|words| said.contains(words)) && !said.contains(SECRET), "{told}");
        assert_eq!(snapshot_files(&fixture.files), before, "{told}: there is half a backup");
        // The lock of a process that is alive is not stale; this process is, though it holds it no more.
        fixture.restic.run(&["unlock", "--remove-all"]);
        fixture.restic.check(true);
    }
    let (_proxy, place) = fixture.through(CALM);
    let (report, _) = fixture.run(&fixture.backup(place), Duration::from_secs(1200));
    assert_eq!(report.outcome, Outcome::Succeeded, "{:?}", report.error);
}

#[test]
fn a_rest_server_that_refuses_for_good() {
    goes_down(false, Down::Refuses);
}

#[test]
fn a_rest_server_that_hangs_up_for_good() {
    goes_down(false, Down::HangsUp);
}

#[test]
fn a_rest_server_that_falls_silent_for_good() {
    goes_down(false, Down::Silent);
}

#[test]
fn a_bucket_that_refuses_for_good() {
    goes_down(true, Down::Refuses);
}

#[test]
fn a_bucket_that_hangs_up_for_good() {
    goes_down(true, Down::HangsUp);
}

#[test]
fn a_bucket_that_falls_silent_for_good() {
    goes_down(true, Down::Silent);
}

/// A repository that nothing is wrong with, in a folder.
fn nearby(name: &str, folder: &std::path::Path) -> Place {
    Place {
        name: name.to_owned(),
        location: Location::parse(folder.to_str().unwrap()).unwrap(),
        access: Access::default(),
        password: PasswordSource::Variable(Secret::new(PASSWORD)),
        make: false,
    }
}

/// One end of a mirror stops to answer. The job ends when its time is over, and not when its client loses patience.
fn a_mirror_keeps_its_deadline(s3: bool) {
    let Some(mut fixture) = Fixture::new(s3) else { return };
    change(&fixture.source(), 300_000, &mut fixture.chance);
    let (_proxy, place) = fixture.through(CALM);
    let (report, _) = fixture.run(&fixture.backup(place), Duration::from_secs(1200));
    assert_eq!(report.outcome, Outcome::Succeeded, "{:?}", report.error);
    // A rest-server holds no plain objects; of a bucket, the files of the repository are taken for that.
    let modes = [Some(MirrorMode::Identical), Some(MirrorMode::Reencrypted), None];
    let fixture = &fixture;
    // All at once: this is about waiting.
    std::thread::scope(|scope| {
        for mode in modes.into_iter().filter(|mode| s3 || mode.is_some()) {
            for served_is_source in [true, false] {
                // While it is opened, and when it is open.
                for first in [1, if mode.is_some() && served_is_source { 14 } else { 3 }] {
                    scope.spawn(move || falls_silent(fixture, mode, served_is_source, first));
                }
            }
        }
    });
}

fn falls_silent(fixture: &Fixture, mode: Option<MirrorMode>, served_is_source: bool, first: usize) {
    let deadline = Duration::from_secs(3);
    let (proxy, served) =
        fixture.through(Weather { down: Some((From::Request(first), Down::Silent)), ..CALM });
    let files = nearby("files", &fixture.files);
    let near = nearby("near", &fixture.folder.path().join(format!("{mode:?}-{served_is_source}-{first}")));
    let (from, to) = if served_is_source { (served, near) } else { (files, served) };
    let plain =
        |place: Place| ObjectPlace { name: place.name, location: place.location, access: place.access };
    let ends = match mode {
        Some(_) => Ends::Repositories(from, to),
        None => Ends::Objects(plain(from), plain(to), ObjectSettings::default()),
    };
    let config = MirrorConfig { mode: mode.unwrap_or_default(), ..MirrorConfig::default() };
    let (report, took) = fixture.run(&MirrorJob { config, ends }, deadline);
    let said = report.error.as_ref().map(firedrill_core::error::Error::chain).unwrap_or_default();
    let told = format!(
        "{mode:?}, source {served_is_source}, silent from {first}: {:?} after {took:?}: {said}",
        report.outcome
    );
    eprintln!("{told}");
    assert!(report.outcome.is_bad(), "{told}");
    assert!(proxy.is_down(), "{told}: it was not asked");
    assert!(took < deadline + SILENCE_COSTS, "{told}");
}

#[test]
fn a_mirror_keeps_its_deadline_with_a_silent_rest_server() {
    a_mirror_keeps_its_deadline(false);
}

#[test]
fn a_mirror_keeps_its_deadline_with_a_silent_bucket() {
    a_mirror_keeps_its_deadline(true);
}
