//! Digests that the command recorded when a backup was made, of real servers and of files, are compared with what
//! the command restores: one changed cell is a finding, and what was recorded only half does not count.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use firedrill_core::clock::{Clock as _, SystemClock};
use firedrill_core::digests::FILE;
use firedrill_core::finding::Class;
use firedrill_core::verdict::Verdict;
use firedrill_scenarios::fleet::Job;

use crate::fixture::{Fixture, gzip};
use crate::need::{find, skip, tools};
use crate::place::{Answer, Place, told};
use crate::servers::{Etcd, MariaDb, Postgres, said};

const SHOP: &str = "
    CREATE TABLE orders (id serial PRIMARY KEY, note text, price numeric(10, 2));
    INSERT INTO orders (note, price) SELECT 'order ' || n, n / 7.0 FROM generate_series(1, 3000) n;
    CREATE TABLE child (id int PRIMARY KEY, parent int); INSERT INTO child SELECT n, n FROM generate_series(1, 50) n;";
const MARIA_SHOP: &str = "
    create database shop; use shop;
    create table orders (id int primary key, note text, price decimal(10, 2), raw blob);
    insert into orders select seq, concat('it''s order ', seq, '\\n\"'), seq / 7, unhex(md5(seq)) from seq_1_to_3000;
    create table child (id int primary key, parent int); insert into child select seq, seq from seq_1_to_50;";
/// What becomes of a database after its digests were recorded, and the table that a finding has to name.
const CHANGES: [(&str, &str, &str); 4] = [
    ("cell", "UPDATE orders SET note = 'Order 77' WHERE id = 77", "orders"),
    ("row", "DELETE FROM child WHERE id = 50", "child"),
    ("missing", "DROP TABLE child", "child"),
    ("extra", "CREATE TABLE extra (a int)", "extra"),
];

/// Folders that are backed up, each under a tag of its own.
struct Backups(Place);

impl Backups {
    fn new() -> Result<Self> {
        Ok(Self(Place::new(&Fixture::shared()?, "")?))
    }

