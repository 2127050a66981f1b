//! Backups of one small fleet of databases, made once by real tools.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// What was made.
pub(super) struct Made {
    /// `mariadb-dump shop --routines --events`.
    pub(super) one: Vec<u8>,
    /// The same with `--hex-blob --master-data`-like extras.
    pub(super) hex: Vec<u8>,
    /// `mariadb-dump --databases ..`.
    pub(super) databases: Vec<u8>,
    /// `mariadb-dump --all-databases`.
    pub(super) all: Vec<u8>,
    /// `mariadb-dump --system=users`.
    pub(super) users: Vec<u8>,
    /// `mariadb-backup --stream=xbstream`.
    pub(super) stream: Vec<u8>,
    /// The folder of `mariadb-backup --target-dir`.
    pub(super) folder: Files,
    /// The first one, prepared.
    pub(super) prepared: Files,
    /// The folder of an incremental backup on top of it, with one more row in `child`.
    pub(super) increment: Files,
    /// The data folder while the server ran, with writes under way.
    pub(super) live: Files,
    /// The data folder after an orderly end.
    pub(super) stopped: Files,
}

/// Files below a folder.
pub(super) type Files = Vec<(String, Vec<u8>)>;

/// The backups.
pub(super) static MADE: LazyLock<Made> = LazyLock::new(make);

const SQL: &str = r#"
create database shop character set utf8mb4; use shop;
create table orders(id int primary key auto_increment, name varchar(100), body text, b blob,
  created_at datetime default '2026-01-05 02:00:00', q int default 3, g int as (q*2) virtual, h int as (q*3) stored,
  key(name), fulltext(body)) engine=innodb;
insert into orders(name,body,b) select concat('n',seq,"'\\;--\n/*"), repeat(concat('w',seq,' '),20), unhex(sha2(seq,256))
  from seq_1_to_4000;
create table aria_table(id int, x varchar(20)) engine=aria; insert into aria_table values (1,'a'),(2,'b\nc\td\\');
create table myisam_table(id int, x varchar(20)) engine=myisam; insert into myisam_table values (1,'a'),(2,NULL),(3,'');
create table parts(id int primary key, x int) partition by range(id)
  (partition p0 values less than (100), partition p1 values less than maxvalue);
insert into parts select seq, seq from seq_1_to_300;
create table versioned(id int primary key, x int) with system versioning;
insert into versioned values(1,1),(2,1); update versioned set x=2;
create sequence numbers start with 7; select nextval(numbers);
create table latin(x varchar(20) character set latin1, y varchar(20) character set utf8mb3); insert into latin values ('é','ü;');
create table child(id int primary key, oid int, foreign key(oid) references orders(id)); insert into child values (1,1);
create table empty_table(id int);
create view v1 as select * from child;
create user ghost@'%'; grant all on *.* to ghost@'%';
create definer=ghost@'%' view v2 as select id from orders;
create user app@'%' identified by 'a secret'; grant select on shop.* to app@'%'; create role reader;
delimiter //
create procedure pr() begin select 1; select ';' into outfile '/nowhere'; end//
create trigger tr before insert on child for each row begin set new.oid=coalesce(new.oid,1); end//
create event ev on schedule every 1 day do begin delete from child; end//
create function f1() returns int deterministic return 1//
delimiter ;
create database `we.ird``x`; create table `we.ird``x`.`t.a``b`(id int); insert into `we.ird``x`.`t.a``b` values(7);
"#;

fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    command.arg("--no-defaults").stdin(Stdio::null()).stderr(Stdio::null());
    command
}

/// The folder of a backup with encrypted tables; none where the plugin is not installed.
pub(super) static ENCRYPTED: LazyLock<Option<Files>> = LazyLock::new(encrypted);

fn encrypted() -> Option<Files> {
    let place = tempfile::tempdir().unwrap();
    let keys = place.path().join("keys");
    std::fs::write(&keys, format!("1;{}\n", "ab".repeat(32))).unwrap();
    let plugin = [
        "--plugin-load-add=file_key_management".to_owned(),
        format!("--file-key-management-filename={}", keys.display()),
    ];
    let data = place.path().join("data");
    install(&data);
    let server = Server::start_with(&data, &plugin);
    let loaded = server
        .client("mariadb")
        .args([
            "-Ne",
            "select count(*) from information_schema.plugins where plugin_name='file_key_management'",
        ])
        .output()
        .unwrap();
    if loaded.stdout != b"1\n" {
        firedrill_testing::skip("the plugin file_key_management is not installed");
        return None;
    }
    server.run("create database a; create table a.t(x int) engine=innodb encrypted=yes; insert into a.t values (1),(2);");
    let target = place.path().join("target");
    server.backup(&[&format!("--target-dir={}", target.display())]);
    Some(files(&target))
}

