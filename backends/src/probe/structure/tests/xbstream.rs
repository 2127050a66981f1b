use std::process::{Command, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

use super::super::fixture::{Restored, Server, cut_everywhere, have, pipe, run, wait_for};

/// A physical and a logical backup of one throw-away MariaDB.
struct Backups {
    stream: Vec<u8>,
    dump: Vec<u8>,
}

fn backups() -> Option<&'static Backups> {
    static BACKUPS: OnceLock<Backups> = OnceLock::new();
    have(&["mariadb-install-db", "/usr/sbin/mariadbd", "mariabackup", "mysqldump", "mysql"])
        .then(|| BACKUPS.get_or_init(make))
}

fn make() -> Backups {
    let folder = TempDir::new().unwrap();
    let (data, socket) = (folder.path().join("data"), folder.path().join("s"));
    let data_option = format!("--datadir={}", data.display());
    let socket_option = format!("--socket={}", socket.display());
    // A server that starts removes what it takes for leftovers in the shared temporary folder.
    run(Command::new("mariadb-install-db")
        .env("TMPDIR", folder.path())
        .args(["--no-defaults", &data_option, "--auth-root-authentication-method=normal"])
        .args(["--skip-test-db", "--user=root"]));
    let server = Command::new("/usr/sbin/mariadbd")
        .env("TMPDIR", folder.path())
        .args(["--no-defaults", "--skip-networking", "--user=root", &data_option, &socket_option])
        .args(["--innodb-log-file-size=4M", "--innodb-buffer-pool-size=8M"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _server = Server(server);
    let client = |program: &str| {
        let mut command = Command::new(program);
        command.args(["--no-defaults", &socket_option, "--user=root"]);
        command
    };
    wait_for("mariadbd", || {
        client("mysql").args(["-e", "SELECT 1"]).stderr(Stdio::null()).output().unwrap().status.success()
    });
    let script = "GRANT ALL ON *.* TO keeper@localhost IDENTIFIED BY 'tell-nobody'; CREATE DATABASE app; CREATE TABLE app.notes (id int PRIMARY KEY, body text);
                  USE app; INSERT INTO notes SELECT seq, concat('it''s ; (', seq, '\\n-- x') FROM seq_1_to_500;";
    run(client("mysql").args(["-e", script]));
    let dump = run(client("mysqldump").args(["--databases", "app"]));
    let stream = run(client("mariabackup")
        .args(["--backup", "--stream=xbstream", "--user=keeper", "--password=tell-nobody"])
        .arg(format!("--target-dir={}", folder.path().join("t").display())));
    Backups { stream, dump }
}

#[test]
fn a_real_stream_is_green_and_its_password_stays_secret() {
    let Some(Backups { stream, .. }) = backups() else { return };
    let report = Restored::of("mariadb.xb", stream).examine();
    report.must_be_clean();
    assert!(report.notes().contains("server_version 10."), "{}", report.notes());
    assert!(!format!("{report:?}").contains("tell-nobody"));
    assert!(!format!("{report:?}").contains("tool_command"));
}

/// The offsets at which chunks begin.
fn boundaries(stream: &[u8]) -> Vec<usize> {
    stream.windows(8).enumerate().filter(|(_, w)| *w == b"XBSTCK01").map(|(at, _)| at).collect()
}

#[test]
fn a_stream_that_was_cut_anywhere_is_never_green() {
    let Some(Backups { stream, .. }) = backups() else { return };
    // A stream of a real server is large: few random cuts, and cuts between chunks, which mbstream does
    // not see.
    cut_everywhere("mariadb.xb", stream, 5, |_| false);
    for boundary in boundaries(stream).into_iter().skip(1).step_by(40) {
        let report = Restored::of("mariadb.xb", &stream[..boundary]).examine();
        assert!(!report.looks_green(), "cut at {boundary}: {report:#?}");
    }
    if have(&["gzip"]) {
        let last = *boundaries(stream).last().unwrap();
        let cut = pipe(Command::new("gzip").args(["-1", "-c"]), &stream[..last]);
        Restored::of("mariadb.xb.gz", &cut).examine().must_find("xbstream.open");
    }
}

/// A small stream of our own making.
#[derive(Default)]
struct Stream(Vec<u8>);

impl Stream {
    fn chunk(mut self, kind: u8, path: &str, rest: &[u8]) -> Self {
        self.0.extend_from_slice(b"XBSTCK01\0");
        self.0.push(kind);
        self.0.extend_from_slice(&u32::try_from(path.len()).unwrap().to_le_bytes());
        self.0.extend_from_slice(path.as_bytes());
        self.0.extend_from_slice(rest);
        self
    }

    fn payload(self, path: &str, offset: u64, content: &[u8]) -> Self {
        let mut rest = (content.len() as u64).to_le_bytes().to_vec();
        rest.extend_from_slice(&offset.to_le_bytes());
        rest.extend_from_slice(&crc32fast::hash(content).to_le_bytes());
        rest.extend_from_slice(content);
        self.chunk(b'P', path, &rest)
    }

    fn file(self, path: &str, content: &[u8]) -> Self {
        self.payload(path, 0, content).chunk(b'E', path, &[])
    }

    fn full(checkpoints: &str) -> Self {
        Self::default()
            .file("ibdata1", &[7; 4000])
            .file("app/notes.ibd", &[8; 5000])
            .file("ib_logfile0", &[9; 600])
            .file("backup-my.cnf", b"[mysqld]\n")
            .file("mariadb_backup_checkpoints", checkpoints.as_bytes())
            .file("mariadb_backup_info", b"tool_command = --password=x\nend_time = 2026-02-11 03:00:00\n")
    }
}

const GOOD: &str = "backup_type = full-backuped\nfrom_lsn = 0\nto_lsn = 500\nlast_lsn = 500\n";

#[test]
fn a_small_stream_survives_no_cut_and_no_flip() {
    let Stream(stream) = Stream::full(GOOD);
    Restored::of("m.xb", &stream).examine().must_be_clean();
    cut_everywhere("m.xb", &stream, 200, |_| false);
    let payload = stream.windows(8).position(|w| w == [7; 8]).unwrap();
    super::super::fixture::flip_everywhere("m.xb", &stream, 100, payload..payload + 4000);
    super::super::fixture::flip_everywhere("m.xb", &stream, 50, 0..8);
}

#[test]
fn what_a_backup_says_of_itself_is_believed() {
    let with = |text: &str| Restored::of("m.xb", &Stream::full(text).0).examine();
    with(&GOOD.replace("full-backuped", "incremental")).must_find("xbstream.backup_type");
    with(&GOOD.replace("last_lsn = 500", "last_lsn = 499")).must_find("xbstream.redo");
    with("").must_find("xbstream.redo");
    let Stream(no_info) = Stream::default().file("ibdata1", &[1; 10]);
    Restored::of("m.xb", &no_info).examine().must_find("xbstream.missing");
}

#[test]
fn the_chunks_of_newer_servers_are_followed() {
    let Stream(stream) = Stream::full(GOOD)
        .payload("a", 0, b"12345678")
        .chunk(b'S', "a", &2_u64.to_le_bytes())
        .payload("a", 2, b"xy")
        .chunk(b'E', "a", &[])
        .chunk(b'R', "a", &[&1_u32.to_le_bytes()[..], b"b"].concat())
        .chunk(b'D', "b", &[]);
    Restored::of("m.xb", &stream).examine().must_be_clean();
    let Stream(out_of_order) =
        Stream::full(GOOD).payload("a", 0, b"1").payload("a", 2, b"2").chunk(b'E', "a", &[]);
    Restored::of("m.xb", &out_of_order).examine().must_find("xbstream.damaged");
}

#[test]
fn a_path_that_leads_out_is_told() {
    for path in ["/etc/cron.d/x", "../../x", "a/../../x"] {
        Restored::of("m.xb", &Stream::full(GOOD).file(path, b"x").0).examine().must_find("xbstream.path");
    }
    Restored::of("m.xb", &Stream::full(GOOD).file("a..b/c", b"x").0).examine().must_be_clean();
}

#[test]
fn a_table_that_vanished_from_the_stream_is_told() {
    let before = Restored::of("m.xb", &Stream::full(GOOD).0).examine();
    let Stream(without) = Stream::full(GOOD).chunk(b'D', "app/notes.ibd", &[]);
    Restored::of("m.xb", &without).examine_after(&before).must_find("structure.tables_vanished");
}

#[test]
fn a_real_mysqldump_is_green_and_its_cuts_are_not() {
    let Some(Backups { dump, .. }) = backups() else { return };
    let report = Restored::of("app.sql", dump).examine();
    assert!(report.must_be_clean().notes().contains("1 tables, 500 rows"), "{}", report.notes());
    let marker = b"-- Dump completed";
    let needed = dump.windows(marker.len()).position(|w| w == marker).unwrap() + marker.len();
    cut_everywhere("app.sql", dump, 200, |length| length >= needed);
}
