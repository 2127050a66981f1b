//! Applications in real cells, on healthy and damaged data.

use std::sync::Arc;
use std::time::Duration;

use firedrill_core::cell::Runtime;
use firedrill_core::config::runtime::RuntimeConfig;
use firedrill_core::config::trials::AppConfig;
use firedrill_core::config::units::Span;
use firedrill_core::event::Phase;
use firedrill_core::finding::{Class, Examination};
use firedrill_core::ports::Probe as _;

use super::AppProbe;
use crate::probe::fleet::{Fleet, Tree, assert_found, assert_green, at};
use crate::runtime::process::ProcessRuntime;

/// A small application: it reads its books from an SQLite file with the program of that name, and lists them.
const SERVER: &str = r#"
use IO::Socket::INET;
sub ask { open(my $out, '-|', 'sqlite3', '-readonly', '/cell/books.db', $_[0]) or die; local $/; my $all = <$out>; close $out or return; $all }
defined ask('SELECT count(*) FROM books') or die "cannot open the database of books\n";
my $s = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 8080, Listen => 5, ReuseAddr => 1) or die "$!\n";
while (my $c = $s->accept) {
  my ($head, $path) = ('');
  while (my $line = <$c>) { $path = $1 if $line =~ m{^GET (\S+)}; last if $line =~ /^\r?\n$/ }
  my ($status, $body) = (404, 'nothing here');
  if ($path eq '/books') {
    my $list = ask("SELECT json_group_array(json_object('title', title)) FROM books");
    ($status, $body) = defined $list ? (200, $list) : (500, 'the books are gone');
  }
  exit 3 if $path eq '/crash';
  sleep 60 if $path eq '/slow';
  $body = 'x' x (40 << 20) if $path eq '/huge';
  ($status, $body) = (302, '') if $path eq '/away';
  print $c "HTTP/1.1 $status X\r\nContent-Length: ", length $body, "\r\nLocation: http://10.0.0.1/\r\n\r\n", $body;
  close $c;
}
"#;

fn books(titles: &[&str]) -> Vec<u8> {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("books.db");
    let db = rusqlite::Connection::open(&path).unwrap();
    db.execute_batch("CREATE TABLE books (title TEXT)").unwrap();
    for title in titles {
        db.execute("INSERT INTO books VALUES (?1)", [title]).unwrap();
    }
    drop(db);
    std::fs::read(path).unwrap()
}

fn app(http: &str) -> AppConfig {
    let mut app: AppConfig = serde_json::from_value(serde_json::json!({
        "command": ["perl", "server.pl"],
        "data": {"books/books.db": "books.db"},
        "files": {"server.pl": SERVER},
        "port": 8080,
        "http": serde_json::from_str::<serde_json::Value>(http).unwrap(),
    }))
    .unwrap();
    app.start_limit = Span(Duration::from_secs(20));
    app
}

const BOOKS: &str = r#"{"path": "/books", "json": {"": {"min": 2}, "/0/title": "Emma"}}"#;

fn fleet(database: Option<Vec<u8>>) -> Fleet {
    let mut tree = Tree::default();
    tree.write("data/books/cover.png", "x", at(1, 0.0));
    if let Some(database) = database {
        tree.write("data/books/books.db", database, at(1, 0.0));
    }
    let mut fleet = Fleet::new("library");
    fleet.backup(at(2, 0.0), &tree);
    fleet
}

pub(super) fn examine_with(fleet: Fleet, app: AppConfig, runtime: Option<Arc<dyn Runtime>>) -> Examination {
    let tokio = tokio::runtime::Runtime::new().unwrap();
    let _inside = tokio.enter();
    let mut fleet = fleet;
    fleet.drill.trials.app = Some(app);
    let mut case = fleet.case();
    case.subject.runtime = runtime;
    assert!(AppProbe.recognises(&case.subject));
    let examination = AppProbe.examine(&case.subject);
    assert_eq!(std::fs::read_dir(&case.subject.work).unwrap().count(), 0, "a cell was left behind");
    examination
}

fn examine(database: Option<Vec<u8>>, app: AppConfig) -> Examination {
    let runtime = Arc::new(ProcessRuntime::new(&RuntimeConfig::default()));
    examine_with(fleet(database), app, Some(runtime))
}

fn healthy(http: &str) -> Examination {
    examine(Some(books(&["Emma", "Ulysses"])), app(http))
}

#[track_caller]
fn assert_interrupted(examination: &Examination, why: &str) {
    let reason = examination.interrupted.as_deref().unwrap_or_default();
    assert!(reason.contains(why), "{reason:?}");
    assert!(examination.findings.is_empty(), "{:#?}", examination.findings);
}

