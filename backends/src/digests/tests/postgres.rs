use std::path::{Path, PathBuf};
use std::process::Command;

use firedrill_core::digests::Sealed;
use firedrill_core::error::ErrorKind;
use firedrill_core::finding::{Class, Examination};
use firedrill_core::subject::Subject;
use firedrill_core::watch::Watch;
use jiff::Timestamp;

use super::server::{Server, Writer, succeed};
use super::{Engine, compared, must_be_green, must_find, restored};
use crate::digests::record::client::Client;
use crate::digests::record::{Output, PostgresSource};

pub(crate) const PASSWORD: &str = "Sn4pshot-Secret";

const SQL: &str = r#"
create table cards(id bigserial primary key, name text, price numeric(10,2), f double precision, t timestamptz,
  b bytea, g bigint generated always as (id * 2) stored, j jsonb, m money, i interval, r regclass default 'pg_class');
insert into cards(name, price, f, t, b, j, m, i) select 'n' || x, x / 3.0, x / 7.0, now() - x * interval '1 hour',
  '\x00ff5c', '{"a": 1}', x, x * interval '1 hour 3 days' from generate_series(1, 3000) x;
alter table cards add gone int; alter table cards drop gone; alter table cards add a_late text default 'late';
create table left_ones(a int, b text); insert into left_ones values (1, 'l'), (2, null), (3, '');
create table right_ones(a int, b text); insert into right_ones values (1, 'r'), (1, 'r'), (3, 'x');
create schema "we.ird"; create table "we.ird"."t""x"("h" text, "a b" int); insert into "we.ird"."t""x" values ('é', 1);
create table parts(a int, b text) partition by range (a); create table parts_1 partition of parts for values from (0) to (9);
insert into parts values (1, 'x'); create table base(a int); create table heir(z int) inherits (base);
insert into heir values (1, 2); alter table base add c text; insert into base values (7, 'c');
create table empty(); create table log_lines(a int); insert into log_lines values (1);
create materialized view summary as select count(*) c from cards; create view v as select 1;
create sequence down increment -1; select nextval('down'); create type mood as enum ('sad', 'ok');
create table moods(m mood, a int[], p point); insert into moods values ('ok', '{1,NULL}', '(1,2)');
"#;

pub(crate) struct Postgres(Server);

impl Postgres {
    pub(crate) fn start() -> Option<Self> {
        let found = ["15", "16", "17", "18", "14", "13"]
            .map(|v| PathBuf::from(format!("/usr/lib/postgresql/{v}/bin")));
        let bin = found.into_iter().find(|folder| folder.join("postgres").is_file()).unwrap_or_default();
        if !firedrill_testing::have(&[bin.join("postgres"), "psql".into(), "pg_dump".into()]) {
            return None;
        }
        let prepare = |folder: &Path| {
            std::fs::write(folder.join("password"), PASSWORD).unwrap();
            let mut initdb = Command::new(bin.join("initdb"));
            initdb.args([
                "-D",
                "data",
                "-U",
                "admin",
                "--auth=scram-sha-256",
                "--pwfile=password",
                "-E",
                "UTF8",
            ]);
            initdb.arg("--locale=C").arg("--no-sync");
            initdb
        };
        let serve = |folder: &Path| {
            let mut postgres = Command::new(bin.join("postgres"));
            postgres.args(["-D", "data", "-c", "listen_addresses=", "-c", "fsync=off", "-k"]).arg(folder);
            postgres
        };
        let ready = |folder: &Path| {
            psql(folder, "postgres").args(["-c", "select 1"]).output().unwrap().status.success()
        };
        Some(Self(Server::start(prepare, serve, ready)))
    }

    pub(crate) fn folder(&self) -> &Path {
        self.0.folder.path()
    }

    #[track_caller]
    pub(crate) fn sql(&self, database: &str, sql: &str) {
        succeed(psql(self.folder(), database).args(["-v", "ON_ERROR_STOP=1", "-c", sql]));
    }

    fn source(&self, database: &str, command: &[&str]) -> PostgresSource {
        PostgresSource {
            database: Some(database.to_owned()),
            environment: environment(self.folder()).map(|(name, value)| (name.to_owned(), value)).to_vec(),
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            ..PostgresSource::default()
        }
    }

    fn output(&self) -> Output {
        Output::new(&self.0.path(".firedrill-digests.json")).unwrap()
    }

    /// What the probe would say of a loaded database.
    fn compare(&self, subject: &Subject, database: &str) -> Examination {
        let mut client = Client::start(&["psql"], &Watch::unlimited(), |command| {
            command.args(["-X", "-q", "-A", "-t", "-d", database]).envs(environment(self.folder()));
        })
        .unwrap();
        compared(subject, Engine::Postgres, database, &mut |sql| client.ask(sql))
    }
}

