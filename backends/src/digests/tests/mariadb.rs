use std::path::{Path, PathBuf};
use std::process::Command;

use firedrill_core::error::ErrorKind;
use firedrill_core::finding::{Class, Examination};
use firedrill_core::subject::Subject;
use firedrill_core::watch::Watch;
use jiff::Timestamp;

use super::server::{Server, Writer, succeed};
use super::{Engine, compared, must_be_green, must_find, restored};
use crate::digests::record::client::Client;
use crate::digests::record::{MariadbSource, Output};

const PASSWORD: &str = "M4riadb-Secret";

const SQL: &str = r#"
create database shop character set utf8mb4; use shop;
create table cards(id int primary key auto_increment, name varchar(40), f float, d double, b bit(3), t timestamp null,
  bl blob, g int as (year(t) + 1) stored, j json, e enum('a', 'b'), y year, price decimal(10, 2), p point, u uuid);
insert into cards(name, f, d, b, t, bl, j, e, y, price, p, u) select concat('é', seq), seq / 3, seq / 7, b'101',
  from_unixtime(1700000000 + seq), x'00ff0a5c', '{"a": 1}', 'a', 2020, seq / 3, point(1, 2), uuid() from seq_1_to_2000;
insert into cards(name) values (null), (''), ('N');
create table left_ones(a int, b text); insert into left_ones values (1, 'l'), (2, null), (3, '');
create table right_ones(a int, b text); insert into right_ones values (1, 'r'), (1, 'r'), (3, 'x');
create table latin(x varchar(20) character set latin1); insert into latin values ('é');
create table parts(id int primary key) partition by range (id) (partition p0 values less than (9), partition p1 values less than maxvalue);
insert into parts values (1), (100); create table log_lines(a int); create view v as select 1;
create table versioned(id int primary key, x int) with system versioning; insert into versioned values (1, 1);
update versioned set x = 2; create table `we.ird``x`(`a b` int); insert into `we.ird``x` values (1); create sequence numbers;
"#;

pub(crate) struct Mariadb(Server);

impl Mariadb {
    pub(crate) fn start() -> Option<Self> {
        if !firedrill_testing::have(&["mariadb-install-db", "mariadb", "mariadb-dump"]) {
            return None;
        }
        let prepare = |folder: &Path| {
            let mut install = Command::new("mariadb-install-db");
            install.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
            install.arg(format!("--datadir={}/data", folder.display()));
            // A server that starts removes what it takes for leftovers in the shared temporary folder.
            install.env("TMPDIR", folder);
            install
        };
        let serve = |folder: &Path| {
            let programs = ["/usr/sbin/mariadbd", "/usr/libexec/mariadbd"];
            let program = programs.iter().find(|path| Path::new(path).is_file()).unwrap_or(&"mariadbd");
            let mut server = Command::new(program);
            server.args(["--no-defaults", "--skip-networking", "--innodb-flush-log-at-trx-commit=0"]);
            server.arg(format!("--datadir={}/data", folder.display()));
            server.arg(format!("--socket={}/socket", folder.display()));
            server.arg(format!("--pid-file={}/pid", folder.display()));
            server.env("TMPDIR", folder);
            server
        };
        let ready =
            |folder: &Path| client(folder).args(["-e", "select 1"]).output().unwrap().status.success();
        let server = Self(Server::start(prepare, serve, ready));
        let account = format!(
            "create user backup@localhost identified by '{PASSWORD}'; \
             grant select, reload, process, lock tables, show view, trigger on *.* to backup@localhost"
        );
        server.sql(&account);
        let options = format!(
            "[client]\nuser=backup\npassword={PASSWORD}\nsocket={}\n",
            server.0.path("socket").display()
        );
        std::fs::write(server.options(), options).unwrap();
        Some(server)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.0.folder.path()
    }

    fn options(&self) -> PathBuf {
        self.0.path("options.cnf")
    }

    #[track_caller]
    pub(crate) fn sql(&self, sql: &str) {
        succeed(client(self.0.folder.path()).args(["-e", sql]));
    }

