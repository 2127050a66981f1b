//! Dumps that are objects in a bucket, and too large for one request: uploads that break off go on, or are given up, and
//! no half object ever has the name of a backup.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use firedrill_core::pipeline::job::Outcome;
use firedrill_core::pipeline::ledger::Ledger;
use firedrill_core::pipeline::spec::JobName;
use firedrill_core::pipeline::state::Run;
use firedrill_scenarios::s3_server::S3Server;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::binary;
use crate::place::workplace;
use crate::proxy::{Down, Fault, From, Proxy, Weather};

const KEY: &str = "firedrill";
const SECRET: &str = "firedrill-secret";
/// Three parts.
const BYTES: usize = 40 << 20;
/// What is begun with a request that has this in its path is the second part.
const SECOND: &str = "partNumber=2";
const PATIENCE: Duration = Duration::from_secs(120);

struct Place {
    folder: tempfile::TempDir,
    server: S3Server,
}

impl Place {
    fn new() -> Self {
        let folder = workplace();
        std::fs::create_dir(folder.path().join("s3")).unwrap();
        let mut dump = vec![0; BYTES];
        StdRng::seed_from_u64(3).fill_bytes(&mut dump);
        std::fs::write(folder.path().join("dump"), dump).unwrap();
        let server = S3Server::start(&folder.path().join("s3"), KEY, SECRET).unwrap();
        server.create_bucket("bucket").unwrap();
        Self { folder, server }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn through(&self, weather: Weather) -> Proxy {
        let upstream = self.server.endpoint().strip_prefix("http://").unwrap().parse().unwrap();
        Proxy::in_front_of(upstream, weather)
    }

    /// `firedrill run wiki` into the bucket behind the proxy.
    fn run(&self, proxy: &Proxy) -> Command {
        let config = format!(
            r#"version: 1
copies:
  - {{name: dumps, kind: object_dump, repository: "s3:http://{}/bucket/home", objects: ["{{name}}/{{name}}-{{unix}}.dump"]}}
targets:
  - name: wiki
    kind: object_dump
    backup: {{capture: [{{command: {{run: [cat, {}], as: /dump}}}}], rules: {{deadline: 60s}}}}
"#,
            proxy.address,
            self.path("dump").display()
        );
        std::fs::write(self.path("firedrill.yaml"), config).unwrap();
        let mut command = Command::new(binary::binary().unwrap());
        command.args(["run", "wiki", "--config"]).arg(self.path("firedrill.yaml"));
        command.arg("--state").arg(self.path("state")).stdin(Stdio::null()).stdout(Stdio::null());
        command.env("AWS_ACCESS_KEY_ID", KEY).env("AWS_SECRET_ACCESS_KEY", SECRET);
        command.env("AWS_EC2_METADATA_DISABLED", "true");
        command
    }

    fn last(&self) -> Run {
        let state = Ledger::open(&self.path("state")).unwrap().read(&JobName("wiki".to_owned())).unwrap();
        state.last().unwrap().clone()
    }

    /// The objects there are. Each of them is whole.
    fn objects(&self) -> usize {
        let folder = self.path("s3/bucket/home/wiki");
        let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
        let dump = std::fs::read(self.path("dump")).unwrap();
        entries
            .map(|entry| entry.unwrap().path())
            .inspect(|path| assert!(std::fs::read(path).unwrap() == dump, "{} is half", path.display()))
            .count()
    }

    /// Uploads that were begun, and parts that lie on the server.
    fn unfinished(&self) -> (usize, usize) {
        (self.server.uploads("bucket").unwrap().len(), parts(&self.path("s3")))
    }
}

fn parts(root: &Path) -> usize {
    let all = std::fs::read_dir(root).unwrap().flatten();
    all.filter(|entry| entry.file_name().to_string_lossy().contains(".part-")).count()
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "{what}: waited in vain");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn weather(down: Option<(From, Down)>) -> Weather {
    Weather { seed: 0, percent: 0, down }
}

#[test]
fn an_upload_goes_on_at_the_part_that_failed() {
    for down in [Down::Refuses, Down::HangsUp] {
        let place = Place::new();
        let proxy = place.through(weather(Some((From::WriteTo(SECOND), down))));
        let mut run = place.run(&proxy).stderr(Stdio::null()).spawn().unwrap();
        wait_until("the second part", || proxy.is_down());
        assert_eq!((place.objects(), place.unfinished()), (0, (1, 1)), "{down:?}");
        std::thread::sleep(Duration::from_secs(3));
        proxy.come_back();
        assert!(run.wait().unwrap().success(), "{down:?}: {:?}", place.last());
        assert_eq!((place.objects(), place.unfinished()), (1, (0, 0)), "{down:?}");
        let done = proxy.done();
        for part in ["partNumber=1", SECOND, "partNumber=3"] {
            let sent: Vec<_> = done.iter().filter(|(path, _)| path.contains(part)).map(|(_, n)| *n).collect();
            assert_eq!(sent, [1], "{down:?}: {part} of {done:?}");
        }
    }
}

#[test]
fn an_upload_whose_requests_meet_faults_leaves_nothing_behind() {
    let place = Place::new();
    let mut met = 0;
    for seed in 0..3 {
        let proxy = place.through(Weather { seed, percent: 30, down: None });
        let output = place.run(&proxy).output().unwrap();
        let told = format!("seed {seed}: {:?}\n{}", proxy.met(), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{told}");
        met += proxy.met().iter().filter(|((fault, _), _)| *fault != Fault::CutAnswer).count();
        assert_eq!(place.unfinished(), (0, 0), "{told}");
        assert_eq!(place.objects(), usize::try_from(seed).unwrap() + 1, "{told}");
    }
    assert!(met > 5, "{met}: proves little");
}

#[test]
fn what_a_dead_server_or_a_kill_left_is_given_up_by_the_next_run() {
    let place = Place::new();
    // Others have unfinished uploads as well, which are none of our business.
    let foreign = place.path("s3");
    let id = "00000000-0000-4000-8000-000000000000";
    // `bucket` and `home/blog/blog-7.dump`, as s3s-fs writes names.
    let names = ".bucket-YnVja2V0.object-aG9tZS9ibG9nL2Jsb2ctNy5kdW1w";
    std::fs::write(foreign.join(format!("{names}.upload-{id}.metadata.json")), "{}").unwrap();
    std::fs::write(foreign.join(format!(".upload-{id}.json")), "\"firedrill\"").unwrap();
    assert_eq!(place.server.uploads("bucket").unwrap(), ["home/blog/blog-7.dump"]);

    // Killed in the middle.
    let proxy = place.through(weather(Some((From::WriteTo(SECOND), Down::Silent))));
    let mut run = place.run(&proxy).stderr(Stdio::null()).spawn().unwrap();
    wait_until("the second part", || proxy.is_down());
    run.kill().unwrap();
    run.wait().unwrap();
    assert_eq!((place.objects(), place.unfinished()), (0, (2, 1)));

    // A server that is gone for good.
    std::thread::sleep(Duration::from_millis(1100));
    let proxy = place.through(weather(Some((From::WriteTo(SECOND), Down::HangsUp))));
    let mut command = place.run(&proxy);
    let text = std::fs::read_to_string(place.path("firedrill.yaml")).unwrap();
    std::fs::write(place.path("firedrill.yaml"), text.replace("deadline: 60s", "deadline: 5s")).unwrap();
    assert!(!command.stderr(Stdio::null()).status().unwrap().success());
    assert!(matches!(place.last().outcome, Outcome::Failed | Outcome::TimedOut), "{:?}", place.last());
    assert_eq!((place.objects(), place.unfinished()), (0, (2, 1)), "that of the killed run is gone by now");

    std::thread::sleep(Duration::from_millis(1100));
    let proxy = place.through(weather(None));
    let output = place.run(&proxy).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!((place.objects(), place.unfinished()), (1, (1, 0)));
    assert_eq!(place.server.uploads("bucket").unwrap(), ["home/blog/blog-7.dump"]);
    let notes = place.last().notes;
    assert!(notes.iter().any(|note| note.contains("gave up") && note.contains("wiki/wiki-")), "{notes:?}");
}
