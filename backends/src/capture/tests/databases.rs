use std::path::PathBuf;
use std::process::Command;

use firedrill_core::config::jobs::{
    CaptureConfig, EtcdCapture, MariadbCapture, MariadbMethod, PostgresCapture, PostgresFormat, Server,
};

use super::super::whole::Whole;
use super::Place;
use super::whole::no_cut_passes;
use crate::digests::tests::mariadb::Mariadb;
use crate::digests::tests::postgres::{PASSWORD, Postgres};
use crate::digests::tests::server::{Server as Running, succeed};

fn postgres(config: PostgresCapture) -> CaptureConfig {
    CaptureConfig { postgres: Some(config), ..CaptureConfig::default() }
}

fn mariadb(config: MariadbCapture) -> CaptureConfig {
    CaptureConfig { mariadb: Some(config), ..CaptureConfig::default() }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Large objects, an empty table, and more tables than fit into one piece.
const SHOP: &str = "create table cards(id int, name text);
    insert into cards select x, 'card ' || x || repeat('.', 200) from generate_series(1, 2000) x;
    create table empty(a int); create view v as select 1;
    select lo_from_bytea(0, decode(repeat('00ff', 50000), 'hex')), lo_from_bytea(0, 'small');
    do $$ begin for i in 1..150 loop execute format('create table t%s(a int, b text default %L)', i, 'x'); end loop; end $$;";

fn shop(server: &Postgres) -> PostgresCapture {
    server.sql("postgres", "create database shop");
    server.sql("shop", SHOP);
    PostgresCapture {
        database: Some("shop".to_owned()),
        server: Server {
            host: Some(server.folder().display().to_string()),
            user: Some("admin".to_owned()),
            password_env: Some("SHOP_PASSWORD".to_owned()),
            ..Server::default()
        },
        stored_as: "/backup/shop.dump".to_owned(),
        ..PostgresCapture::default()
    }
}

#[test]
fn dumps_of_postgres_are_whole_or_nothing() {
    let Some(server) = Postgres::start() else { return };
    let custom = shop(&server);
    let place = Place::new().with("SHOP_PASSWORD", PASSWORD);

    let archive = place.read(postgres(custom.clone())).unwrap();
    no_cut_passes(Whole::archive(), &archive);
    let file = place.path().join("archive");
    std::fs::write(&file, &archive).unwrap();
    let restored = succeed(Command::new("pg_restore").args(["-f", "-"]).arg(&file));
    assert!(text(&restored.stdout).contains("card 2000"));
    // One that pg_dump could seek in says where its data is.
    let seekable = place.path().join("seekable");
    let mut dump = Command::new("pg_dump");
    dump.args(["-Fc", "-U", "admin", "-h"]).arg(server.folder()).env("PGPASSWORD", PASSWORD);
    succeed(dump.arg("-f").arg(&seekable).arg("shop"));
    no_cut_passes(Whole::archive(), &std::fs::read(seekable).unwrap());

    let plain = PostgresCapture { format: PostgresFormat::Plain, ..custom.clone() };
    assert!(text(&place.read(postgres(plain.clone())).unwrap()).contains("card 2000"));
    let all = PostgresCapture { database: None, ..plain.clone() };
    let cluster = text(&place.read(postgres(all.clone())).unwrap());
    assert!(cluster.contains("card 2000") && cluster.contains("CREATE ROLE admin"));

    // A link to another machine that breaks off, and does not say so.
    let cut = format!("PGPASSWORD={PASSWORD} \"$@\" | head -c 20000");
    for dump in [&custom, &plain, &all] {
        let server = Server { password_env: None, ..dump.server.clone() };
        let over = |via: &[&str]| PostgresCapture { via: words(via), server: server.clone(), ..dump.clone() };
        let error = place.read(postgres(over(&["sh", "-c", &cut, "ssh"]))).unwrap_err();
        assert!(error.contains("cut short"), "{error}");
        let login = format!("PGPASSWORD={PASSWORD}");
        let whole = place.read(postgres(over(&["env", &login]))).unwrap();
        assert!(whole.len() > 400_000, "{}", whole.len());
    }
    let error =
        place.read(postgres(PostgresCapture { via: words(&["false"]), ..custom.clone() })).unwrap_err();
    assert!(error.contains("(via false) ended with exit code 1"), "{error}");
}

#[test]
fn a_server_that_refuses_is_a_failed_capture_that_tells_no_password() {
    let Some(server) = Postgres::start() else { return };
    let custom = shop(&server);
    let place = Place::new();
    let error = place.read(postgres(custom.clone())).unwrap_err();
    assert!(error.contains("SHOP_PASSWORD") && error.contains("not set"), "{error}");
    let place = place.with("SHOP_PASSWORD", "wrong-s3cret");
    for format in [PostgresFormat::Custom, PostgresFormat::Plain] {
        for database in [Some("shop".to_owned()), None] {
            let dump = PostgresCapture { format, database, ..custom.clone() };
            let error = place.read(postgres(dump)).unwrap_err();
            assert!(error.contains("password authentication failed") && !error.contains("s3cret"), "{error}");
        }
    }
    let with_digests = PostgresCapture { digests: true, ..custom };
    let error = place.capture(postgres(with_digests)).map(drop).unwrap_err().chain();
    assert!(error.contains("password authentication failed") && !error.contains("s3cret"), "{error}");
}

#[test]
fn digests_of_postgres_lie_beside_the_dump() {
    let Some(server) = Postgres::start() else { return };
    let dump =
        PostgresCapture { digests: true, arguments: words(&["--exclude-table-data=t1"]), ..shop(&server) };
    let place = Place::new().with("SHOP_PASSWORD", PASSWORD);
    let captured = place.capture(postgres(dump.clone())).unwrap();
    let paths: Vec<_> = captured.made.iter().map(|made| (made.path.as_str(), made.dump)).collect();
    assert_eq!(paths, [("/backup/shop.dump", true), ("/backup/shop.dump.firedrill-digests.json", false)]);
    assert!(std::fs::read(&captured.made[0].file).unwrap().starts_with(b"PGDMP"));
    let file = std::fs::read_to_string(&captured.made[1].file).unwrap();
    assert!(
        file.contains("public.cards") && file.contains("*.t1") && !file.contains("public.t1\""),
        "{file}"
    );
    assert!(!file.contains(PASSWORD));
    for (changed, told) in [
        (PostgresCapture { via: words(&["env"]), ..dump.clone() }, "via"),
        (PostgresCapture { database: None, ..dump.clone() }, "database"),
        (PostgresCapture { arguments: words(&["-t", "cards"]), ..dump.clone() }, "-t"),
    ] {
        let error = place.capture(postgres(changed)).map(drop).unwrap_err().chain();
        assert!(error.contains(told), "{error}");
    }
}

/// A password with everything that an options file reads in its own way.
const KEEPER: &str = "a\"b'c#d\\\\e f";

fn keeper(server: &Mariadb) -> Server {
    server.sql(&format!(
        "create database shop; use shop; create table shop.cards(id int primary key, name varchar(2000));
         insert into shop.cards select seq, repeat('x', 1500) from seq_1_to_6000;
         create table shop.late(a int) engine=Aria; insert into shop.late values (1);
         create user keeper@localhost identified by '{}'; grant all on *.* to keeper@localhost",
        KEEPER.replace('\\', "\\\\").replace('\'', "''")
    ));
    Server {
        host: Some(server.folder().join("socket").display().to_string()),
        user: Some("keeper".to_owned()),
        password_env: Some("KEEPER_PASSWORD".to_owned()),
        ..Server::default()
    }
}

/// The arguments and variables of everything that this process started and whose first argument ends so.
fn shown(program: &str) -> Vec<String> {
    let own = std::process::id().to_string();
    let all = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let folder = entry.ok()?.path();
        let stat = std::fs::read_to_string(folder.join("stat")).ok()?;
        let parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.to_owned();
        let line = text(&std::fs::read(folder.join("cmdline")).ok()?);
        let first = line.split('\0').next()?.to_owned();
        let environment = text(&std::fs::read(folder.join("environ")).ok()?);
        (parent == own && first.ends_with(program)).then(|| format!("{line}\n{environment}"))
    });
    all.collect()
}