#[test]
fn an_application_on_healthy_data_is_green() {
    let good = healthy(&format!(r#"[{BOOKS}, {{"path": "/none", "status": 404, "body": "nothing"}}]"#));
    assert_green(&good);
    assert_eq!((good.checked, good.unit.as_str()), (2, "answers"));
    let facts = good.engine.unwrap();
    assert_eq!(facts.cells[0].software[0].kit, "perl");
    for phase in [Phase::Start, Phase::Answer, Phase::Verify] {
        assert!(facts.phases.contains_key(&phase), "{phase:?}");
    }
}

#[test]
fn an_application_does_not_start_on_a_damaged_or_missing_database() {
    let whole = books(&["Emma", "Ulysses"]);
    for damaged in [Vec::new(), b"SQLite format 3\0".to_vec(), whole[..100].to_vec(), vec![b'x'; 8192]] {
        let bad = examine(Some(damaged), app(&format!("[{BOOKS}]")));
        assert_found(&bad, "app.start", Class::Damage);
        assert!(bad.findings[0].seen.contains("cannot open the database of books"), "{:?}", bad.findings);
        assert_eq!(bad.interrupted, None);
    }
    let bad = examine(None, app(&format!("[{BOOKS}]")));
    assert_found(&bad, "app.data", Class::Damage);
    assert!(bad.engine.is_none(), "nothing was started");
}

#[test]
fn an_application_that_knows_too_little_is_found_out() {
    let mut few = app(&format!("[{BOOKS}]"));
    few.start_limit = Span(Duration::from_secs(2));
    let bad = examine(Some(books(&["Emma"])), few);
    assert_found(&bad, "app.answer", Class::Damage);
    assert_eq!(
        (bad.findings[0].location.as_str(), bad.findings[0].expected.as_str()),
        ("GET /books", "at least 2")
    );
    assert_eq!((bad.checked, bad.interrupted), (1, None));
    let bad = healthy(&format!(r#"[{BOOKS}, {{"path": "/none"}}, {{"path": "/away"}}]"#));
    let locations: Vec<_> = bad.findings.iter().map(|f| f.location.as_str()).collect();
    assert_eq!(locations, ["GET /none", "GET /away"], "a redirect is an answer, and is not followed");
    assert_eq!(bad.checked, 3);
}

#[test]
fn an_application_that_ends_is_told_from_one_that_is_slow() {
    let bad = healthy(&format!(r#"[{BOOKS}, {{"path": "/crash"}}]"#));
    assert_found(&bad, "app.answer", Class::Damage);
    assert!(bad.findings[0].seen.contains("exit code 3"), "{:?}", bad.findings);
    assert_interrupted(
        &healthy(&format!(r#"[{BOOKS}, {{"path": "/slow", "timeout": "300ms"}}]"#)),
        "no answer within",
    );
    assert_interrupted(&healthy(&format!(r#"[{BOOKS}, {{"path": "/huge", "body": "y"}}]"#)), "longer than");
}

#[test]
fn an_application_that_never_listens_did_not_start() {
    let mut mute = app(&format!("[{BOOKS}]"));
    mute.command = vec!["bash".into(), "-c".into(), "echo waiting for the books; sleep 60".into()];
    mute.start_limit = Span(Duration::from_millis(700));
    let bad = examine(Some(books(&["Emma"])), mute);
    assert_found(&bad, "app.start", Class::Damage);
    assert!(bad.findings[0].seen.contains("waiting for the books"), "{:?}", bad.findings);
}

#[test]
fn what_keeps_an_application_from_running_is_told() {
    let good = || app(&format!("[{BOOKS}]"));
    let database = || books(&["Emma", "Ulysses"]);
    assert_interrupted(&examine_with(fleet(Some(database())), good(), None), "runtime: off");
    let mut absent = good();
    absent.command = vec!["no-such-server".into()];
    assert_interrupted(&examine(Some(database()), absent), "no-such-server");
    let mut killed = good();
    killed.command = vec!["bash".into(), "-c".into(), "kill -9 $$".into()];
    assert_interrupted(&examine(Some(database()), killed), "signal 9");
}

#[test]
fn servers_and_steps_come_before_the_application() {
    let mut stepped = app(&format!("[{BOOKS}]"));
    stepped.before = serde_json::from_value(serde_json::json!([
        {"start": ["perl", "-e", "use IO::Socket::INET; my $s = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 4711, Listen => 1); while (my $c = $s->accept) { sleep 1 }"], "listens": "4711"},
        {"run": ["bash", "-c", "exec 3<>/dev/tcp/library-db/4711 && echo 'INSERT INTO books VALUES (\"Dubliners\")' | sqlite3 /cell/books.db"]},
    ]))
    .unwrap();
    stepped.aliases = vec!["library-db".into()];
    assert_green(&examine(Some(books(&["Emma"])), stepped.clone()));
    stepped.before[1].run =
        Some(vec!["bash".into(), "-c".into(), "echo the migration failed >&2; exit 1".into()]);
    let bad = examine(Some(books(&["Emma"])), stepped);
    assert_found(&bad, "app.start", Class::Damage);
    assert!(bad.findings[0].seen.contains("the migration failed"));
}