    fn source(&self, command: &str) -> MariadbSource {
        let command =
            command.replace("OPTIONS", &format!("--defaults-extra-file={}", self.options().display()));
        MariadbSource {
            databases: vec!["shop".to_owned()],
            options_file: Some(self.options()),
            command: if command.is_empty() { Vec::new() } else { vec!["sh".into(), "-c".into(), command] },
            ..MariadbSource::default()
        }
    }

    fn compare(&self, subject: &Subject, database: &str) -> Examination {
        // Like the probe: a new client for each question.
        compared(subject, Engine::Mariadb, database, &mut |sql| {
            let mut client = Client::start(&["mariadb"], &Watch::unlimited(), |command| {
                command.args(["--no-defaults", "-BNn", "-u", "root", "-S"]).arg(self.0.path("socket"));
            });
            client.as_mut().unwrap().ask(sql.trim_end_matches(';'))
        })
    }
}

fn client(folder: &Path) -> Command {
    let mut client = Command::new("mariadb");
    client.args(["--no-defaults", "-u", "root", "-S"]).arg(folder.join("socket"));
    client
}

#[test]
fn a_dump_beside_its_digests_is_equal_until_it_is_changed() {
    let Some(server) = Mariadb::start() else { return };
    server.sql(SQL);
    let output = Output::new(&server.0.path(".firedrill-digests.json")).unwrap();
    let dump = server.0.path("dump.sql");
    let folder = server.0.folder.path().to_owned();
    let writer = Writer::start(move || {
        let sql = "insert into cards(name) values ('new'); update cards set d = d + 1 where id = 5";
        succeed(client(&folder).args(["shop", "-e", sql]));
    });
    let script = format!(
        "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' > {0}.args; sleep 0.3; \
         mariadb-dump OPTIONS --single-transaction --ignore-table=shop.log_lines shop > {0}",
        dump.display()
    );
    let mut source = server.source(&script);
    source.excluded = vec!["shop.log_*".to_owned()];
    let (digests, why) = source.record(&output, Timestamp::UNIX_EPOCH).unwrap();
    assert_eq!(why, None);
    assert!(digests.mariadb["shop"].exact);
    let (later, why) = server.source("").record(&output, Timestamp::UNIX_EPOCH).unwrap();
    assert!(why.is_some() && !later.mariadb["shop"].exact);
    assert!(writer.end() > 3);
    assert_ne!(
        later.mariadb["shop"].tables["cards"], digests.mariadb["shop"].tables["cards"],
        "somebody wrote"
    );
    let arguments = std::fs::read_to_string(format!("{}.args", dump.display())).unwrap();
    let text = digests.to_file(None).unwrap();
    assert!(arguments.contains("mariadb") && !arguments.contains(PASSWORD) && !text.contains(PASSWORD));

    // Another server has other settings.
    server.sql("set global time_zone = '+09:00', global sql_mode = 'PAD_CHAR_TO_FULL_LENGTH,ANSI_QUOTES'");
    let load = |database: &str| {
        server.sql(&format!("drop database if exists {database}; create database {database}"));
        let file = std::fs::File::open(&dump).unwrap();
        succeed(client(server.0.folder.path()).arg(database).stdin(file));
    };
    load("copy");
    let content = std::fs::read(&dump).unwrap();
    let (_fixture, subject) = restored(&content, text.as_bytes());
    must_be_green("as dumped", &server.compare(&subject, "copy"));
    let changed = |sql: &str| {
        load("changed");
        server.sql(&format!("use changed; {sql}"));
        server.compare(&subject, "changed")
    };
    for harmless in [
        "optimize table cards",
        "create index n on cards(name)",
        "create table log_more(a int)",
        "create view w as select 1",
    ] {
        must_be_green(harmless, &changed(harmless));
    }
    for (what, places) in [
        ("update cards set bl = x'00ff0a5d' where id = 77", &["cards"][..]),
        ("update cards set name = '' where name is null", &["cards"]),
        ("update cards set b = b'100' where id = 9", &["cards"]),
        ("update cards set d = d + 1e-9 where id = 9", &["cards"]),
        ("update cards set p = point(1, 3) where id = 9", &["cards"]),
        ("delete from right_ones where a = 1 limit 1", &["right_ones"]),
        ("create table extra(a int)", &["extra"]),
        ("drop table latin", &["latin"]),
        ("update latin set x = 'e'", &["latin"]),
        ("alter table left_ones change b c text", &["left_ones"]),
        (
            "rename table left_ones to t, right_ones to left_ones, t to right_ones",
            &["left_ones", "right_ones"],
        ),
        ("delete from parts where id = 1", &["parts"]),
    ] {
        let places: Vec<_> = places.iter().map(|place| format!("backup/dump.sql: {place}")).collect();
        let places: Vec<_> = places.iter().map(String::as_str).collect();
        must_find(what, &changed(what), "digests.table", &places);
    }
    let (_fixture, subject) = restored(&content, later.to_file(None).unwrap().as_bytes());
    let examination = server.compare(&subject, "copy");
    assert!(examination.findings.iter().all(|f| f.class == Class::Anomaly), "{examination:#?}");
    assert!(
        examination.not_verified.iter().any(|text| text.contains("not of the moment")),
        "{examination:#?}"
    );
}

