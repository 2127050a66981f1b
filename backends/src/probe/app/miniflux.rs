//! A real application on PostgreSQL: the feed reader Miniflux, on a dump of a database that it made itself.

use std::sync::Arc;

use firedrill_core::cell::Runtime;
use firedrill_core::config::trials::AppConfig;
use firedrill_core::finding::{Class, Examination};

use super::tests::examine_with;
use crate::probe::fleet::{Fleet, Tree, assert_found, at};
use crate::probe::made::{assert_good, containers, say, start_postgres};

const PROGRAMS: [&str; 6] = ["miniflux", "initdb", "pg_ctl", "psql", "createdb", "pg_dump"];

/// `pg_dump` of a database that Miniflux made, with a person and a shelf of hers.
fn source(runtime: &dyn Runtime) -> String {
    let script = format!(
        "{}psql -q -U postgres -c 'CREATE EXTENSION IF NOT EXISTS hstore' miniflux\n\
         export DATABASE_URL='host=/cell user=miniflux dbname=miniflux sslmode=disable'\n\
         miniflux -migrate\n\
         export CREATE_ADMIN=1 ADMIN_USERNAME=gardener ADMIN_PASSWORD=drill-drill LISTEN_ADDR=127.0.0.1:8080\n\
         miniflux &\n\
         for n in {{1..100}}; do if curl -sf http://127.0.0.1:8080/healthcheck; then break; fi; sleep 0.1; done\n\
         psql -q -U miniflux -c \"INSERT INTO categories (user_id, title) SELECT id, 'Beehives' FROM users\" miniflux\n\
         pg_dump -U postgres miniflux >&3\n",
        start_postgres("miniflux")
    );
    String::from_utf8(say(runtime, "miniflux", &PROGRAMS, &script)).unwrap()
}

fn app() -> AppConfig {
    serde_json::from_value(serde_json::json!({
        "command": ["miniflux"],
        "environment": {
            "DATABASE_URL": "host=reader-db user=miniflux dbname=miniflux sslmode=disable",
            "LISTEN_ADDR": "127.0.0.1:8080",
        },
        "aliases": ["reader-db"],
        "databases": [{"postgres": "srv/reader.sql", "database": "miniflux", "user": "miniflux"}],
        "port": 8080,
        "http": [
            {"path": "/healthcheck", "body": "^OK$"},
            {
                "path": "/v1/categories",
                "headers": {"Authorization": "Basic Z2FyZGVuZXI6ZHJpbGwtZHJpbGw="},
                "body": "\"Beehives\"",
            },
        ],
        "start_limit": "20s",
    }))
    .unwrap()
}

fn examine(runtime: &Arc<dyn Runtime>, dump: &str) -> Examination {
    let mut tree = Tree::default();
    tree.write("srv/reader.sql", dump, at(1, 0.0));
    let mut fleet = Fleet::new("reader");
    fleet.backup(at(2, 0.0), &tree);
    examine_with(fleet, app(), Some(Arc::clone(runtime)))
}

#[test]
fn miniflux_answers_from_a_restored_dump_and_not_from_a_damaged_one() {
    let Some(runtime) = containers("miniflux", &PROGRAMS) else { return };
    let dump = source(runtime.as_ref());
    let good = examine(&runtime, &dump);
    assert_good(&good);
    assert_eq!(good.checked, 2);
    let kits: Vec<_> = good.engine.unwrap().cells[0].software.iter().map(|s| s.kit.clone()).collect();
    assert_eq!(kits, ["miniflux", "postgres"]);

    let line = dump.lines().find(|line| line.contains("Beehives")).unwrap();
    let bad = examine(&runtime, &dump.replace(&format!("{line}\n"), ""));
    assert_found(&bad, "app.answer", Class::Damage);
    assert_eq!(
        (bad.findings.last().unwrap().location.as_str(), bad.interrupted),
        ("GET /v1/categories", None)
    );
    // The rest of a database whose schema is not all there.
    let bad = examine(&runtime, dump.split("COPY public.users").next().unwrap());
    assert_found(&bad, "postgres.truncated", Class::Damage);
    assert_eq!(bad.interrupted, None);
    // Whole for PostgreSQL, and no database of Miniflux any more.
    let version = dump.split("COPY public.schema_version").nth(1).unwrap().lines().nth(1).unwrap();
    let old = dump.replace(&format!("stdin;\n{version}\n\\."), "stdin;\n\\.");
    assert!(old != dump);
    let bad = examine(&runtime, &old);
    assert!(bad.findings.iter().any(|f| f.code.starts_with("app.")), "{bad:#?}");
}
