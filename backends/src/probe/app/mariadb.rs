//! An application on MariaDB, in each runtime: its database comes from a dump.

use std::sync::Arc;

use firedrill_core::cell::Runtime;
use firedrill_core::config::trials::AppConfig;
use firedrill_core::finding::{Class, Examination};

use super::tests::examine_with;
use crate::probe::fleet::{Fleet, Tree, assert_found, at};
use crate::probe::made::{MARIADB, assert_good, mariadb_dump, runtimes};

/// A small application: it lists what the client finds, and is in bad health without its database.
const SERVER: &str = r#"
use IO::Socket::INET;
my $s = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 8080, Listen => 5, ReuseAddr => 1) or die "$!\n";
while (my $c = $s->accept) {
  while (my $line = <$c>) { last if $line =~ /^\r?\n$/ }
  my $list = qx{mariadb --no-defaults -N -B $ENV{AT} --user=clerk --password=drill -e "SELECT json_arrayagg(name) FROM orders" shop 2>&1};
  my $status = $? == 0 ? 200 : 503;
  print $c "HTTP/1.1 $status X\r\nContent-Length: ", length $list, "\r\n\r\n", $list;
  close $c;
}
"#;

const ORDERS: &str = "create table orders (id int primary key, name varchar(20)); insert into orders values (1, 'tea'), (2, 'milk');";

fn app(listens: Option<&str>, at: &str) -> AppConfig {
    let mut app: AppConfig = serde_json::from_value(serde_json::json!({
        "command": ["perl", "server.pl"],
        "kit": "shop",
        "environment": {"AT": at},
        "aliases": ["shop-db"],
        "files": {"server.pl": SERVER},
        "databases": [{"mariadb": "data/shop.sql", "database": "shop", "user": "clerk", "password": "drill"}],
        "port": 8080,
        "http": [{"path": "/orders", "json": {"": {"min": 2}, "/0": "tea"}}],
        "start_limit": "5s",
    }))
    .unwrap();
    app.databases[0].listens = listens.map(str::to_owned);
    app
}

fn examine(runtime: &Arc<dyn Runtime>, dump: impl Into<Vec<u8>>, app: AppConfig) -> Examination {
    let mut tree = Tree::default();
    tree.write("data/shop.sql", dump, at(1, 0.0));
    let mut fleet = Fleet::new("shop");
    fleet.backup(at(2, 0.0), &tree);
    examine_with(fleet, app, Some(Arc::clone(runtime)))
}

#[test]
fn an_application_finds_its_database_by_name_and_on_a_socket() {
    for runtime in runtimes("mariadb", &MARIADB) {
        let dump = String::from_utf8(mariadb_dump(runtime.as_ref(), "shop", ORDERS, "")).unwrap();
        let by_name = || app(None, "--host=shop-db");
        for app in [by_name(), app(Some("/cell/run/mysqld.sock"), "--socket=/cell/run/mysqld.sock")] {
            let good = examine(&runtime, dump.clone(), app);
            assert_good(&good);
            assert!(good.not_verified.iter().any(|text| text.contains("rights of the account clerk")));
        }
        for (damaged, code) in [
            (dump.replace(",\n(2,'milk')", ""), "app.answer"),
            (dump.replace("(2,'milk')", "(1,'milk')"), "mariadb.load"),
            (dump.replace("`orders`", "`others`"), "app.answer"),
            (String::new(), "app.data"),
        ] {
            assert!(damaged != dump, "{code}: {dump}");
            let bad = examine(&runtime, damaged, by_name());
            assert_found(&bad, code, Class::Damage);
            assert_eq!(bad.interrupted, None, "{code}");
        }
        // That it is cut is what the structure probe files.
        let cut = examine(&runtime, dump.split("milk").next().unwrap(), by_name());
        assert!(cut.interrupted.is_some_and(|why| why.contains("does not end as a dump ends")));
    }
}