fn environment(folder: &Path) -> [(&'static str, String); 3] {
    let folder = folder.display().to_string();
    [("PGHOST", folder), ("PGUSER", "admin".to_owned()), ("PGPASSWORD", PASSWORD.to_owned())]
}

fn psql(folder: &Path, database: &str) -> Command {
    let mut psql = Command::new("psql");
    psql.args(["-X", "-q", "-d", database]).envs(environment(folder));
    psql
}

#[test]
fn a_dump_beside_its_digests_is_equal_until_it_is_changed() {
    let Some(server) = Postgres::start() else { return };
    server.sql("postgres", "create database shop");
    server.sql("postgres", "alter role admin set datestyle = 'SQL, DMY'");
    server.sql("postgres", "alter database shop set bytea_output = 'escape'");
    server.sql("shop", SQL);
    server.sql("shop", "select lo_from_bytea(4711, 'hello')");

    // Somebody writes while the digests are recorded and the dump is made.
    let folder = server.folder().to_owned();
    let writer = Writer::start(move || {
        let sql = "insert into cards(name) values ('new'); update cards set name = name || 'x' where id = 5; \
                   delete from left_ones where a > 3; insert into left_ones values (9, 'z'); truncate log_lines";
        succeed(psql(&folder, "shop").args(["-c", sql]));
    });
    std::thread::sleep(std::time::Duration::from_millis(300));
    let dump = server.0.path("dump.sql").display().to_string();
    // The command takes its time, and then looks at the arguments of every process.
    let script = format!(
        "sleep 1; cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' > {dump}.args; \
         pg_dump --snapshot={{snapshot}} --exclude-table-data=public.log_lines -f {dump} shop"
    );
    let mut source = server.source("shop", &["sh", "-c", &script]);
    source.excluded = vec!["public.log_*".to_owned()];
    let digests = source.record(&server.output(), Timestamp::UNIX_EPOCH).unwrap();
    assert!(writer.end() > 3);
    let arguments = std::fs::read_to_string(format!("{dump}.args")).unwrap();
    assert!(arguments.contains("psql") && !arguments.contains(PASSWORD));
    let text = digests.to_file(None).unwrap();
    assert!(!text.contains(PASSWORD));
    assert!(
        digests.postgres["shop"].exact && !digests.postgres["shop"].tables.contains_key("public.log_lines")
    );
    let later = server.source("shop", &[]).record(&server.output(), Timestamp::UNIX_EPOCH).unwrap();
    assert!(!later.postgres["shop"].exact);
    assert_ne!(later.postgres["shop"].tables, digests.postgres["shop"].tables, "somebody wrote");

    // A server with other settings loads it.
    server.sql("postgres", "create database copy template template0");
    for setting in [
        "timezone = 'Asia/Tokyo'",
        "datestyle = 'German'",
        "intervalstyle = 'sql_standard'",
        "extra_float_digits = -3",
        "bytea_output = 'escape'",
        "search_path = 'pg_catalog'",
    ] {
        server.sql("postgres", &format!("alter database copy set {setting}"));
    }
    succeed(psql(server.folder(), "copy").args(["-v", "ON_ERROR_STOP=1", "-f", &dump]));
    let dump = std::fs::read(&dump).unwrap();
    let (_fixture, subject) = restored(&dump, text.as_bytes());
    must_be_green("as dumped", &server.compare(&subject, "copy"));

    let changed = |sql: &str| {
        server.sql("postgres", "drop database if exists changed");
        server.sql("postgres", "create database changed template copy");
        server.sql("changed", sql);
        server.compare(&subject, "changed")
    };
    for harmless in [
        "create index on cards(name); cluster cards using cards_pkey; vacuum",
        "select nextval('cards_id_seq'), nextval('down')",
        "create view another as select 1; create table log_more(a int)",
        "insert into log_lines values (5)",
        "set session_replication_role = replica; update cards set name = name",
    ] {
        for sql in harmless.split(';') {
            must_be_green(harmless, &changed(sql.trim()));
        }
    }
    let table = "digests.table";
    for (what, code, places) in [
        ("update cards set b = '\\x00ff5d' where id = 77", table, &["public.cards"][..]),
        ("update cards set name = name || ' ' where id = 3000", table, &["public.cards"]),
        ("update cards set t = t + interval '1 microsecond' where id = 9", table, &["public.cards"]),
        ("update left_ones set b = '' where b is null", table, &["public.left_ones"]),
        (
            "delete from right_ones where ctid in (select min(ctid) from right_ones where a = 1)",
            table,
            &["public.right_ones"],
        ),
        ("insert into empty default values", table, &["public.empty"]),
        ("create table extra(a int)", table, &["public.extra"]),
        ("drop table moods", table, &["public.moods"]),
        ("alter table moods rename column m to n", table, &["public.moods"]),
        (
            "alter table left_ones rename to t; alter table right_ones rename to left_ones; alter table t rename to right_ones",
            table,
            &["public.left_ones", "public.right_ones"],
        ),
        ("update heir set z = 3", table, &["public.heir"]),
        ("delete from parts", table, &["public.parts_1"]),
        ("select lo_put(4711, 0, 'J')", table, &["large objects"]),
        ("select lo_unlink(4711)", table, &["large objects"]),
        ("drop materialized view summary", table, &["public.summary"]),
        ("select setval('cards_id_seq', 1)", "digests.sequence", &["public.cards_id_seq"]),
        ("drop sequence down", "digests.sequence", &["public.down"]),
    ] {
        let places: Vec<_> = places.iter().map(|place| format!("backup/dump.sql: {place}")).collect();
        let places: Vec<_> = places.iter().map(String::as_str).collect();
        must_find(what, &changed(what), code, &places);
    }
    // A materialized view is made anew by each restore.
    let stale = changed(
        "delete from moods where false; insert into log_lines values (1); refresh materialized view summary",
    );
    must_be_green("refreshed", &stale);

    // Digests that are not of the same moment prove nothing of rows, and do not accuse.
    let (_fixture, subject_later) = restored(&dump, later.to_file(None).unwrap().as_bytes());
    let examination = server.compare(&subject_later, "copy");
    assert!(examination.findings.iter().all(|f| f.class == Class::Anomaly), "{examination:#?}");
    assert!(
        examination.not_verified.iter().any(|text| text.contains("not of the moment")),
        "{examination:#?}"
    );

    // A database that was promised and never loaded is not green.
    let mut two = digests.clone();
    two.postgres.insert("blog".to_owned(), two.postgres["shop"].clone());
    let (_fixture, subject) = restored(&dump, two.to_file(None).unwrap().as_bytes());
    assert!(server.compare(&subject, "copy").interrupted.unwrap().contains("blog"));
}

#[test]
fn a_command_that_fails_leaves_no_digests() {
    let Some(server) = Postgres::start() else { return };
    server.sql("postgres", "create table t(a int)");
    let output = server.output();
    let record = |command: &[&str]| server.source("postgres", command).record(&output, Timestamp::UNIX_EPOCH);
    let good = record(&["sh", "-c", "echo {snapshot} > /dev/null"]).unwrap();
    output.write(&good, None).unwrap();
    assert_eq!(Sealed::parse(&std::fs::read(output.path()).unwrap()).unwrap().digests, good);
    for broken in
        [&["sh", "-c", "exit 3 # {snapshot}"][..], &["pg_dump", "--snapshot={snapshot}", "no_such_database"]]
    {
        output.write(&good, None).unwrap();
        let error = record(broken).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable);
        assert!(error.chain().contains("the command that makes the dump failed"), "{}", error.chain());
        assert!(!output.path().exists(), "those of before belong to another dump");
    }
    // A snapshot is not used, an address in the place of a name, a wrong password, a program that is not there.
    assert_eq!(record(&["pg_dump", "shop"]).unwrap_err().kind, ErrorKind::Usage);
    assert_eq!(record(&["no-such-program", "{snapshot}"]).unwrap_err().kind, ErrorKind::Usage);
    let mut source = server.source(&format!("postgresql://admin:{PASSWORD}@host/x"), &[]);
    let error = source.record(&output, Timestamp::UNIX_EPOCH).unwrap_err();
    assert!(error.kind == ErrorKind::Usage && !error.chain().contains(PASSWORD));
    source = server.source("postgres", &[]);
    source.environment.push(("PGPASSWORD".to_owned(), "Wr0ng-Secret".to_owned()));
    let error = source.record(&output, Timestamp::UNIX_EPOCH).unwrap_err();
    assert!(error.chain().contains("password authentication failed") && !error.chain().contains("Wr0ng"));
    assert!(!output.path().exists());
}

