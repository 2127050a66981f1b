//! Good backups of all kinds stay green.

use std::io::Write as _;

use super::source::{SHARED, Source};
use super::*;

/// One of nearly everything that a database can hold.
pub(super) const EVERYTHING: &str = r#"
CREATE SCHEMA app;
CREATE EXTENSION pg_trgm;
CREATE DOMAIN app.percent AS integer CHECK (VALUE BETWEEN 0 AND 100);
CREATE TYPE app.mood AS ENUM ('sad', 'ok', 'happy');
CREATE TABLE app.customers (id serial PRIMARY KEY, name text NOT NULL, mood app.mood, discount app.percent,
    tags text[], doc jsonb, lower_name text GENERATED ALWAYS AS (lower(name)) STORED);
CREATE TABLE app.orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer integer NOT NULL REFERENCES app.customers, placed timestamptz NOT NULL, note text);
CREATE TABLE app.events (id bigserial, at timestamptz NOT NULL, what text) PARTITION BY RANGE (at);
CREATE TABLE app.events_1 PARTITION OF app.events FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE app.events_2 PARTITION OF app.events FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
CREATE INDEX ON app.events (at);
CREATE TABLE app.parent (a int); CREATE TABLE app.child (b int) INHERITS (app.parent);
CREATE TABLE "Odd ""Name"" \." ("Column; --" text);
CREATE INDEX orders_note ON app.orders USING gin (note gin_trgm_ops);
CREATE VIEW app.happy AS SELECT * FROM app.customers WHERE mood = 'happy';
CREATE MATERIALIZED VIEW app.totals AS SELECT customer, count(*) AS n FROM app.orders GROUP BY 1;
CREATE RULE shy AS ON DELETE TO app.customers DO INSTEAD (SELECT 1; SELECT 2);
CREATE FUNCTION app.touch() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN -- it's; fine
    NEW.note := coalesce(NEW.note, '') || 'x;'; RETURN NEW; END $f$;
CREATE TRIGGER touch BEFORE INSERT ON app.orders FOR EACH ROW EXECUTE FUNCTION app.touch();
CREATE FUNCTION app.atomic(a int) RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT CASE WHEN a > 0 THEN a ELSE 0 END; END;
CREATE PROCEDURE app.work() LANGUAGE sql AS 'SELECT 1; SELECT 2;';
CREATE AGGREGATE app.total(int) (sfunc = int4pl, stype = int, initcond = '0');
ALTER TABLE app.customers ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON app.customers USING (name = current_user);
CREATE PUBLICATION everything FOR ALL TABLES;
CREATE SUBSCRIPTION elsewhere CONNECTION 'host=192.0.2.1 dbname=x' PUBLICATION p WITH (connect = false);
CREATE EXTENSION postgres_fdw;
CREATE SERVER remote FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '192.0.2.1', dbname 'x');
CREATE FOREIGN TABLE app.far (a int) SERVER remote;
CREATE FUNCTION app.watched() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'ddl'; END $$;
CREATE EVENT TRIGGER watcher ON ddl_command_end EXECUTE FUNCTION app.watched();
COMMENT ON TABLE app.orders IS E'it''s \\ a "comment"; -- with\n/* all */ $$kinds$$';
CREATE STATISTICS app.stats ON id, customer FROM app.orders;
ALTER TABLE app.orders ADD CONSTRAINT later CHECK (id > 0) NOT VALID;
INSERT INTO app.customers (name, mood, discount, tags, doc)
    SELECT E'na\\me\t' || i || E'\n', 'ok', i % 100, ARRAY['a', NULL, 'b"c'], '{"a": "\\ü"}' FROM generate_series(1, 500) i;
INSERT INTO app.orders (customer, placed, note) SELECT 1 + i % 500, '2026-01-01'::timestamptz + i * interval '1 min', 'note ' || i
    FROM generate_series(1, 3000) i;
INSERT INTO app.events (at, what) SELECT '2026-01-01'::timestamptz + i * interval '1 hour', '\.' FROM generate_series(1, 1000) i;
INSERT INTO app.parent VALUES (1), (2); INSERT INTO app.child VALUES (3, 3);
INSERT INTO "Odd ""Name"" \." VALUES ('\.'), (E'\\.\n\\.'), (NULL), ('');
REFRESH MATERIALIZED VIEW app.totals;
SELECT lo_from_bytea(0, decode(repeat('00ff27', 50000), 'hex'));
"#;