#[test]
fn what_keeps_digests_from_being_exact_is_told() {
    let Some(server) = Mariadb::start() else { return };
    server.sql("create database shop; create table shop.t(a int); create table shop.m(a int) engine=MyISAM");
    let output = Output::new(&server.0.path(".firedrill-digests.json")).unwrap();
    let record = |command: &str| server.source(command).record(&output, Timestamp::UNIX_EPOCH);
    let (digests, why) = record("mariadb-dump OPTIONS --single-transaction shop > /dev/null").unwrap();
    assert_eq!(why, None);
    assert!(digests.mariadb["shop"].tables["t"].exact && !digests.mariadb["shop"].tables["m"].exact);
    let (_, why) = record("mariadb-dump OPTIONS shop > /dev/null").unwrap();
    assert!(why.unwrap().contains("--single-transaction"));
    server.sql("revoke reload on *.* from backup@localhost");
    let (digests, why) = record("mariadb-dump OPTIONS --single-transaction shop > /dev/null").unwrap();
    assert!(why.unwrap().contains("RELOAD") && !digests.mariadb["shop"].exact);
    let mut quiet = server.source("mariadb-dump OPTIONS shop > /dev/null");
    quiet.quiet = true;
    let (digests, why) = quiet.record(&output, Timestamp::UNIX_EPOCH).unwrap();
    assert!(why.is_none() && digests.mariadb["shop"].tables["m"].exact);
    output.write(&digests, None).unwrap();
    let error = record("exit 3 # --single-transaction").unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(!output.path().exists());
}

#[test]
fn a_table_that_somebody_locks_does_not_stop_the_clock() {
    let Some(server) = Mariadb::start() else { return };
    server.sql("create database shop; create table shop.cards(a int)");
    let folder = server.0.folder.path();
    let held = "lock tables shop.cards write; select sleep(120)";
    let mut holder = client(folder).args(["-e", held]).spawn().unwrap();
    let look = "set session lock_wait_timeout = 1; select count(*) from shop.cards";
    let start = std::time::Instant::now();
    while client(folder).args(["-e", look]).output().unwrap().status.success() {
        assert!(start.elapsed() < std::time::Duration::from_secs(60), "nobody locks it");
    }
    let output = Output::new(&server.0.path(".firedrill-digests.json")).unwrap();
    let start = std::time::Instant::now();
    let mut source = server.source("");
    source.watch = Watch::unlimited().within(Some(std::time::Duration::from_secs(2)));
    let error = source.record(&output, Timestamp::UNIX_EPOCH).unwrap_err();
    let took = start.elapsed();
    let _ = holder.kill();
    let _ = holder.wait();
    assert_eq!(error.kind, ErrorKind::Timeout, "{}", error.chain());
    assert!(took < std::time::Duration::from_secs(20), "{took:?}");
}