#[test]
fn dumps_of_mariadb_are_whole_or_nothing_and_nobody_sees_the_password() {
    let Some(server) = Mariadb::start() else { return };
    if !firedrill_testing::have(&["mariadb-backup"]) {
        return;
    }
    let place = Place::new().with("KEEPER_PASSWORD", KEEPER);
    let base = MariadbCapture {
        server: keeper(&server),
        stored_as: "/backup/m".to_owned(),
        ..MariadbCapture::default()
    };
    for (method, program) in
        [(MariadbMethod::Dump, "mariadb-dump"), (MariadbMethod::Xbstream, "mariadb-backup")]
    {
        let capture = MariadbCapture { method, ..base.clone() };
        let mut captured = place.capture(mariadb(capture.clone())).unwrap();
        // It writes more than anybody keeps for it, so that it runs while it is looked at.
        let mut stream = (captured.streams.remove(0).open)().unwrap();
        std::io::Read::read_exact(&mut stream, &mut [0; 1000]).unwrap();
        let seen = shown(program);
        assert_eq!(seen.len(), 1, "{program} does not run");
        assert!(!seen[0].contains("c#d") && seen[0].contains("--defaults-extra-file="), "{}", seen[0]);
        drop(stream);
        let options: Vec<PathBuf> = std::fs::read_dir(place.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|e| e == "cnf"))
            .collect();
        for file in &options {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
            std::fs::remove_file(file).unwrap();
        }
        assert_eq!(options.len(), 1);
    }

    let fresh = || Place::new().with("KEEPER_PASSWORD", KEEPER);
    let dump = MariadbCapture { method: MariadbMethod::Dump, ..base.clone() };
    let all = fresh().read(mariadb(dump.clone())).unwrap();
    assert!(text(&all).contains("CREATE DATABASE") && text(&all).contains("`late`"));
    let stream = fresh().read(mariadb(base.clone())).unwrap();
    no_cut_passes(Whole::xbstream(), &stream);

    let login = format!("MYSQL_PWD={KEEPER}");
    let cut = "MYSQL_PWD=\"$0\" \"$@\" | head -c 3000000";
    let there = Server { password_env: None, ..base.server.clone() };
    for capture in [&dump, &base] {
        let over =
            |via: &[&str]| MariadbCapture { via: words(via), server: there.clone(), ..capture.clone() };
        let error = fresh().read(mariadb(over(&["sh", "-c", cut, KEEPER]))).unwrap_err();
        assert!(error.contains("cut short") || error.contains("completed OK!"), "{error}");
        assert!(fresh().read(mariadb(over(&["env", &login]))).unwrap().len() > 5_000_000);
    }
    let wrong = Place::new().with("KEEPER_PASSWORD", "wrong-s3cret");
    for capture in [dump.clone(), base] {
        let error = wrong.read(mariadb(capture)).unwrap_err();
        assert!(error.contains("Access denied") && !error.contains("s3cret"), "{error}");
        std::fs::read_dir(wrong.path()).unwrap().for_each(|e| drop(std::fs::remove_file(e.unwrap().path())));
    }

    let beside = MariadbCapture { digests: true, database: Some("shop".to_owned()), ..dump };
    let place = fresh();
    let captured = place.capture(mariadb(beside)).unwrap();
    assert_eq!(captured.notes, Vec::<String>::new(), "the digests are exact");
    let digests = text(&std::fs::read(&captured.made[1].file).unwrap());
    assert!(digests.contains("\"mariadb\"") && digests.contains("\"cards\""), "{digests}");
    assert!(text(&std::fs::read(&captured.made[0].file).unwrap()).contains("-- Dump completed"));
}