#[test]
fn a_table_that_somebody_locks_does_not_stop_the_clock() {
    let Some(server) = Postgres::start() else { return };
    server.sql("postgres", "create database shop");
    server.sql("shop", "create table cards(a int)");
    let held = "begin; lock table cards in access exclusive mode; select pg_sleep(120)";
    let mut holder = psql(server.folder(), "shop").args(["-c", held]).spawn().unwrap();
    let look = "set lock_timeout = '100ms'; select count(*) from cards";
    let start = std::time::Instant::now();
    while psql(server.folder(), "shop")
        .args(["-v", "ON_ERROR_STOP=1", "-c", look])
        .output()
        .unwrap()
        .status
        .success()
    {
        assert!(start.elapsed() < std::time::Duration::from_secs(60), "nobody locks it");
    }
    let start = std::time::Instant::now();
    let mut source = server.source("shop", &[]);
    source.watch = Watch::unlimited().within(Some(std::time::Duration::from_secs(2)));
    let error = source.record(&server.output(), Timestamp::UNIX_EPOCH).unwrap_err();
    let took = start.elapsed();
    let _ = holder.kill();
    let _ = holder.wait();
    assert_eq!(error.kind, ErrorKind::Timeout, "{}", error.chain());
    assert!(took < std::time::Duration::from_secs(20), "{took:?}");
}
