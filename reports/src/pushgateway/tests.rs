//! Against the real Pushgateway where it is installed, and against small servers that misbehave.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use reqwest::Method;

use super::*;
use crate::fixture;
use crate::prometheus::LAST_SUCCESS;

/// A Pushgateway on a free port, stopped when dropped.
pub(crate) struct Gateway {
    child: Child,
    pub(crate) port: u16,
}

impl Gateway {
    pub(crate) fn start() -> Option<Self> {
        let program = ["/usr/bin/prometheus-pushgateway", "/usr/bin/pushgateway"]
            .into_iter()
            .find(|p| Path::new(p).exists());
        let Some(program) = program else {
            firedrill_testing::skip("the Pushgateway is missing (Debian: prometheus-pushgateway)");
            return None;
        };
        let port = free_port();
        let child = Command::new(program)
            .args([format!("--web.listen-address=127.0.0.1:{port}"), "--persistence.file=".to_owned()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let gateway = Self { child, port };
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(started.elapsed() < Duration::from_secs(20), "the Pushgateway does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(gateway)
    }

    fn sink(&self) -> Pushgateway {
        self.sink_with(|_| {})
    }

    fn sink_with(&self, change: impl FnOnce(&mut PushgatewayOptions)) -> Pushgateway {
        let mut options = options(self.port);
        change(&mut options);
        Pushgateway::new(options)
    }

    pub(crate) fn metrics(&self) -> String {
        request(self.port, "GET", "metrics", "").1
    }

    /// The value of the series of `name` whose labels contain all of `labels`.
    pub(crate) fn value(&self, name: &str, labels: &[&str]) -> Option<String> {
        let metrics = self.metrics();
        let mut lines = metrics
            .lines()
            .filter(|l| l.starts_with(&format!("{name}{{")) && labels.iter().all(|label| l.contains(label)));
        let line = lines.next()?;
        assert_eq!(lines.next(), None, "{name} {labels:?} is not unique");
        line.rsplit_once(' ').map(|(_, value)| value.to_owned())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn options(port: u16) -> PushgatewayOptions {
    PushgatewayOptions {
        pause: Duration::from_millis(10),
        request_timeout: Duration::from_secs(20),
        ..PushgatewayOptions::new(format!("http://127.0.0.1:{port}"))
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub(crate) fn request(port: u16, method: &str, path: &str, body: &str) -> (u16, String) {
    let client = reqwest::blocking::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let url = format!("http://127.0.0.1:{port}/{path}");
    let response = client.request(method, url).body(body.to_owned()).send().unwrap();
    (response.status().as_u16(), response.text().unwrap())
}

#[test]
fn a_run_is_pushed_and_a_failing_run_leaves_the_last_success_alone() {
    let Some(gateway) = Gateway::start() else { return };
    gateway.sink().finish(&fixture::all_verified()).unwrap();
    let mariadb = [r#"copy="primary""#, r#"tag="mariadb""#];
    let success = gateway.value(LAST_SUCCESS, &mariadb).unwrap();
    assert_eq!(success.parse::<f64>().unwrap(), 1_772_337_634.2);
    assert!(gateway.value("firedrill_recovery_time_actual_seconds", &mariadb).is_some());
    assert!(gateway.value("firedrill_run_duration_seconds", &[]).is_some());

    let mut later = fixture::one_failed();
    later.started += jiff::SignedDuration::from_hours(168);
    gateway.sink().finish(&later).unwrap();
    assert_eq!(gateway.value(LAST_SUCCESS, &mariadb).as_ref(), Some(&success));
    assert_ne!(gateway.value(LAST_SUCCESS, &[r#"tag="grafana""#]).as_ref(), Some(&success));
    let run = "firedrill_restore_test_last_run_timestamp_seconds";
    assert_ne!(gateway.value(run, &mariadb).as_ref(), Some(&success));
    let verdict = "firedrill_restore_test_verdict";
    assert_eq!(gateway.value(verdict, &[mariadb[1], r#"verdict="failed""#]).as_deref(), Some("1"));
    assert_eq!(gateway.value(verdict, &[mariadb[1], r#"verdict="verified""#]).as_deref(), Some("0"));
}

#[test]
fn measurements_of_an_older_run_do_not_stay() {
    let Some(gateway) = Gateway::start() else { return };
    gateway.sink().finish(&fixture::all_verified()).unwrap();
    let emby = [r#"tag="emby""#];
    assert!(gateway.value("firedrill_recovery_point_actual_seconds", &emby).is_some());
    gateway.sink().finish(&fixture::inconclusive()).unwrap();
    assert!(gateway.value("firedrill_recovery_point_actual_seconds", &emby).is_none());
    assert!(gateway.value(LAST_SUCCESS, &emby).is_some());
}

#[test]
fn every_fixture_is_taken_whatever_the_names() {
    let Some(gateway) = Gateway::start() else { return };
    for (name, judgement) in fixture::all() {
        gateway.sink().finish(&judgement).unwrap_or_else(|e| panic!("{name}: {}", e.chain()));
    }
    let metrics = gateway.metrics();
    assert!(metrics.contains(r#"tag="a/b c%2F?x#y\"'\\\n# TYPE firedrill_copy_ok counter""#), "{metrics}");
    assert!(metrics.contains(r#"tag="../../etc/passwd""#));
    assert!(metrics.contains("# TYPE firedrill_copy_ok gauge"));
}

#[test]
fn a_tag_without_a_name_is_pushed_too() {
    let Some(gateway) = Gateway::start() else { return };
    let mut judgement = fixture::all_verified();
    judgement.drills[0].series = firedrill_core::snapshot::Series::Tag(String::new());
    gateway.sink().finish(&judgement).unwrap();
    let list = request(gateway.port, "GET", "api/v1/metrics", "").1;
    assert!(list.contains(r#""tag":"""#), "{list}");
}

#[test]
fn groups_of_vanished_tags_are_deleted_only_when_that_is_safe() {
    let Some(gateway) = Gateway::start() else { return };
    gateway.sink().finish(&fixture::two_copies()).unwrap();
    request(gateway.port, "PUT", "metrics/job/other/copy/primary/tag/emby", "other_metric 1\n");
    let expected = "firedrill_expected_info";
    let emby = |copy: &'static str| [copy, r#"tag="emby""#];
    let (primary, mirror) = (emby(r#"copy="primary""#), emby(r#"copy="mirror""#));
    let settled = |labels: &[&str]| {
        // A DELETE is queued, so it may take a moment.
        std::thread::sleep(Duration::from_millis(200));
        gateway.value(expected, labels).is_some()
    };
    let mut fewer = fixture::all_verified();
    fewer.drills.retain(|d| d.series.to_string() != "emby");

    gateway.sink().finish(&fewer).unwrap();
    assert!(settled(&primary), "nobody asked for it");

    let prune = || gateway.sink_with(|o| o.prune = true);
    let mut cut = fewer.clone();
    cut.seconds = None;
    prune().finish(&cut).unwrap();
    assert!(settled(&primary), "the run was not complete");

    let mut damaged = fixture::copy_damaged();
    damaged.drills.retain(|d| d.series.to_string() != "emby");
    prune().finish(&damaged).unwrap();
    assert!(settled(&primary), "the copy is damaged");

    let mut empty = fixture::all_verified();
    empty.drills.clear();
    prune().finish(&empty).unwrap();
    assert!(settled(&primary), "the copy is empty");

    prune().finish(&fewer).unwrap();
    assert!(!settled(&primary), "it is gone");
    assert!(gateway.value(LAST_SUCCESS, &primary).is_none());
    assert!(gateway.value(expected, &[r#"copy="primary""#, r#"tag="grafana""#]).is_some());
    assert!(settled(&mirror), "the mirror was not part of the run");
    assert!(gateway.metrics().contains("other_metric"), "groups of others are not ours");
}

#[test]
fn a_type_conflict_is_explained_and_stops_nothing_else() {
    let Some(gateway) = Gateway::start() else { return };
    let (status, _) =
        request(gateway.port, "PUT", "metrics/job/backup/instance/script", "backup_restore_status 0\n");
    assert_eq!(status, 200);
    let error = gateway.sink().finish(&fixture::all_verified()).unwrap_err();
    let told = error.chain();
    assert!(told.contains("400"), "{told}");
    assert!(told.contains("backup_restore_status"), "{told}");
    assert!(told.contains("same type in all groups"), "{told}");
    assert!(told.len() < 1_500, "{told}");
    assert!(gateway.value("firedrill_copy_ok", &[]).is_some());

    gateway
        .sink_with(|o| o.reference_status = ReferenceStatus::Untyped)
        .finish(&fixture::one_failed())
        .unwrap();
    let group = [r#"instance="backup-restore-test""#, r#"job="backup""#];
    assert_eq!(gateway.value("backup_restore_status", &group).as_deref(), Some("1"));
}

#[test]
fn the_alerts_of_existing_setups_find_their_series() {
    let Some(gateway) = Gateway::start() else { return };
    gateway.sink().finish(&fixture::one_failed()).unwrap();
    let group = [r#"instance="backup-restore-test""#, r#"job="backup""#];
    assert_eq!(gateway.value("backup_restore_status", &group).as_deref(), Some("1"));
    assert!(gateway.value("push_time_seconds", &group).is_some());
    gateway.sink().finish(&fixture::all_verified()).unwrap();
    assert_eq!(gateway.value("backup_restore_status", &group).as_deref(), Some("0"));
    assert!(!gateway.metrics().contains("backup_start_timestamp"));
}

/// A server that answers each request with the next of `answers` (the last one again and again) and
/// remembers the heads of what it was asked.
fn server(answers: &'static [&'static str]) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&heads);
    std::thread::spawn(move || {
        for (i, stream) in listener.incoming().enumerate() {
            let Ok(mut stream) = stream else { return };
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut head, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) <= 2 {
                    break;
                }
                if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                head.push_str(&line);
            }
            let _ = reader.read_exact(&mut vec![0; length]);
            seen.lock().unwrap().push(head);
            let answer = answers.get(i).or(answers.last()).unwrap();
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    (port, heads)
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbusy";
const MOVED: &str =
    "HTTP/1.1 301 Moved\r\nLocation: https://elsewhere/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

fn small() -> Judgement {
    fixture::copy_unreadable()
}

#[test]
fn a_passing_failure_is_tried_again() {
    let (port, heads) = server(&[BUSY, BUSY, OK]);
    Pushgateway::new(options(port)).finish(&small()).unwrap();
    assert_eq!(heads.lock().unwrap().len(), 4);
}

#[test]
fn a_lasting_failure_is_not_tried_for_ever() {
    let (port, heads) = server(&[BUSY]);
    let error = Pushgateway::new(options(port)).finish(&small()).unwrap_err();
    assert!(error.chain().contains("503 Service Unavailable: busy"), "{}", error.chain());
    assert_eq!(heads.lock().unwrap().len(), 2 * 3);
}

#[test]
fn a_redirect_is_told_and_not_followed() {
    let (port, heads) = server(&[MOVED]);
    let error = Pushgateway::new(options(port)).finish(&small()).unwrap_err();
    assert!(error.chain().contains("redirects to https://elsewhere/"), "{}", error.chain());
    assert_eq!(heads.lock().unwrap().len(), 2);
}

#[test]
fn a_gateway_that_is_down_ends_the_push_at_once() {
    let port = free_port();
    let started = Instant::now();
    let error = Pushgateway::new(options(port)).finish(&fixture::many(200)).unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(10));
    assert!(error.chain().contains("groups were not pushed"), "{}", error.chain());
}

#[test]
fn a_gateway_that_does_not_answer_is_left_when_the_time_is_over() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut options = options(listener.local_addr().unwrap().port());
    options.request_timeout = Duration::from_millis(100);
    options.timeout = Duration::from_millis(250);
    let started = Instant::now();
    let error = Pushgateway::new(options).finish(&small()).unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(10));
    assert_eq!(error.kind, ErrorKind::Timeout, "{}", error.chain());
}

#[test]
fn credentials_are_sent_and_never_shown() {
    let asked = |change: &dyn Fn(&mut PushgatewayOptions, u16)| {
        let (port, heads) = server(&[BUSY]);
        let mut options = options(port);
        change(&mut options, port);
        let mut sink = Pushgateway::new(options);
        sink.preflight().unwrap();
        let error = sink.finish(&small()).unwrap_err();
        for told in [error.chain(), format!("{error:?}"), format!("{sink:?}"), sink.name()] {
            assert!(!told.contains("hunter2") && !told.contains("aHVudGVyMg"), "{told}");
        }
        let heads = heads.lock().unwrap();
        heads.join("\n").to_lowercase()
    };
    let basic = "authorization: basic dxnlcjpodw50zxiy"; // user:hunter2, in lower case
    let in_url = asked(&|o, port| o.url = format!("http://user:hunter2@127.0.0.1:{port}/"));
    assert!(in_url.contains(basic), "{in_url}");
    assert!(!in_url.contains("hunter2"));
    let given = asked(&|o, _| {
        o.auth = Auth::Basic { user: "user".to_owned(), password: Secret::new("hunter2") };
    });
    assert!(given.contains(basic), "{given}");
    let token = asked(&|o, _| o.auth = Auth::Bearer(Secret::new("hunter2")));
    assert!(token.contains("authorization: bearer hunter2"), "{token}");
}

#[test]
fn a_path_before_the_gateway_is_kept() {
    let (port, heads) = server(&[OK]);
    let mut options = options(port);
    options.url.push_str("/push/gateway/");
    Pushgateway::new(options).finish(&small()).unwrap();
    assert!(heads.lock().unwrap()[0].starts_with("PUT /push/gateway/metrics/job/firedrill HTTP"));
}

#[test]
fn only_urls_of_gateways_are_taken() {
    let check = |url: &str| Pushgateway::new(PushgatewayOptions::new(url)).preflight();
    for good in ["http://push:9091", "https://user:p%40ss@push/base/", " http://[::1]:9091/ "] {
        assert!(check(good).is_ok(), "{good}");
    }
    for bad in [
        "push:9091",
        "ftp://push",
        "",
        "http://push/metrics",
        "http://push/metrics/job/x",
        "http://push?x=1",
        "http://user:hunter2/x@push",
    ] {
        let error = check(bad).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Usage);
        assert!(error.advice.is_some());
        assert!(!error.chain().contains("hunter2"), "{}", error.chain());
    }
}

/// The blocking client panics inside an async context when it is called directly.
#[tokio::test]
async fn a_push_works_inside_an_async_context() {
    let (port, heads) = server(&[OK]);
    Pushgateway::new(options(port)).finish(&small()).unwrap();
    assert_eq!(heads.lock().unwrap().len(), 2);
}
