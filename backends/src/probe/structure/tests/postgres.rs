use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

use super::super::fixture::{
    Restored, cut_everywhere, flip_everywhere, have, mutate_everywhere, pipe, run, wait_for,
};

const BIN: &str = "/usr/lib/postgresql/15/bin";

/// Dumps of one throw-away cluster, in every format.
struct Dumps {
    plain: Vec<u8>,
    inserts: Vec<u8>,
    verbose: Vec<u8>,
    data_only: Vec<u8>,
    schema: Vec<u8>,
    empty: Vec<u8>,
    create: Vec<u8>,
    all: Vec<u8>,
    globals: Vec<u8>,
    custom: Vec<u8>,
    /// Through a pipe, in which pg_dump cannot go back to note where data begins.
    custom_piped: Vec<u8>,
    uncompressed: Vec<u8>,
    custom_schema: Vec<u8>,
    tar: Vec<u8>,
    directory: Vec<(String, Vec<u8>)>,
}

fn dumps() -> Option<&'static Dumps> {
    static DUMPS: OnceLock<Dumps> = OnceLock::new();
    have(&["/usr/lib/postgresql/15/bin/initdb", "setpriv"]).then(|| DUMPS.get_or_init(make))
}

/// PostgreSQL refuses to run as root, so its programs run as their usual user then.
fn as_postgres(program: &str) -> Command {
    let root = run(Command::new("id").arg("-u")) == b"0\n";
    let program = format!("{BIN}/{program}");
    if !root {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--", &program]);
    command
}

struct Cluster {
    folder: TempDir,
}

impl Cluster {
    fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let cluster = Self { folder };
        run(Command::new("chmod").arg("755").arg(cluster.folder.path()));
        let home = cluster.home();
        std::fs::create_dir(&home).unwrap();
        if run(Command::new("id").arg("-u")) == b"0\n" {
            run(Command::new("chown").arg("postgres").arg(&home));
        }
        let data = home.join("data");
        run(as_postgres("initdb")
            .current_dir(&home)
            .args(["-A", "trust", "-U", "postgres", "-N", "-D"])
            .arg(&data));
        let options = format!("-c listen_addresses='' -c unix_socket_directories='{}' -F", home.display());
        // The server keeps the output open, so it must not be a pipe that somebody waits for.
        let status = as_postgres("pg_ctl")
            .current_dir(&home)
            .args(["-w", "-s", "-o", &options, "-l"])
            .arg(home.join("log"))
            .arg("-D")
            .arg(&data)
            .arg("start")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
        wait_for("postgres", || home.join(".s.PGSQL.5432").exists());
        cluster
    }

    fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    fn client(&self, program: &str) -> Command {
        let mut command = as_postgres(program);
        command.current_dir(self.home()).arg("-h").arg(self.home()).args(["-U", "postgres"]).env("TZ", "UTC");
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let mut stop = as_postgres("pg_ctl");
        stop.current_dir(self.home()).args(["-s", "-m", "immediate", "-D"]).arg(self.home().join("data"));
        let _gone_with_the_folder = stop.arg("stop").status();
    }
}

fn make() -> Dumps {
    let cluster = Cluster::start();
    let sql = r"
        CREATE TABLE notes (id int PRIMARY KEY, body text);
        INSERT INTO notes SELECT i, 'it''s ' || i || E'\nCOPY x FROM stdin;\n\\.\n-- PostgreSQL database dump' FROM generate_series(1, 300) i;
        CREATE TABLE empty_one (id int);
        CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT 1; $$;
        SELECT lo_from_bytea(0, 'large object');";
    run(cluster.client("psql").args(["-q", "-c", sql, "postgres"]));
    run(cluster.client("psql").args(["-q", "-c", "CREATE DATABASE nothing", "postgres"]));
    let dump = |arguments: &[&str]| run(cluster.client("pg_dump").args(arguments));
    let file = cluster.home().join("custom");
    run(cluster.client("pg_dump").args(["-Fc", "postgres", "-f"]).arg(&file));
    let folder = cluster.home().join("folder");
    run(cluster.client("pg_dump").args(["-Fd", "postgres", "-f"]).arg(&folder));
    Dumps {
        plain: dump(&["postgres"]),
        inserts: dump(&["--inserts", "postgres"]),
        verbose: dump(&["-v", "postgres"]),
        data_only: dump(&["-a", "--disable-triggers", "postgres"]),
        schema: dump(&["-s", "postgres"]),
        empty: dump(&["nothing"]),
        create: dump(&["-C", "postgres"]),
        all: run(&mut cluster.client("pg_dumpall")),
        globals: run(cluster.client("pg_dumpall").arg("-g")),
        custom: std::fs::read(&file).unwrap(),
        custom_piped: dump(&["-Fc", "postgres"]),
        uncompressed: dump(&["-Fc", "-Z0", "postgres"]),
        custom_schema: dump(&["-Fc", "-s", "postgres"]),
        tar: dump(&["-Ft", "postgres"]),
        directory: read_folder(&folder),
    }
}