/// A server for making backups. It ends with the test.
struct Server {
    child: Child,
    data: PathBuf,
}

impl Server {
    fn start(data: &Path) -> Self {
        Self::start_with(data, &[])
    }

    fn start_with(data: &Path, more: &[String]) -> Self {
        let child = program("/usr/sbin/mariadbd")
            .args([
                "--user=root",
                "--skip-networking",
                "--innodb-flush-log-at-trx-commit=0",
                "--plugin-maturity=unknown",
            ])
            .args(["--innodb-log-file-size=8M", "--log-bin=bin", "--server-id=7", "--performance-schema=OFF"])
            .arg(format!("--datadir={}", data.display()))
            .arg(format!("--socket={}", data.join("s").display()))
            .args(more)
            .arg(format!("--pid-file={}", data.join("pid").display()))
            // A server that starts removes what it takes for leftovers in the shared temporary folder.
            .env("TMPDIR", data)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { child, data: data.to_owned() };
        let start = Instant::now();
        while !server
            .client("mariadb")
            .args(["-e", "select 1"])
            .stdout(Stdio::null())
            .status()
            .unwrap()
            .success()
        {
            assert!(start.elapsed() < Duration::from_secs(60), "the server does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    fn client(&self, name: &str) -> Command {
        let mut command = program(name);
        command.arg(format!("--socket={}", self.data.join("s").display())).arg("--user=root");
        command
    }

    fn run(&self, sql: &str) {
        let script = self.data.join("script");
        std::fs::write(&script, sql).unwrap();
        let done = self
            .client("mariadb")
            .stdin(std::fs::File::open(&script).unwrap())
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        std::fs::remove_file(script).unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    fn dump(&self, arguments: &[&str]) -> Vec<u8> {
        let done = self.client("mariadb-dump").args(arguments).stderr(Stdio::piped()).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        done.stdout
    }

    fn backup(&self, arguments: &[&str]) -> Vec<u8> {
        let done = self
            .client("mariadb-backup")
            .arg("--backup")
            .arg(format!("--datadir={}", self.data.display()))
            .args(arguments)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        done.stdout
    }

    fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn install(data: &Path) {
    let installed = program("mariadb-install-db")
        .args([
            "--user=root",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--skip-name-resolve",
        ])
        .arg(format!("--datadir={}", data.display()))
        .env("TMPDIR", data.parent().unwrap())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(installed.success());
}

fn make() -> Made {
    let place = tempfile::tempdir().unwrap();
    let data = place.path().join("data");
    install(&data);
    let server = Server::start(&data);
    server.run(SQL);
    let weird = "we.ird`x";
    let one = server.dump(&["shop", "--routines", "--events"]);
    let hex = server.dump(&[
        "shop",
        "--routines",
        "--events",
        "--hex-blob",
        "--master-data=1",
        "--single-transaction",
        "--skip-extended-insert",
    ]);
    let databases = server.dump(&["--databases", "shop", weird, "--routines", "--events"]);
    let all = server.dump(&["--all-databases", "--routines", "--events", "--flush-privileges"]);
    let users = server.dump(&["--system=users"]);
    let stream = server.backup(&["--stream=xbstream"]);
    let target = place.path().join("target");
    server.backup(&[&format!("--target-dir={}", target.display())]);
    server.run("use shop; update orders set q=q+1; insert into child values (2,2);");
    let increment = place.path().join("increment");
    server.backup(&[
        &format!("--target-dir={}", increment.display()),
        &format!("--incremental-basedir={}", target.display()),
    ]);
    let live = files(&data);
    let folder = files(&target);
    let prepared = program("mariadb-backup")
        .args(["--prepare", &format!("--target-dir={}", target.display())])
        .status()
        .unwrap();
    assert!(prepared.success());
    server.stop();
    let stopped = files(&data);
    Made {
        one,
        hex,
        databases,
        all,
        users,
        stream,
        folder,
        prepared: files(&target),
        increment: files(&increment),
        live,
        stopped,
    }
}

fn files(folder: &Path) -> Files {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            let name = entry.path().strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() && !name.starts_with("bin.") {
                found.push((name, std::fs::read(entry.path()).unwrap()));
            }
        }
    }
    found
}