#[test]
fn etcd_comes_with_its_keys() {
    if !firedrill_testing::have(&["etcd", "etcdctl"]) {
        return;
    }
    let port = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (client, peer) = (format!("http://127.0.0.1:{}", port()), format!("http://127.0.0.1:{}", port()));
    let etcdctl = || {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").arg(format!("--endpoints={client}"));
        command
    };
    let _server = Running::start(
        |_| Command::new("true"),
        |folder| {
            let mut etcd = Command::new("etcd");
            etcd.arg("--data-dir").arg(folder.join("data"));
            etcd.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
            etcd.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
            etcd.arg("--initial-cluster").arg(format!("default={peer}"));
            etcd
        },
        |_| etcdctl().args(["endpoint", "health"]).output().unwrap().status.success(),
    );
    succeed(etcdctl().args(["put", "/registry/x", "y"]));
    let place = Place::new();
    let pki = place.path().join("pki");
    std::fs::create_dir(&pki).unwrap();
    let capture = |endpoints: &[&str]| {
        let etcd = EtcdCapture {
            endpoints: words(endpoints),
            pki: Some(pki.clone()),
            stored_as: "/backup/etcd.db".to_owned(),
            ..EtcdCapture::default()
        };
        place.capture(CaptureConfig { etcd: Some(etcd), ..CaptureConfig::default() })
    };
    // The first member is down.
    let nobody = format!("http://127.0.0.1:{}", port());
    let captured = capture(&[&nobody, &client]).unwrap();
    let made: Vec<_> = captured.made.iter().map(|made| made.path.as_str()).collect();
    assert_eq!(made, ["/backup/etcd.db"]);
    let status = succeed(etcdctl().args(["snapshot", "status"]).arg(&captured.made[0].file));
    assert!(!status.stdout.is_empty());
    assert_eq!(captured.files[0].paths, [pki.display().to_string()]);
    let canaries: Vec<_> = captured.canaries.iter().map(|canary| canary.path.clone()).collect();
    assert_eq!(
        canaries,
        ["/backup/.firedrill-canary".to_owned(), format!("{}/.firedrill-canary", pki.display())]
    );
    std::fs::remove_file(&captured.made[0].file).unwrap();
    let error = capture(&[&nobody]).map(drop).unwrap_err().chain();
    assert!(error.contains("etcdctl") && error.contains(&nobody), "{error}");
}

#[test]
fn passwords_come_from_files_as_well() {
    let place = Place::new();
    let file = place.path().join("password");
    let server = Server { password_file: Some(file.clone()), ..Server::default() };
    let password = || super::super::password(&server, &place.environment);
    assert!(password().unwrap_err().chain().contains("password"));
    std::fs::write(&file, "\n\n").unwrap();
    assert!(password().unwrap_err().chain().contains("first line is empty"));
    std::fs::write(&file, " s3cret \nmore\n").unwrap();
    assert_eq!(password().unwrap().unwrap().reveal(), "s3cret");
    let none = super::super::password(&Server::default(), &place.environment);
    assert_eq!(none.unwrap(), None);
}
