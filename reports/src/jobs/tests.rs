//! Against the real Pushgateway where it is installed, and against a small web server.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use firedrill_core::config::load;
use firedrill_core::config::sinks::KnownNames;
use firedrill_core::error::{Error, ErrorKind};
use firedrill_core::pipeline::job::{BackupFacts, Facts, JobReport, Outcome, PrefixFacts, StatisticsFacts};
use firedrill_core::pipeline::ledger::Ledger;
use firedrill_core::pipeline::news::{self, Item, Message, Messenger as _};
use firedrill_core::pipeline::runner::Observer as _;
use firedrill_core::pipeline::spec::{JobName, JobSpec};
use firedrill_core::pipeline::state::{Attempt, JobState, Retrying, Run};
use firedrill_core::secret::Secret;
use jiff::{SignedDuration, Timestamp};

use super::messages::{Login, Messages, Way, lines};
use super::metrics::JobMetrics;
use super::pings::Pings;
use crate::pushgateway::PushgatewayOptions;
use crate::pushgateway::tests::{Gateway, request};

const STARTED: i64 = 1_748_000_000;

const FLEET: &str = r#"
version: 1
copies:
  - {name: local, repository: /srv/restic}
  - {name: offsite, role: mirror, repository: /mnt/offsite}
targets:
  - {name: mariadb, tag: mariadb, host: mariadb, backup: {capture: [{files: {paths: [/srv]}}]}}
  - {name: volumes, tag: volumes, host: node, backup: {capture: [{files: {paths: [/srv]}}], rules: {metrics_as: restic_k8s_data}}}
  - {name: dump, tag: dump, host: node, backup: {capture: [{postgres: {as: /backup/dump.sql}}], rules: {metrics_as: pg_dump}}}
jobs:
  - {name: retention, retention: {copy: local, keep: {daily: 7}}, rules: {metrics_as: restic-retentionpolicies}}
  - {name: wasabi, mirror: {from: local, to: offsite}}
  - {name: bucket, statistics: {copy: offsite}}
  - {name: sunday, restore_test: {}}
"#;

fn job(name: &str) -> JobSpec {
    let config = load(FLEET, "firedrill.yaml").unwrap_or_else(|problems| panic!("{problems}")).config;
    JobSpec::all(&config).into_iter().find(|job| job.name.0 == name).unwrap()
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(STARTED + seconds).unwrap()
}

fn run(outcome: Outcome, facts: Facts) -> Run {
    let error = outcome.is_bad().then(|| Error::new(ErrorKind::Unavailable, "do it").because("no"));
    Run {
        slot: None,
        number: 1,
        started: at(0),
        ended: Timestamp::from_millisecond((STARTED * 1000) + 42_300).unwrap(),
        outcome,
        error,
        notes: Vec::new(),
        facts,
    }
}

fn backup(dump_bytes: u64) -> Facts {
    Facts::Backup(BackupFacts {
        files_new: 12,
        files_changed: 87,
        files_unmodified: 5,
        bytes: 1000,
        dump_bytes,
        ..BackupFacts::default()
    })
}

/// Pushes what became of `name`.
fn push(gateway: &Gateway, also: &[KnownNames], name: &str, run: &Run) {
    let options = PushgatewayOptions::new(format!("http://127.0.0.1:{}", gateway.port));
    let metrics = JobMetrics::new(options, also);
    metrics.ended(&job(name), run, &JobState::new(JobName(name.to_owned())));
    let troubles: Vec<_> = metrics.troubles().iter().map(Error::chain).collect();
    assert!(troubles.is_empty(), "{name}: {troubles:?}");
}

/// The series of a group, without those that the gateway adds, sorted.
fn series(gateway: &Gateway, group: &str) -> Vec<String> {
    let metrics = gateway.metrics();
    let all = metrics.lines().filter(|line| !line.starts_with(['#', 'p']) || line.starts_with("pg_"));
    let mut all: Vec<_> = all.filter(|line| line.contains(group)).map(str::to_owned).collect();
    all.sort();
    all
}

/// As a shell script does with curl.
fn script(gateway: &Gateway, group: &str, body: &str) {
    let (status, said) = request(gateway.port, "POST", &format!("metrics/{group}"), body);
    assert_eq!(status, 200, "{said}");
}

