//! An application on PostgreSQL, in each runtime: its database comes from a dump.

use std::sync::Arc;

use firedrill_core::cell::Runtime;
use firedrill_core::config::trials::AppConfig;
use firedrill_core::event::Phase;
use firedrill_core::finding::{Class, Examination};

use super::tests::examine_with;
use crate::probe::fleet::{Fleet, Tree, assert_found, at};
use crate::probe::made::{POSTGRES, assert_good, pg_dump, runtimes};

/// A small application: it lists what psql finds, and is in bad health without its database.
const SERVER: &str = r#"
use IO::Socket::INET;
my $s = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 8080, Listen => 5, ReuseAddr => 1) or die "$!\n";
while (my $c = $s->accept) {
  while (my $line = <$c>) { last if $line =~ /^\r?\n$/ }
  my $list = qx{/usr/lib/postgresql/15/bin/psql -X -A -t -h $ENV{AT} -U reader -c "SELECT json_agg(title) FROM feeds" reader 2>&1};
  my $status = $? == 0 ? 200 : 503;
  print $c "HTTP/1.1 $status X\r\nContent-Length: ", length $list, "\r\n\r\n", $list;
  close $c;
}
"#;

const FEEDS: &str = "CREATE TABLE feeds (title text); INSERT INTO feeds VALUES ('planet'), ('weather');";

fn app(database: serde_json::Value, at: &str) -> AppConfig {
    serde_json::from_value(serde_json::json!({
        "command": ["perl", "server.pl"],
        "kit": "reader",
        "environment": {"AT": at},
        "aliases": ["reader-db"],
        "files": {"server.pl": SERVER},
        "databases": [database],
        "port": 8080,
        "http": [{"path": "/feeds", "json": {"": {"min": 2}, "/0": "planet"}}],
        "start_limit": "5s",
    }))
    .unwrap()
}

fn usual() -> AppConfig {
    let database = serde_json::json!({"postgres": "data/reader.sql", "database": "reader", "user": "reader"});
    app(database, "reader-db")
}

fn examine(runtime: &Arc<dyn Runtime>, dump: impl Into<Vec<u8>>, app: AppConfig) -> Examination {
    let mut tree = Tree::default();
    tree.write("data/reader.sql", dump, at(1, 0.0));
    let mut fleet = Fleet::new("reader");
    fleet.backup(at(2, 0.0), &tree);
    examine_with(fleet, app, Some(Arc::clone(runtime)))
}

#[test]
fn an_application_finds_its_database_by_name() {
    for runtime in runtimes("postgres", &POSTGRES) {
        let dump = String::from_utf8(pg_dump(runtime.as_ref(), "reader", FEEDS, "")).unwrap();
        let good = examine(&runtime, dump.clone(), usual());
        assert_good(&good);
        let gaps: Vec<_> = good.findings.iter().map(|finding| finding.code.as_str()).collect();
        assert_eq!(gaps, ["postgres.role"], "what a recovery lacks is told");
        assert!(good.not_verified.iter().any(|text| text.contains("rights of the role reader")));
        let facts = good.engine.unwrap();
        let kits: Vec<_> = facts.cells[0].software.iter().map(|s| s.kit.clone()).collect();
        assert_eq!(kits, ["reader", "postgres"]);
        assert!(!facts.phases.contains_key(&Phase::Load), "the probe of the engine counts that");
        // One row is lost, a row has a column too many, another dump than that of the application, half of one, and
        // nothing at all.
        let few = dump.replace("weather\n", "");
        let cut = dump.split("weather").next().unwrap().to_owned();
        for (damaged, code) in [
            (few, "app.answer"),
            (dump.replace("weather", "weather\textra"), "postgres.load"),
            (dump.replace("feeds", "other"), "app.answer"),
            (cut, "postgres.truncated"),
            ("no dump at all".to_owned(), "postgres.truncated"),
            (String::new(), "app.data"),
        ] {
            let bad = examine(&runtime, damaged, usual());
            assert_found(&bad, code, Class::Damage);
            assert_eq!(bad.interrupted, None, "{code}");
        }
        let mut other = usual();
        other.databases[0].postgres = Some("gone.sql".into());
        assert_found(&examine(&runtime, dump, other), "app.data", Class::Damage);
    }
}

#[test]
fn a_database_is_found_on_a_socket_and_in_dumps_of_other_forms() {
    for runtime in runtimes("postgres", &POSTGRES) {
        let socket = serde_json::json!({
            "postgres": "reader.sql", "database": "reader", "user": "reader", "listens": "/cell/run/.s.PGSQL.5433",
        });
        let app = app(socket, "/cell/run -p 5433");
        for arguments in ["--format=custom", "--create", "--no-owner"] {
            let dump = pg_dump(runtime.as_ref(), "reader", FEEDS, arguments);
            assert_good(&examine(&runtime, dump, app.clone()));
        }
        let dump = pg_dump(runtime.as_ref(), "elsewhere", FEEDS, "--create");
        let bad = examine(&runtime, dump, app);
        assert_found(&bad, "postgres.missing", Class::Damage);
        assert!(bad.findings[0].seen.contains("elsewhere"), "{:?}", bad.findings);
    }
}