    /// The folder that is backed up under `tag`.
    fn folder(&self, tag: &str) -> Result<PathBuf> {
        let folder = self.0.path("source").join(tag).join("backup").join(tag);
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// The same as in the folder of `from`.
    fn copy(&self, from: &str, tag: &str) -> Result<PathBuf> {
        let folder = self.folder(tag)?;
        said(Command::new("cp").arg("-a").arg(self.folder(from)?.join(".")).arg(&folder))?;
        Ok(folder)
    }

    fn back_up(&self, tag: &str) -> Result<()> {
        let (root, path) = (self.0.path("source").join(tag), format!("/backup/{tag}"));
        let time = SystemClock.now();
        let job = Job { root: &root, paths: &[&path], excludes: &[], tags: &[tag], host: tag, time };
        self.0.repository()?.snapshot(&job).map(drop)
    }

    /// `firedrill digest ..`, begun in the folder of `tag`.
    fn digest(&self, tag: &str, arguments: &[&str]) -> Result<Command> {
        let mut command = self.0.command(&["digest"])?;
        command.args(arguments).current_dir(self.folder(tag)?);
        Ok(command)
    }

    fn drill(&self, tags: &[&str]) -> Result<Answer> {
        for tag in tags {
            self.back_up(tag)?;
        }
        self.0.drill("process", tags)
    }
}

fn pg_digest(backups: &Backups, server: &Postgres, tag: &str, arguments: &[&str]) -> Result<Command> {
    let mut command = backups.digest(tag, &["postgres", "--dbname", "shop"])?;
    command.args(arguments).env("PGHOST", server.socket()).env("PGUSER", "postgres");
    Ok(command)
}

/// Where a client of MariaDB finds the server.
fn options(backups: &Backups, server: &MariaDb) -> Result<String> {
    let file = backups.0.path("options.cnf");
    fs::write(&file, format!("[client]\nuser=root\nsocket={}\n", server.socket().display()))?;
    Ok(file.display().to_string())
}

/// Fails unless `tag` is verified, and `probe` has compared it.
#[track_caller]
fn assert_equal(answer: &Answer, tag: &str, probe: &str) {
    let drill = answer.drill(tag).unwrap();
    assert_eq!(drill.verdict, Verdict::Verified, "{}", told(drill));
    let examination = answer.examination(tag, probe).unwrap();
    assert!(examination.checked > 0, "{}", told(drill));
    let left: Vec<_> = drill.examinations.iter().flat_map(|e| &e.not_verified).collect();
    let silent = left.iter().all(|what| !what.contains("not compared") && !what.contains("who wrote"));
    assert!(silent, "{left:#?}");
}

/// Fails unless `tag` failed for exactly one reason, at a place with this end.
#[track_caller]
fn assert_found(answer: &Answer, tag: &str, code: &str, end: &str) {
    let drill = answer.drill(tag).unwrap();
    assert_eq!(drill.verdict, Verdict::Failed, "{}", told(drill));
    let recorded: Vec<_> = drill.findings.iter().filter(|f| f.code.starts_with("digests.")).collect();
    let [finding] = recorded.as_slice() else { panic!("{}", told(drill)) };
    assert_eq!((finding.code.as_str(), finding.class), (code, Class::Damage), "{}", told(drill));
    assert!(finding.location.ends_with(end), "{} is not {end}", finding.location);
}

#[test]
fn a_dump_of_postgres_is_what_was_recorded() {
    if !tools() {
        return;
    }
    let backups = Backups::new().unwrap();
    let server = Postgres::start().unwrap();
    server.sql("postgres", "CREATE DATABASE shop").unwrap();
    server.sql("shop", SHOP).unwrap();
    let dump = ["--", "pg_dump", "--snapshot={snapshot}", "-f", "shop.sql", "shop"];
    said(&mut pg_digest(&backups, &server, "pg", &dump).unwrap()).unwrap();
    for (tag, change, _) in CHANGES {
        server.sql("postgres", "DROP DATABASE IF EXISTS changed").unwrap();
        server.sql("postgres", "CREATE DATABASE changed TEMPLATE shop").unwrap();
        server.sql("changed", change).unwrap();
        let folder = backups.copy("pg", &format!("pg-{tag}")).unwrap();
        fs::write(folder.join("shop.sql"), server.dump("pg_dump", &["changed"]).unwrap()).unwrap();
    }
    let answer = backups.drill(&["pg", "pg-cell", "pg-row", "pg-missing", "pg-extra"]).unwrap();
    assert_equal(&answer, "pg", "postgres");
    for (tag, _, table) in CHANGES {
        assert_found(&answer, &format!("pg-{tag}"), "digests.table", &format!("shop.sql: public.{table}"));
    }
}

#[test]
fn a_dump_of_mariadb_is_what_was_recorded() {
    if !tools() {
        return;
    }
    let backups = Backups::new().unwrap();
    let server = MariaDb::start().unwrap();
    server.sql(MARIA_SHOP).unwrap();
    let file = options(&backups, &server).unwrap();
    let (to_digest, to_dump) = (file.as_str(), format!("--defaults-extra-file={file}"));
    let arguments =
        ["mariadb", "--database", "shop", "--defaults-extra-file", to_digest, "--", "mariadb-dump"];
    let mut hook = backups.digest("maria", &arguments).unwrap();
    hook.args([to_dump.as_str(), "--single-transaction", "--result-file=shop.sql", "shop"]);
    said(&mut hook).unwrap();
    let text = fs::read_to_string(backups.folder("maria").unwrap().join(FILE)).unwrap();
    assert!(text.contains("\"exact\": true"), "{text}");
    for (tag, change, _) in CHANGES {
        // A dump names its database, so it has to keep its name.
        server.sql("drop database shop").unwrap();
        server.sql(MARIA_SHOP).unwrap();
        server.sql(&format!("use shop; {change}")).unwrap();
        let folder = backups.copy("maria", &format!("maria-{tag}")).unwrap();
        fs::write(folder.join("shop.sql"), server.dump(&["shop"]).unwrap()).unwrap();
    }
    let answer =
        backups.drill(&["maria", "maria-cell", "maria-row", "maria-missing", "maria-extra"]).unwrap();
    assert_equal(&answer, "maria", "mariadb");
    for (tag, _, table) in CHANGES {
        assert_found(&answer, &format!("maria-{tag}"), "digests.table", &format!("shop.sql: shop: {table}"));
    }
}

#[test]
fn a_data_folder_is_what_was_recorded_of_its_server() {
    if !tools() {
        return;
    }
    let backups = Backups::new().unwrap();
    let server = Postgres::start().unwrap();
    server.sql("postgres", "CREATE DATABASE shop").unwrap();
    server.sql("shop", SHOP).unwrap();
    said(&mut pg_digest(&backups, &server, "folder", &["--quiet"]).unwrap()).unwrap();
    let data = server.stop().unwrap();
    let copy = |tag: &str| {
        let folder = backups.copy("folder", tag).unwrap();
        said(Command::new("cp").arg("-a").arg(data.path().join("data")).arg(folder.join("pgdata"))).unwrap();
        folder
    };
    copy("whole");
    // Digests may lie in the folder itself, too.
    let inside = copy("inside");
    fs::rename(inside.join(FILE), inside.join("pgdata").join(FILE)).unwrap();
    Postgres::alone(data.path(), "shop", CHANGES[0].1).unwrap();
    copy("changed");
    Postgres::alone(data.path(), "postgres", "DROP DATABASE shop").unwrap();
    copy("dropped");
    let answer = backups.drill(&["whole", "inside", "changed", "dropped"]).unwrap();
    assert_equal(&answer, "whole", "postgres");
    assert_equal(&answer, "inside", "postgres");
    assert_found(&answer, "changed", "digests.table", "pgdata: shop: public.orders");
    let dropped = answer.drill("dropped").unwrap();
    assert_eq!(dropped.verdict, Verdict::Inconclusive, "{}", told(dropped));
}

#[test]
fn files_and_snapshots_are_what_was_recorded() {
    if !tools() {
        return;
    }
    if find("zip").is_none() {
        return skip("zip is missing: no snapshot of etcd can be packed as k3s does it");
    }
    let backups = Backups::new().unwrap();
    let files = backups.folder("files").unwrap();
    for (name, content) in [("a/one.txt", "one"), ("a/two.txt", "two"), ("b/three.txt", "three")] {
        fs::create_dir_all(files.join(name).parent().unwrap()).unwrap();
        fs::write(files.join(name), content).unwrap();
    }
    let database = rusqlite::Connection::open(backups.folder("sqlite").unwrap().join("app.db")).unwrap();
    database.execute_batch("CREATE TABLE t (a, b); INSERT INTO t VALUES (1, 'x'), (2, 'y');").unwrap();
    drop(database);
    let etcd = Etcd::start().unwrap();
    etcd.put(200).unwrap();
    let snapshots = backups.folder("etcd").unwrap();
    let snapshot = etcd.snapshot().unwrap();
    fs::write(snapshots.join("snapshot.db"), &snapshot).unwrap();
    for (tag, arguments) in
        [("files", ["files", "."]), ("sqlite", ["sqlite", "app.db"]), ("etcd-plain", ["etcd", "snapshot.db"])]
    {
        if tag == "etcd-plain" {
            backups.copy("etcd", tag).unwrap();
        }
        // What a run that was killed may have left.
        fs::write(backups.folder(tag).unwrap().join(format!("{FILE}.new")), "{").unwrap();
        said(&mut backups.digest(tag, &arguments).unwrap()).unwrap();
    }
    // Packed after the digests were recorded, and before.
    let packed = backups.copy("etcd-plain", "etcd-gz").unwrap();
    fs::remove_file(packed.join("snapshot.db")).unwrap();
    fs::write(packed.join("snapshot.db.gz"), gzip(&snapshot).unwrap()).unwrap();
    let zipped = backups.copy("etcd-plain", "etcd-zip").unwrap();
    said(Command::new("zip").args(["-q", "-m", "snapshot.db.zip", "snapshot.db"]).current_dir(&zipped))
        .unwrap();
    let before = backups.folder("etcd-before").unwrap();
    fs::write(before.join("snapshot.db.gz"), gzip(&snapshot).unwrap()).unwrap();
    said(&mut backups.digest("etcd-before", &["etcd", "snapshot.db.gz"]).unwrap()).unwrap();
    assert_eq!(fs::read_dir(&before).unwrap().count(), 2, "a copy was left behind");

    fs::write(backups.copy("files", "files-changed").unwrap().join("a/two.txt"), "tow").unwrap();
    let database = backups.copy("sqlite", "sqlite-changed").unwrap().join("app.db");
    rusqlite::Connection::open(database).unwrap().execute("UPDATE t SET b = 'Y' WHERE a = 2", []).unwrap();
    etcd.put(1).unwrap();
    let changed = backups.copy("etcd-gz", "etcd-changed").unwrap();
    fs::write(changed.join("snapshot.db.gz"), gzip(&etcd.snapshot().unwrap()).unwrap()).unwrap();

    let whole = ["files", "sqlite", "etcd-plain", "etcd-gz", "etcd-zip", "etcd-before"];
    let changed = ["files-changed", "sqlite-changed", "etcd-changed"];
    let answer = backups.drill(&[&whole[..], &changed].concat()).unwrap();
    for tag in whole {
        assert_equal(&answer, tag, "digests");
        assert!(answer.examination(tag, "digests").unwrap().checked > 1, "{tag} was not compared");
    }
    assert_found(&answer, "files-changed", "digests.files", "files-changed/a");
    assert_found(&answer, "sqlite-changed", "digests.table", "app.db: t");
    let keys = answer.drill("etcd-changed").unwrap();
    assert_eq!(keys.verdict, Verdict::Failed, "{}", told(keys));
    assert!(answer.codes("etcd-changed").unwrap().contains("digests.keys"), "{}", told(keys));
}

/// Runs a command that must not succeed, and leaves no digests.
fn leaves_nothing(backups: &Backups, tag: &str, command: &mut Command, code: Option<i32>) -> Result<()> {
    let file = backups.folder(tag)?.join(FILE);
    ensure!(file.exists(), "there are no digests of before, which must not stay");
    let output = command.output()?;
    ensure!(output.status.code() == code, "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    ensure!(!file.exists(), "digests were left behind");
    Ok(())
}

#[test]
fn what_died_half_way_never_verifies() {
    if !tools() {
        return;
    }
    let backups = Backups::new().unwrap();
    let server = Postgres::start().unwrap();
    server.sql("postgres", "CREATE DATABASE shop").unwrap();
    server.sql("shop", SHOP).unwrap();
    let shell = |script: &str| {
        let dump = format!("pg_dump --snapshot={{snapshot}} -f shop.sql shop && {script}");
        pg_digest(&backups, &server, "half", &["--", "sh", "-c", &dump]).unwrap()
    };
    let record = || said(&mut shell("true")).map(drop);
    record().unwrap();
    let whole = fs::read(backups.folder("half").unwrap().join(FILE)).context("no digests").unwrap();

    // firedrill itself, its client, the command, and at last the server.
    leaves_nothing(&backups, "half", &mut shell("kill -9 $PPID"), None).unwrap();
    record().unwrap();
    let client = "set -- $(cat /proc/$PPID/task/$PPID/children) && kill -9 $1 && sleep 1";
    leaves_nothing(&backups, "half", &mut shell(client), Some(2)).unwrap();
    record().unwrap();
    leaves_nothing(&backups, "half", &mut shell("exit 3"), Some(2)).unwrap();
    record().unwrap();
    let kill = format!("kill -9 {} && sleep 1", server.pid());
    leaves_nothing(&backups, "half", &mut shell(&kill), Some(2)).unwrap();

    // What a crash may leave on a disk, and a dump that is cut although its command said nothing.
    let dump = fs::read(backups.folder("half").unwrap().join("shop.sql")).unwrap();
    let put = |tag: &str, name: &str, digests: &[u8], dump: &[u8]| {
        let folder = backups.folder(tag).unwrap();
        fs::write(folder.join("shop.sql"), dump).unwrap();
        fs::write(folder.join(name), digests).unwrap();
    };
    put("whole", FILE, &whole, &dump);
    put("torn", FILE, &whole[..whole.len() / 2], &dump);
    put("empty", FILE, b"", &dump);
    put("unfinished", &format!("{FILE}.new"), &whole[..whole.len() / 2], &dump);
    put("cut", FILE, &whole, &dump[..dump.len() / 2]);
    let answer = backups.drill(&["whole", "torn", "empty", "unfinished", "cut"]).unwrap();
    assert_equal(&answer, "whole", "postgres");
    assert_found(&answer, "torn", "digests.malformed", FILE);
    assert_found(&answer, "empty", "digests.malformed", FILE);
    assert!(answer.examination("unfinished", "digests").is_err(), "it was taken for digests");
    assert_eq!(answer.drill("cut").unwrap().verdict, Verdict::Failed);
}