fn read_folder(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn plain_dumps_of_every_kind_are_green() {
    let Some(dumps) = dumps() else { return };
    let rest = [&dumps.create, &dumps.all, &dumps.globals, &dumps.verbose, &dumps.data_only];
    for content in [&dumps.plain, &dumps.inserts].into_iter().chain(rest) {
        Restored::of("app.sql", content).examine().must_be_clean();
    }
    let notes = Restored::of("app.sql", &dumps.data_only).examine().notes();
    assert!(notes.contains("2 tables, 300 rows"), "{notes}");
    let notes = Restored::of("app.sql", &dumps.plain).examine().notes();
    assert!(notes.contains("2 tables, 300 rows") && notes.contains("database version 15."), "{notes}");
    let notes = Restored::of("app.sql", &dumps.inserts).examine().notes();
    assert!(notes.contains("300 rows"), "{notes}");
    let report = Restored::of("app.sql", &dumps.verbose).examine();
    assert!(report.0[0].recovery_point.is_some(), "{report:#?}");
}

#[test]
fn a_schema_alone_and_the_wrong_database_are_told() {
    let Some(dumps) = dumps() else { return };
    Restored::of("app.sql", &dumps.schema).examine().must_find("sql_dump.no_rows");
    Restored::of("app.sql", &dumps.empty).examine().must_find("sql_dump.empty");
    Restored::of("app.dump", &dumps.custom_schema).examine().must_find("pg_archive.no_data");
}

#[test]
fn cut_plain_dumps_are_never_green() {
    let Some(dumps) = dumps() else { return };
    for content in [&dumps.plain, &dumps.inserts, &dumps.all] {
        let trimmed = content.trim_ascii_end().len();
        let restricted = content.windows(11).any(|window| window == b"\\unrestrict");
        let marker = content.windows(14).rposition(|window| window == b" dump complete").unwrap() + 14;
        let cluster = content.windows(21).any(|window| window == b"cluster dump complete");
        // The closing token is needed where there is one behind the marker; dashes and blanks are not.
        let needed = if restricted && !cluster { trimmed } else { marker };
        cut_everywhere("app.sql", content, 200, |length| length >= needed);
    }
}

/// The promise that the whole command makes, at a price that many cuts can be had for.
#[test]
fn a_dump_that_is_cut_at_any_of_a_thousand_bytes_is_never_green() {
    let Some(dumps) = dumps() else { return };
    if !have(&["gzip"]) {
        return;
    }
    let packed = pipe(Command::new("gzip").arg("-c"), &dumps.plain);
    let whole = dumps.plain.trim_ascii_end().len();
    cut_everywhere("app.sql", &dumps.plain, 1000, |length| length >= whole);
    cut_everywhere("app.sql.gz", &packed, 1000, |_| false);
    cut_everywhere("app.dump", &dumps.custom, 1000, |_| false);
}

#[test]
fn custom_archives_are_green_and_say_what_they_hold() {
    let Some(dumps) = dumps() else { return };
    for content in [&dumps.custom, &dumps.custom_piped, &dumps.uncompressed] {
        let report = Restored::of("app.dump", content).examine();
        assert!(report.must_be_clean().notes().contains("data of 2 tables, 300 rows"), "{}", report.notes());
    }
    // A habit: custom format in a file called `.sql`.
    Restored::of("app.sql", &dumps.custom).examine().must_be_clean();
}

#[test]
fn cut_custom_archives_are_never_green() {
    let Some(dumps) = dumps() else { return };
    for content in [&dumps.custom, &dumps.custom_piped, &dumps.uncompressed] {
        cut_everywhere("app.dump", content, 200, |_| false);
    }
    // Behind the table of contents, where `pg_restore -l` sees nothing wrong.
    let report = Restored::of("app.dump", &dumps.custom[..dumps.custom.len() - 10]).examine();
    report.must_find("pg_archive.truncated");
}

#[test]
fn a_flipped_bit_in_compressed_data_is_found() {
    let Some(dumps) = dumps() else { return };
    let notes = largest_zlib_stream(&dumps.custom);
    assert!(notes.len() > 1000);
    flip_everywhere("app.dump", &dumps.custom, 100, notes);
}

/// Where the compressed data of the largest table is.
fn largest_zlib_stream(content: &[u8]) -> std::ops::Range<usize> {
    let streams = (0..content.len()).filter(|at| content[*at] == 0x78).filter_map(|begin| {
        let mut decoder = flate2::bufread::ZlibDecoder::new(&content[begin..]);
        std::io::copy(&mut decoder, &mut std::io::sink()).ok()?;
        Some(begin..begin + usize::try_from(decoder.total_in()).unwrap())
    });
    streams.max_by_key(std::ops::Range::len).unwrap()
}

#[test]
fn an_archive_inside_a_gzip_is_followed() {
    let Some(dumps) = dumps() else { return };
    if !have(&["gzip"]) {
        return;
    }
    let gzip = |content: &[u8]| pipe(Command::new("gzip").arg("-c"), content);
    let report = Restored::of("app.dump.gz", &gzip(&dumps.custom)).examine();
    assert!(report.must_be_clean().notes().contains("data of 2 tables, 300 rows"), "{}", report.notes());
    // That nothing was loaded is said of what is inside, too.
    let unproven: Vec<_> = report.0.iter().flat_map(|examination| &examination.not_verified).collect();
    assert!(unproven.iter().any(|what| what.contains("whether an engine takes")), "{unproven:?}");
    let cut = gzip(&dumps.custom[..dumps.custom.len() - 9]);
    Restored::of("app.dump.gz", &cut).examine().must_find("pg_archive.truncated");
}

#[test]
fn a_directory_needs_all_of_its_files() {
    let Some(dumps) = dumps() else { return };
    let whole = Restored::new();
    for (name, content) in &dumps.directory {
        whole.put(&format!("dump/{name}"), content);
    }
    let report = whole.examine();
    assert!(report.must_be_clean().notes().contains("data of 2 tables, 300 rows"), "{}", report.notes());
    let data: Vec<_> = dumps.directory.iter().filter(|(name, _)| name.ends_with(".dat.gz")).collect();
    assert!(data.len() >= 2);
    for (missing, content) in data.iter().filter(|(name, _)| !name.starts_with("blob")) {
        std::fs::remove_file(whole.data().join("dump").join(missing)).unwrap();
        whole.examine().must_find("pg_archive.data_missing");
        whole.put(&format!("dump/{missing}"), &content[..content.len() / 2]);
        assert!(!whole.examine().looks_green());
        whole.put(&format!("dump/{missing}"), content);
    }
    // Whole as a gzip stream, but without the end of the table.
    if have(&["gzip"]) {
        let (name, content) = data[0];
        let cut = pipe(Command::new("gzip").arg("-c"), b"1\tone\n2\ttwo\n");
        whole.put(&format!("dump/{name}"), &cut);
        whole.examine().must_find("pg_archive.truncated");
        whole.put(&format!("dump/{name}"), content);
    }
    let (_, toc) = dumps.directory.iter().find(|(name, _)| name == "toc.dat").unwrap();
    for cut in [3, 20, 60, toc.len() / 2, toc.len() - 1] {
        whole.put("dump/toc.dat", &toc[..cut]);
        let report = whole.examine();
        assert!(!report.looks_green() || cut < 5, "toc.dat cut at {cut}: {report:#?}");
    }
}

#[test]
fn a_tar_archive_needs_all_of_its_members() {
    let Some(dumps) = dumps() else { return };
    let report = Restored::of("app.tar", &dumps.tar).examine();
    assert!(report.must_be_clean().notes().contains("data of 2 tables, 300 rows"), "{}", report.notes());
    let zeros = dumps.tar.iter().rev().take_while(|byte| **byte == 0).count();
    let end = dumps.tar.len() - zeros;
    // What is left of the first seven bytes is the text `toc.dat`, under a name that claims no dump.
    cut_everywhere("app.tar", &dumps.tar, 100, |length| length < 8 || length > end + 512);
    if !have(&["tar"]) {
        return;
    }
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.tar");
    std::fs::write(&path, &dumps.tar).unwrap();
    let members = String::from_utf8(run(Command::new("tar").arg("-tf").arg(&path))).unwrap();
    let member = members.lines().find(|name| name.ends_with(".dat") && *name != "toc.dat").unwrap();
    run(Command::new("tar").arg("--delete").arg("-f").arg(&path).arg(member));
    Restored::of("app.tar", &std::fs::read(&path).unwrap()).examine().must_find("pg_archive.data_missing");
}

#[test]
fn an_archive_of_a_newer_version_is_not_called_damaged() {
    let Some(dumps) = dumps() else { return };
    let mut newer = dumps.custom.clone();
    newer[6] = 99;
    let report = Restored::of("app.dump", &newer).examine();
    assert!(report.findings().is_empty() && report.interrupted().is_some(), "{report:#?}");
}

#[test]
fn fewer_rows_than_last_time_are_told() {
    let Some(dumps) = dumps() else { return };
    let mut before = Restored::of("app.dump", &dumps.custom).examine();
    Restored::of("app.dump", &dumps.custom).examine_after(&before).must_be_clean();
    let baseline = &mut before.0[0].baseline;
    let dumps_value = baseline.get_mut("dumps").unwrap();
    dumps_value["app.dump"]["tables"]["public.notes"] = 700.into();
    Restored::of("app.dump", &dumps.custom).examine_after(&before).must_find("structure.rows_fell");
}

#[test]
fn mutated_archives_never_panic() {
    let Some(dumps) = dumps() else { return };
    for (name, content) in [
        ("a.dump", &dumps.custom),
        ("a.dump", &dumps.uncompressed),
        ("a.tar", &dumps.tar),
        ("a.sql", &dumps.plain),
        ("a.sql", &dumps.inserts),
    ] {
        mutate_everywhere(name, content, 150);
    }
}