pub(super) fn gz(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn everything_that_a_database_can_hold() {
    if !present() {
        return;
    }
    let database = SHARED.database(EVERYTHING);
    for arguments in [
        &[][..],
        &["--create"],
        &["--clean"],
        &["--clean", "--if-exists", "--create"],
        &["--inserts"],
        &["--column-inserts", "--rows-per-insert=7"],
        &["--load-via-partition-root"],
        &["--quote-all-identifiers", "--no-owner"],
        &["--use-set-session-authorization"],
        &["--enable-row-security", "--serializable-deferrable"],
        &["-Fc"],
        &["-Fc", "-Z0"],
        &["-Ft"],
    ] {
        let examination = load("backup/shop.sql", &SHARED.dump(&database, arguments));
        println!("{arguments:?} {:?}", examination.engine.as_ref().unwrap().phases);
        assert_green(&examination);
        let counted = examination.notes.iter().any(|note| note.ends_with(" tables, 5007 rows"));
        assert!(counted, "{arguments:?} {:#?}", examination.notes);
    }
    let examination = load("backup/shop.sql.gz", &gz(&SHARED.dump(&database, &[])));
    assert_green(&examination);
}

#[test]
fn dumps_in_other_encodings() {
    if !present() {
        return;
    }
    for (encoding, sql) in [
        (
            "LATIN1",
            "CREATE TABLE \"t\u{e9}\" (a text DEFAULT '\u{fc}'); INSERT INTO \"t\u{e9}\" VALUES ('gr\u{fc}n'), ('\u{e9}t\u{e9}')",
        ),
        ("SQL_ASCII", "CREATE TABLE t (a text); INSERT INTO t VALUES (E'\\xff\\xfe')"),
        ("EUC_JP", "CREATE TABLE t (a text); INSERT INTO t VALUES ('\u{65e5}\u{672c}\u{8868}')"),
    ] {
        let name = format!("in_{}", encoding.to_lowercase());
        SHARED.sql(
            "postgres",
            &format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'"),
        );
        SHARED.sql(&name, sql);
        for arguments in [&[][..], &["--inserts"], &["-Fc"], &["--create"]] {
            assert_green(&load("backup/db.sql", &SHARED.dump(&name, arguments)));
        }
        if encoding == "EUC_JP" {
            // In this encoding the second byte of a character can be a backslash.
            let dump = SHARED.dump(&name, &["--inserts", "-E", "SJIS"]);
            assert!(dump.windows(2).any(|pair| pair == [0x95, 0x5c]));
            assert_green(&load("backup/db.sql", &dump));
        }
    }
}

#[test]
fn a_dump_of_timescaledb_asks_for_the_extension() {
    if !present() {
        return;
    }
    let head = "--\n-- PostgreSQL database dump\n--\n\n-- Dumped from database version 15.4\n\nSET client_encoding = 'UTF8';\n";
    let hypertable = "CREATE TABLE public.prices (at timestamptz NOT NULL, market text, price numeric);\n\
        CREATE TABLE _timescaledb_internal._hyper_1_1_chunk (CONSTRAINT constraint_1 CHECK (at > '2026-01-01'))\n\
        INHERITS (public.prices);\nCOPY public.prices (at, market, price) FROM stdin;\n\\.\n\
        COPY _timescaledb_internal._hyper_1_1_chunk (at, market, price) FROM stdin;\n2026-01-02 00:00:00+00\tm\t0.5\n\\.\n\
        CREATE TRIGGER ts_insert_blocker BEFORE INSERT ON public.prices FOR EACH ROW EXECUTE FUNCTION \
        _timescaledb_functions.insert_blocker();\n\n--\n-- PostgreSQL database dump complete\n--\n";
    let extension = "CREATE EXTENSION IF NOT EXISTS timescaledb WITH SCHEMA public VERSION '2.13.1';\n\
        COMMENT ON EXTENSION timescaledb IS 'Enables scalable inserts';\n";
    for extension in [extension, ""] {
        let examination = load("backup/polymarket.sql", format!("{head}{extension}{hypertable}").as_bytes());
        assert!(wrong(&examination).is_empty(), "{:#?}", examination.findings);
        let gap = examination.findings.iter().find(|finding| finding.code == "postgres.extension");
        assert!(gap.is_some_and(|gap| gap.expected.contains("timescaledb")), "{examination:#?}");
        assert!(examination.interrupted.is_some_and(|why| why.contains("timescaledb")));
    }
}

#[test]
fn many_tables() {
    tables(2000);
}

#[test]
#[ignore = "soak: takes minutes"]
fn soak_ten_thousand_tables() {
    tables(10_000);
}

fn tables(count: usize) {
    if !present() {
        return;
    }
    // Each transaction keeps a lock on every table that it makes.
    let made: Vec<_> = (0..count.div_ceil(1000)).map(|some| {
        let (first, last) = (some * 1000 + 1, count.min(some * 1000 + 1000));
        format!(
            "DO $$ BEGIN FOR i IN {first}..{last} LOOP EXECUTE format('CREATE TABLE t%s (id serial PRIMARY KEY, a text)', i); \
             END LOOP; END $$"
        )
    }).collect();
    let database = SHARED.database("SELECT 1");
    made.iter().for_each(|sql| SHARED.sql(&database, sql));
    SHARED.sql(&database, "INSERT INTO t7 (a) VALUES ('x')");
    let examination = load("backup/many.sql", &SHARED.dump(&database, &[]));
    println!("{:?}", examination.engine.as_ref().unwrap().phases);
    assert_green(&examination);
    assert!(
        examination.notes.iter().any(|note| note.contains(&format!("{count} tables, 1 rows"))),
        "{:?}",
        examination.notes
    );
}

#[test]
fn a_whole_cluster() {
    if !present() {
        return;
    }
    let source = Source::new(&[("allow_in_place_tablespaces", "on")]);
    source.sql("postgres", "CREATE ROLE postgres SUPERUSER LOGIN PASSWORD 'x'");
    source.sql(
        "postgres",
        "CREATE ROLE app LOGIN; CREATE ROLE readers; GRANT readers TO app WITH ADMIN OPTION",
    );
    source.sql("postgres", "CREATE TABLESPACE fast LOCATION ''");
    source.sql("postgres", "CREATE DATABASE \"odd name\" OWNER app TABLESPACE fast");
    source.sql(
        "postgres",
        "ALTER ROLE app SET search_path = app, public; ALTER DATABASE \"odd name\" SET work_mem = '8MB'",
    );
    source.sql("odd name", EVERYTHING);
    source.sql("odd name", "ALTER TABLE app.orders OWNER TO app; GRANT SELECT ON app.orders TO readers");
    source.sql("postgres", "CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'");
    source.sql("latin", "CREATE TABLE t (a text); INSERT INTO t VALUES (chr(233))");
    for arguments in [&[][..], &["--clean", "--if-exists"], &["--clean"], &["--inserts"]] {
        let mut dump = source.run("pg_dumpall", arguments);
        // The role that our source servers have is that of the engine, too; a real cluster has another.
        let text = String::from_utf8_lossy(&dump);
        if !text.contains("LATIN1") {
            panic!("the dump has no database in LATIN1");
        }
        dump = replaced(&dump, super::super::server::SUPERUSER.as_bytes(), b"someone_else");
        // A tablespace in the place that it really has.
        dump = replaced(&dump, b"LOCATION ''", b"LOCATION '/mnt/fast'");
        let examination = load("var/backups/dump.sql", &dump);
        assert_green(&examination);
        assert!(examination.findings.is_empty(), "{:?}", examination.findings);
        assert!(examination.checked >= 4, "{examination:#?}");
    }
    // Roles alone are a dump of their own, and bring what the dump of a database needs.
    let roles = source.run("pg_dumpall", &["--roles-only"]);
    let roles = replaced(&roles, super::super::server::SUPERUSER.as_bytes(), b"someone_else");
    let dump =
        replaced(&source.dump("odd name", &[]), super::super::server::SUPERUSER.as_bytes(), b"someone_else");
    let (_fixture, subject) = subject(&[("b/roles.sql", &roles), ("b/shop.sql", &dump)]);
    let examination = examine(&subject);
    assert_green(&examination);
    assert!(examination.findings.is_empty(), "{:?}", examination.findings);
    let examination = load("b/shop.sql", &dump);
    assert_green(&examination);
    let gaps: Vec<_> = examination.findings.iter().map(|f| (f.code.as_str(), f.expected.as_str())).collect();
    assert_eq!(gaps.len(), 3, "{gaps:?}");
    assert!(gaps.iter().all(|(code, _)| *code == "postgres.role"), "{gaps:?}");
}

fn replaced(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut done = Vec::new();
    let mut rest = text;
    while let Some(at) = memchr::memmem::find(rest, from) {
        done.extend_from_slice(&rest[..at]);
        done.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    done.extend_from_slice(rest);
    done
}

#[test]
fn a_dump_in_directory_format() {
    if !present() {
        return;
    }
    let database = SHARED.database(EVERYTHING);
    let folder = format!("/cell/{database}.dir");
    SHARED.run("pg_dump", &["-Fd", "-f", &folder, &database]);
    let fixture = Fixture::new();
    let to = fixture.root.join("backup/shop");
    std::fs::create_dir_all(&to).unwrap();
    for entry in std::fs::read_dir(SHARED.outside(&format!("{database}.dir"))).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
    let mut subject = fixture.subject();
    subject.runtime = crate::runtime::from_config(&RuntimeConfig::default());
    let examination = examine(&subject);
    assert_green(&examination);
    // Without the data of one table.
    let data = std::fs::read_dir(&to)
        .unwrap()
        .map(|e| e.unwrap().path())
        .find(|p| p.extension().is_some_and(|e| e == "gz"));
    std::fs::remove_file(data.unwrap()).unwrap();
    let mut subject = fixture.subject();
    subject.runtime = crate::runtime::from_config(&RuntimeConfig::default());
    assert!(!is_verified(&examine(&subject)));
}