#[test]
fn dashboards_of_a_script_that_pushes_by_instance_find_what_they_know() {
    let Some(gateway) = Gateway::start() else { return };
    let also = [KnownNames::ByInstance];
    let theirs = "backup_start_timestamp 1\nbackup_duration_seconds 2\nbackup_status{status=\"success\"} 0\n";
    script(&gateway, "job/backup/instance/grafana", theirs);
    push(&gateway, &also, "mariadb", &run(Outcome::Succeeded, backup(0)));
    script(&gateway, "job/backup/instance/emby", theirs);
    let own = r#"instance="mariadb",job="backup""#;
    let expected = |status: &str| {
        [
            format!("backup_duration_seconds{{{own}}} 42.3"),
            format!("backup_start_timestamp{{{own}}} 1.748e+09"),
            format!("backup_status{{{own},{status}"),
        ]
    };
    assert_eq!(series(&gateway, own), expected(r#"status="success"} 0"#));
    for outcome in [Outcome::Failed, Outcome::Incomplete, Outcome::TimedOut, Outcome::Died] {
        push(&gateway, &also, "mariadb", &run(outcome, Facts::None));
        assert_eq!(series(&gateway, own), expected(r#"status="failure"} 1"#), "{outcome:?}");
        push(&gateway, &also, "mariadb", &run(Outcome::Succeeded, backup(0)));
    }
    // What was left out did not run, for whoever counts runs.
    for outcome in [Outcome::Skipped, Outcome::Cancelled] {
        let mut later = run(outcome, Facts::None);
        later.started = at(3600);
        push(&gateway, &also, "mariadb", &later);
        assert_eq!(series(&gateway, own), expected(r#"status="success"} 0"#), "{outcome:?}");
    }
    push(&gateway, &also, "retention", &run(Outcome::Succeeded, Facts::None));
    assert_eq!(series(&gateway, r#"instance="restic-retentionpolicies",job="backup""#).len(), 3);
    push(&gateway, &also, "wasabi", &run(Outcome::Failed, Facts::None));
    let mirror = r#"instance="backup-mirror-wasabi",job="backup""#;
    assert_eq!(series(&gateway, mirror), [format!("backup_mirror_status{{{mirror}}} 1")]);
    push(&gateway, &also, "sunday", &run(Outcome::Succeeded, Facts::None));
    assert!(series(&gateway, r#"instance="sunday""#).is_empty(), "a restore test is no backup");
    assert_eq!(series(&gateway, r#"instance="grafana",job="backup""#).len(), 3);
}

#[test]
fn dashboards_of_scripts_that_push_by_job_find_what_they_know() {
    let Some(gateway) = Gateway::start() else { return };
    let also = [KnownNames::ByJob];
    script(
        &gateway,
        "job/restic_host",
        "backup_success 1\nbackup_duration_seconds 15.6\nbackup_timestamp 1\n",
    );
    push(&gateway, &also, "volumes", &run(Outcome::Succeeded, backup(0)));
    script(&gateway, "job/restic_host", "backup_success 0\nbackup_files_new 1\nbackup_files_changed 2\n");
    let own = r#"{instance="",job="restic_k8s_data"}"#;
    assert_eq!(
        series(&gateway, own),
        [
            format!("backup_duration_seconds{own} 42.3"),
            format!("backup_files_changed{own} 87"),
            format!("backup_files_new{own} 12"),
            format!("backup_success{own} 1"),
            format!("backup_timestamp{own} 1.7480000423e+09"),
        ]
    );
    push(&gateway, &also, "volumes", &run(Outcome::Died, Facts::None));
    assert!(series(&gateway, own).contains(&format!("backup_success{own} 0")));

    script(&gateway, "job/old_dump", "pg_dump_success 1\npg_dump_size_bytes 1\npg_dump_duration_seconds 1\n");
    push(&gateway, &also, "dump", &run(Outcome::Succeeded, backup(4_823_042)));
    let own = r#"{instance="",job="pg_dump"}"#;
    let all = series(&gateway, own);
    // Alerts look at the one name and dashboards at the other.
    for line in [
        "pg_dump_size_bytes{} 4.823042e+06",
        "pg_dump_success{} 1",
        "pg_dump_duration_seconds{} 42.3",
        "backup_success{} 1",
    ] {
        assert!(all.contains(&line.replace("{}", own)), "{line}: {all:#?}");
    }
    push(&gateway, &also, "dump", &run(Outcome::Failed, backup(17)));
    let all = series(&gateway, own);
    assert!(
        all.contains(&format!("pg_dump_success{own} 0")) && all.contains(&format!("backup_success{own} 0"))
    );
    assert!(!all.iter().any(|line| line.starts_with("pg_dump_size")), "half a dump looks like a whole one");

    let prefix =
        |prefix: &str, bytes, objects| PrefixFacts { prefix: prefix.to_owned(), bytes, objects, archived: 0 };
    let statistics = StatisticsFacts {
        prefixes: vec![prefix("velero", 1_234_567_890, 4821), prefix("", 7, 1)],
        limit: Some(21_474_836_480),
        ..StatisticsFacts::default()
    };
    push(&gateway, &also, "bucket", &run(Outcome::Succeeded, Facts::Statistics(statistics)));
    let all = series(&gateway, r#"job="bucket""#);
    for line in [
        r#"oci_bucket_size_bytes{instance="",job="bucket",prefix="velero"} 1.23456789e+09"#,
        r#"oci_bucket_object_count{instance="",job="bucket",prefix="velero"} 4821"#,
        r#"oci_bucket_limit_bytes{instance="",job="bucket"} 2.147483648e+10"#,
    ] {
        assert!(all.iter().any(|one| one == line), "{line}: {all:#?}");
    }
}

#[test]
fn a_failing_job_keeps_the_time_of_its_last_success() {
    let Some(gateway) = Gateway::start() else { return };
    push(&gateway, &[], "mariadb", &run(Outcome::Succeeded, backup(0)));
    let success = gateway.value("firedrill_job_last_success_timestamp_seconds", &[r#"name="mariadb""#]);
    assert_eq!(success.as_deref(), Some("1.7480000423e+09"));
    assert_eq!(gateway.value("firedrill_backup_files", &[r#"state="changed""#]).as_deref(), Some("87"));
    let mut died = run(Outcome::Died, Facts::None);
    died.ended = at(7200);
    push(&gateway, &[], "mariadb", &died);
    let value = |name: &str, label: &str| gateway.value(name, &[r#"name="mariadb""#, label]);
    assert_eq!(value("firedrill_job_last_success_timestamp_seconds", ""), success);
    assert_eq!(value("firedrill_job_last_run_timestamp_seconds", "").as_deref(), Some("1.7480072e+09"));
    assert_eq!(value("firedrill_job_outcome", r#"outcome="died""#).as_deref(), Some("1"));
    assert_eq!(value("firedrill_job_outcome", r#"outcome="succeeded""#).as_deref(), Some("0"));
    assert_eq!(value("firedrill_backup_files", r#"state="changed""#), None, "of an older run");
    // A gateway that is gone keeps nobody from working, and gives no password away.
    let port = gateway.port;
    drop(gateway);
    let mut options = PushgatewayOptions::new(format!("http://me:s3cret@127.0.0.1:{port}"));
    options.pause = Duration::from_millis(1);
    let metrics = JobMetrics::new(options, &[KnownNames::ByInstance]);
    metrics.ended(&job("mariadb"), &died, &JobState::new(JobName("mariadb".to_owned())));
    let troubles: Vec<_> = metrics.troubles().iter().map(Error::chain).collect();
    assert!(troubles.len() == 1 && !troubles[0].contains("s3cret"), "{troubles:?}");
    assert!(metrics.troubles().is_empty(), "told twice");
}

/// What was asked of a server.
#[derive(Clone, Debug)]
struct Asked {
    line: String,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Asked {
    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// A web server that says what it is told to say.
struct Server {
    port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
    /// Statuses of the next answers; 200 afterwards. Refusals repeat the request.
    answers: Arc<Mutex<Vec<u16>>>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Self { port, asked: Arc::default(), answers: Arc::default() };
        let (asked, answers) = (Arc::clone(&server.asked), Arc::clone(&server.answers));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) == 0 {
                    continue;
                }
                let mut headers = BTreeMap::new();
                loop {
                    let mut header = String::new();
                    reader.read_line(&mut header).unwrap();
                    let Some((name, value)) = header.trim().split_once(": ") else { break };
                    headers.insert(name.to_lowercase(), value.to_owned());
                }
                let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                let one =
                    Asked { line: line.trim().to_owned(), headers, body: String::from_utf8(body).unwrap() };
                let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
                let status = if answers.is_empty() { 200 } else { answers.remove(0) };
                let said = if status == 200 { String::new() } else { format!("{one:?}") };
                asked.lock().unwrap_or_else(PoisonError::into_inner).push(one);
                let head = format!(
                    "HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    said.len()
                );
                let _ = stream.write_all(format!("{head}{said}").as_bytes());
            }
        });
        server
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn will_answer(&self, statuses: &[u16]) {
        *self.answers.lock().unwrap() = statuses.to_vec();
    }

    /// What was asked since this was called last.
    fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    fn ntfy(&self, login: Login) -> Way {
        Way::Ntfy {
            server: self.url("/"),
            topic: "backup".to_owned(),
            priority: 4,
            tags: vec!["bangbang".to_owned()],
            title: None,
            login,
        }
    }

    fn hook(&self, path: &str, headers: &[(&str, &str)]) -> Way {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), Secret::new(*value)));
        Way::Webhook { url: Secret::new(self.url(path)), headers: headers.collect() }
    }
}

/// What is known of two jobs, and whoever is told.
struct People {
    folder: tempfile::TempDir,
    messages: Messages,
}

impl People {
    fn new(ways: Vec<Way>) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), messages: Messages::new(ways) }
    }

    fn ledger(&self) -> Ledger {
        Ledger::open(self.folder.path()).unwrap()
    }

    /// A job ended.
    fn ended(&self, job: &str, seconds: i64, outcome: Outcome) {
        let (ledger, name) = (self.ledger(), JobName(job.to_owned()));
        let lock = ledger.lock(&name).unwrap().unwrap();
        let mut state = ledger.read(&name).unwrap();
        state.begin(Attempt { slot: None, number: 1, started: at(seconds), process: 1 });
        let report = match outcome {
            Outcome::Succeeded => JobReport::succeeded(Facts::None),
            outcome => JobReport {
                outcome,
                ..JobReport::failed(Error::new(ErrorKind::Unavailable, "do it").because("a"))
            },
        };
        state.end(report, at(seconds), None).unwrap();
        ledger.write(&lock, &state).unwrap();
    }

    fn tell(&self, seconds: i64) -> firedrill_core::error::Result<Option<Message>> {
        let names = ["emby", "grafana"].map(|name| JobName(name.to_owned()));
        news::tell(&self.ledger(), &names, &self.messages, at(seconds), Duration::from_secs(86_400))
    }
}

#[test]
fn an_address_that_does_not_work_is_said_to_be_broken_once_and_left_alone_for_a_while() {
    let server = Server::start();
    let mut people = People::new(vec![server.hook("/hook", &[])]);
    let (first, longest) = (Duration::from_millis(300), Duration::from_millis(700));
    people.messages = Messages::new(vec![server.hook("/hook", &[])]).with_pauses(first, longest);
    server.will_answer(&[404; 100]);
    people.ended("emby", 10, Outcome::Failed);
    let error = people.tell(11).unwrap_err().chain();
    assert!(error.contains("404"), "{error}");
    let started = std::time::Instant::now();
    let mut looks = 0;
    while started.elapsed() < Duration::from_secs(3) {
        assert_eq!(people.tell(12).unwrap(), None, "it was said");
        looks += 1;
        std::thread::sleep(Duration::from_millis(10));
    }
    // After 0.3 s, then each 0.6 s, then 0.7 s.
    let asked = server.asked().len();
    assert!((3..=7).contains(&asked) && looks > 20, "{asked} times for {looks} looks");
    server.will_answer(&[]);
    let started = std::time::Instant::now();
    while people.tell(13).unwrap().is_none() {
        assert!(started.elapsed() < Duration::from_secs(30), "it is back, and was not told");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(server.asked().last().unwrap().json()["title"], "emby failed");
    assert_eq!(people.tell(14).unwrap(), None);
    // One that breaks again is news again.
    server.will_answer(&[404; 100]);
    people.ended("emby", 20, Outcome::Succeeded);
    assert!(people.tell(21).is_err());
}

#[test]
fn people_are_told_what_changed_and_nothing_twice() {
    let server = Server::start();
    let people = People::new(vec![server.ntfy(Login::None), server.hook("/hook", &[("x-key", "k")])]);
    people.ended("emby", 0, Outcome::Succeeded);
    people.tell(1).unwrap();
    assert!(server.asked().is_empty(), "everything is well");

    people.ended("emby", 10, Outcome::Failed);
    people.tell(11).unwrap();
    let asked = server.asked();
    let [ntfy, hook] = asked.as_slice() else { panic!("{asked:#?}") };
    assert_eq!(ntfy.line, "POST / HTTP/1.1");
    let told = ntfy.json();
    assert_eq!(
        (told["topic"].as_str(), told["priority"].as_u64(), told["tags"][0].as_str(), told["title"].as_str()),
        (Some("backup"), Some(4), Some("bangbang"), Some("emby failed"))
    );
    let text = told["message"].as_str().unwrap();
    assert!(
        text.starts_with("emby: failed: failed to do it: a") && text.contains("(since 2025-05-23"),
        "{text}"
    );
    assert_eq!((hook.line.as_str(), hook.headers["x-key"].as_str()), ("POST /hook HTTP/1.1", "k"));
    let told = hook.json();
    assert_eq!(told["bad"][0]["job"], "emby");
    assert!(
        told["title"] == "emby failed"
            && told["text"].is_string()
            && told["well"].as_array().unwrap().is_empty()
    );

    people.ended("emby", 20, Outcome::Failed);
    people.tell(21).unwrap();
    assert!(server.asked().is_empty(), "they know");
    // Whoever is told something hears of everything that is bad, in one message.
    people.ended("grafana", 30, Outcome::Died);
    people.tell(31).unwrap();
    let told = server.asked()[0].json();
    assert_eq!(told["title"], "grafana failed; emby still failing");
    assert_eq!(told["message"].as_str().unwrap().lines().count(), 2, "{told}");
    people.tell(86_000).unwrap();
    assert!(server.asked().is_empty());
    people.tell(86_500).unwrap();
    assert_eq!(server.asked()[0].json()["title"], "emby, grafana still failing");
    people.ended("emby", 86_600, Outcome::Succeeded);
    people.ended("grafana", 86_600, Outcome::Succeeded);
    people.tell(86_601).unwrap();
    let told = server.asked()[0].json();
    assert_eq!(
        (told["title"].as_str(), told["priority"].as_u64()),
        (Some("emby, grafana well again"), Some(3))
    );
    people.tell(200_000).unwrap();
    assert!(server.asked().is_empty());
}

#[test]
fn what_could_not_be_told_is_told_later() {
    let (server, other) = (Server::start(), Server::start());
    let mut people = People::new(vec![server.ntfy(Login::None)]);
    people.messages = people.messages.with_pauses(Duration::ZERO, Duration::ZERO);
    people.ended("emby", 10, Outcome::Failed);
    server.will_answer(&[500, 503, 429]);
    let error = people.tell(11).unwrap_err().chain();
    assert!(error.contains("429"), "{error}");
    assert_eq!(server.asked().len(), 3, "tried again");
    server.will_answer(&[503]);
    assert!(people.tell(12).unwrap().is_some());
    assert_eq!(server.asked().len(), 2);
    assert!(people.tell(13).unwrap().is_none());
    // Who was told in one way is told.
    let people = People::new(vec![server.ntfy(Login::None), other.hook("/hook", &[])]);
    people.ended("emby", 10, Outcome::Failed);
    server.will_answer(&[404]);
    assert!(people.tell(11).unwrap().is_some());
    assert_eq!((server.asked().len(), other.asked().len()), (1, 1), "a refusal is not tried again");
    assert!(people.tell(12).unwrap().is_none());
}

fn message() -> Message {
    let item = Item { job: JobName("emby".to_owned()), text: "failed".to_owned(), since: at(0) };
    Message { bad: vec![item], ..Message::default() }
}

#[test]
fn secrets_go_where_they_belong_and_nowhere_else() {
    let server = Server::start();
    for (login, header) in [
        (Login::Token(Secret::new("tk_s3cret")), "Bearer tk_s3cret"),
        (Login::User("me".to_owned(), Secret::new("s3cret")), "Basic bWU6czNjcmV0"),
    ] {
        let messages = Messages::new(vec![server.ntfy(login)]);
        messages.bring(&message()).unwrap();
        assert_eq!(server.asked()[0].headers["authorization"], header);
        // This server repeats what it was asked.
        server.will_answer(&[403]);
        let error = messages.bring(&message()).unwrap_err().chain();
        assert!(error.contains("403") && error.contains("check the token"), "{error}");
        assert!(!error.contains("s3cret") && !error.contains("bWU6"), "{error}");
        server.asked();
    }
    let path = "/services/T0000SECRET/B0000SECRET?key=querySECRET";
    let hook = Messages::new(vec![server.hook(path, &[("authorization", "headerSECRET")])]);
    server.will_answer(&[404]);
    let error = hook.bring(&message()).unwrap_err().chain();
    assert!(error.contains("404") && !error.contains("SECRET"), "{error}");
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for url in [format!("http://127.0.0.1:{port}/SECRET"), "ftp://SECRET/x".to_owned(), "SECRET".to_owned()] {
        let ways = vec![Way::Webhook { url: Secret::new(url), headers: Vec::new() }];
        let error = Messages::new(ways).bring(&message()).unwrap_err().chain();
        assert!(!error.contains("SECRET"), "{error}");
    }
}

#[test]
fn a_message_fits() {
    let mut message = message();
    for number in 0..300 {
        let text = format!("{number}: {}", "é".repeat(700));
        message.bad.push(Item { job: JobName("x".to_owned()), text, since: at(0) });
    }
    let text = lines(&message.text(), 4000);
    assert!(text.len() <= 4000 && text.lines().count() > 3 && text.ends_with('…'), "{}", text.len());
    assert_eq!(lines("a\u{1b}[2Jb\nc", 100), "a\\u{1b}[2Jb\nc");
}

#[test]
fn pings_tell_how_a_job_goes() {
    let server = Server::start();
    let url = Secret::new(server.url("/ping/0b9c7e4a-secret?create=1"));
    let pings = Pings::new(BTreeMap::from([(JobName("mariadb".to_owned()), url)]));
    let mut state = JobState::new(JobName("mariadb".to_owned()));
    let attempt = Attempt { slot: None, number: 1, started: at(0), process: 1 };
    pings.began(&job("mariadb"), &attempt);
    pings.began(&job("wasabi"), &attempt);
    pings.ended(&job("mariadb"), &run(Outcome::Succeeded, Facts::None), &state);
    pings.ended(&job("mariadb"), &run(Outcome::Died, Facts::None), &state);
    state.retry =
        Some(Retrying { slot: at(0), number: 2, not_before: at(0) + SignedDuration::from_secs(60) });
    pings.ended(&job("mariadb"), &run(Outcome::Failed, Facts::None), &state);
    let asked = server.asked();
    let lines: Vec<_> = asked.iter().map(|asked| asked.line.as_str()).collect();
    let of = |end: &str| format!("POST /ping/0b9c7e4a-secret{end}?create=1 HTTP/1.1");
    assert_eq!(lines, [of("/start"), of(""), of("/fail"), of("/log")]);
    assert_eq!(asked[2].body, "failed to do it: no");
    assert!(pings.troubles().is_empty());
    server.will_answer(&[404]);
    pings.began(&job("mariadb"), &attempt);
    let troubles: Vec<_> = pings.troubles().iter().map(Error::chain).collect();
    assert!(
        troubles.len() == 1 && troubles[0].contains("for the job mariadb") && troubles[0].contains("404")
    );
    assert!(!troubles[0].contains("0b9c7e4a"), "{troubles:?}");
}
