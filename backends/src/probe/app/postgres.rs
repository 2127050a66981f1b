//! An application on PostgreSQL: its server is a step before it, and the dump another one.

use std::sync::Arc;

use firedrill_core::config::runtime::RuntimeConfig;
use firedrill_core::config::trials::AppConfig;
use firedrill_core::finding::{Class, Examination};

use super::tests::examine_with;
use crate::probe::fleet::{Fleet, Tree, assert_found, assert_green, at};
use crate::runtime::process::ProcessRuntime;

/// A small application: it lists what psql finds, and is in bad health without its database.
const SERVER: &str = r#"
use IO::Socket::INET;
my $s = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 8080, Listen => 5, ReuseAddr => 1) or die "$!\n";
while (my $c = $s->accept) {
  while (my $line = <$c>) { last if $line =~ /^\r?\n$/ }
  my $list = qx{$ENV{PSQL} -X -A -t -h reader-db -U reader -c "SELECT json_agg(title) FROM feeds" reader 2>&1};
  my $status = $? == 0 ? 200 : 503;
  print $c "HTTP/1.1 $status X\r\nContent-Length: ", length $list, "\r\n\r\n", $list;
  close $c;
}
"#;

const DUMP: &str = "CREATE TABLE feeds (title text);\nCOPY feeds (title) FROM stdin;\nplanet\nweather\n\\.\n";

fn skipped() -> bool {
    let there = std::path::Path::new("/usr/lib/postgresql/15/bin/initdb").exists();
    if !there {
        use std::io::Write as _;
        let why = "SKIPPED: PostgreSQL 15 is not installed";
        writeln!(std::io::stderr(), "{why}").unwrap();
        assert!(std::env::var_os("FIREDRILL_TEST_NO_SKIP").is_none(), "{why}");
    }
    !there
}

fn app() -> AppConfig {
    let listen = "listen_addresses=127.0.0.1";
    serde_json::from_value(serde_json::json!({
        "command": ["perl", "server.pl"],
        "environment": {"PSQL": "/usr/lib/postgresql/15/bin/psql"},
        "aliases": ["reader-db"],
        "data": {"reader.sql": "/cell/reader.sql"},
        "files": {"server.pl": SERVER},
        "before": [
            {"kit": "postgres", "run": ["initdb", "-D", "/cell/pg", "-U", "reader", "--auth=trust", "--no-sync"]},
            {"kit": "postgres", "start": ["postgres", "-D", "/cell/pg", "-k", "/cell", "-c", listen],
             "listens": "/cell/.s.PGSQL.5432"},
            {"kit": "postgres", "run": ["createdb", "-h", "/cell", "-U", "reader", "reader"]},
            {"kit": "postgres", "run": ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", "/cell", "-U", "reader",
             "-f", "/cell/reader.sql", "reader"]},
        ],
        "port": 8080,
        "http": [{"path": "/feeds", "json": {"": {"min": 2}, "/0": "planet"}}],
        "start_limit": "5s",
    }))
    .unwrap()
}

fn examine(dump: &str) -> Examination {
    let mut tree = Tree::default();
    tree.write("data/reader.sql", dump, at(1, 0.0));
    let mut fleet = Fleet::new("reader");
    fleet.backup(at(2, 0.0), &tree);
    examine_with(fleet, app(), Some(Arc::new(ProcessRuntime::new(&RuntimeConfig::default()))))
}

#[test]
fn an_application_finds_its_database_by_name() {
    if skipped() {
        return;
    }
    let good = examine(DUMP);
    assert_green(&good);
    let kits: Vec<_> = good.engine.unwrap().cells[0].software.iter().map(|s| s.kit.clone()).collect();
    assert_eq!(kits, ["perl", "postgres"]);
    // One row is lost, a row has a column too many, and another dump than that of the application.
    assert_found(&examine(&DUMP.replace("weather\n", "")), "app.answer", Class::Damage);
    assert_found(&examine(&DUMP.replace("weather", "weather\textra")), "app.start", Class::Damage);
    assert_found(&examine("CREATE TABLE other ();"), "app.answer", Class::Damage);
}
