//! The S3 backend against an S3 server, beside real restic, and against servers that misbehave.
#![expect(clippy::unwrap_used, reason = "this is all test")]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use firedrill_backends::repository::error::{Trouble, to_error, trouble};
use firedrill_backends::repository::location::{Access, Environment, Location};
use firedrill_core::error::{Error, ErrorKind};
use firedrill_scenarios::s3_server::S3Server;
use rustic_core::{
    BackupOptions, ConfigOptions, Credentials, FileType, Id, KeyOptions, PathList, Repository,
    RepositoryBackends, RepositoryOptions, SnapshotOptions, WriteBackend,
};

#[path = "support/binary.rs"]
mod binary;

const KEY: &str = "firedrill";
const SECRET: &str = "firedrill-secret";
const PASSWORD: &str = "correct horse";

/// A server with one bucket.
struct Fixture {
    server: S3Server,
    folder: tempfile::TempDir,
    restic: &'static str,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("s3");
        std::fs::create_dir(&root).unwrap();
        let server = S3Server::start(&root, KEY, SECRET).unwrap();
        server.create_bucket("bucket").unwrap();
        Self { server, folder, restic: "restic" }
    }

    fn address(&self, place: &str) -> String {
        format!("s3:{}/{place}", self.server.endpoint())
    }

    fn location(&self, place: &str) -> Location {
        Location::parse(&self.address(place)).unwrap()
    }

    /// Some files, one of them large enough for several blobs.
    fn source(&self) -> PathBuf {
        let source = self.folder.path().join("source");
        std::fs::create_dir_all(source.join("folder")).unwrap();
        std::fs::write(source.join("folder/small"), "content of a small file").unwrap();
        std::fs::write(source.join("large"), noise(6 << 20)).unwrap();
        source
    }

    fn restic(&self, place: &str, arguments: &[&str]) -> Output {
        Command::new(self.restic)
            .args(["--no-cache", "-r", &self.address(place)])
            .args(arguments)
            .env("AWS_ACCESS_KEY_ID", KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET)
            .env("RESTIC_PASSWORD", PASSWORD)
            .output()
            .unwrap()
    }
}

/// Bytes that do not compress and do not repeat, always the same.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let step = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(step).flatten().take(length).collect()
}

fn access(key: &str, secret: &str) -> Access {
    let env = Environment::default()
        .with("AWS_ACCESS_KEY_ID", key)
        .with("AWS_SECRET_ACCESS_KEY", secret)
        .with("AWS_EC2_METADATA_DISABLED", "true");
    Access { retries: 1, ..Access::from_environment(env) }
}

fn good() -> Access {
    access(KEY, SECRET)
}

fn repository(backend: Arc<dyn WriteBackend>) -> Repository<()> {
    let options = RepositoryOptions::default().no_cache(true);
    Repository::new(&options, &RepositoryBackends::new(backend, None)).unwrap()
}

/// Makes a repository with rustic_core and backs up `source`.
fn back_up(backend: Arc<dyn WriteBackend>, source: &Path) {
    let repository = repository(backend)
        .init(&Credentials::password(PASSWORD), &KeyOptions::default(), &ConfigOptions::default())
        .unwrap()
        .to_indexed_ids()
        .unwrap();
    let paths = PathList::from_iter([source]);
    let snapshot = SnapshotOptions::default().add_tags("tag").unwrap().to_snapshot().unwrap();
    repository.backup(&BackupOptions::default(), &paths, snapshot).unwrap();
}

/// The content of `source/large` as rustic_core reads it back.
fn read_back(backend: Arc<dyn WriteBackend>, source: &Path) -> Vec<u8> {
    let repository = repository(backend).open(&Credentials::password(PASSWORD)).unwrap();
    let repository = repository.to_indexed().unwrap();
    assert_eq!(repository.get_all_snapshots().unwrap().len(), 1);
    let path = format!("latest:{}", source.join("large").display());
    let node = repository.node_from_snapshot_path(&path, |_| true).unwrap();
    let mut content = Vec::new();
    repository.dump(&node, &mut content).unwrap();
    content
}

#[track_caller]
fn succeeded(output: &Output) -> String {
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn what_rustic_writes_rustic_and_restic_read() {
    let fixture = Fixture::new();
    let source = fixture.source();
    for place in ["bucket/some/prefix", "bucket"] {
        back_up(fixture.location(place).open_writable(&good()).unwrap(), &source);
        let backend = fixture.location(place).open(&good()).unwrap();
        assert!(read_back(Arc::clone(&backend), &source) == noise(6 << 20));
        assert!(backend.remove(FileType::Config, &Id::default(), false).is_err(), "reading only");
        if firedrill_testing::have(&["restic"]) {
            succeeded(&fixture.restic(place, &["check", "--read-data"]));
            let path = source.join("folder/small");
            let dumped = fixture.restic(place, &["dump", "latest", path.to_str().unwrap()]);
            assert_eq!(succeeded(&dumped), "content of a small file");
        }
    }
    let objects = fixture.folder.path().join("s3/bucket/some/prefix");
    assert!(objects.join("config").is_file() && objects.join("data").is_dir());
}

#[test]
fn what_restic_writes_is_read() {
    if !firedrill_testing::have(&["restic"]) {
        return;
    }
    let fixture = Fixture::new();
    let source = fixture.source();
    succeeded(&fixture.restic("bucket/r", &["init"]));
    succeeded(&fixture.restic("bucket/r", &["backup", source.to_str().unwrap()]));
    let backend = fixture.location("bucket/r").open(&good()).unwrap();
    assert!(read_back(backend, &source) == noise(6 << 20));
}

/// Repositories that three generations of real restic wrote into a bucket, drilled by the command.
#[test]
fn what_every_restic_writes_into_a_bucket_is_proven() {
    let mut proven = 0;
    for restic in ["restic-0.14", "restic-0.18", "restic-0.19"] {
        if !firedrill_testing::have(&[restic]) {
            continue;
        }
        for version in ["1", "2"] {
            let fixture = Fixture { restic, ..Fixture::new() };
            let source = fixture.source();
            std::os::unix::fs::symlink("small", source.join("folder/link")).unwrap();
            std::fs::hard_link(source.join("large"), source.join("twin")).unwrap();
            succeeded(&fixture.restic("bucket/r", &["init", "--repository-version", version]));
            succeeded(&fixture.restic("bucket/r", &["backup", "--tag", "files", source.to_str().unwrap()]));
            let folder = |name| fixture.folder.path().join(name);
            let drilled = Command::new(binary::binary().unwrap())
                .args(["restore-test", "--json", "-r", &fixture.address("bucket/r"), "--state"])
                .arg(folder("state"))
                .arg("--scratch")
                .arg(folder("scratch"))
                .env("AWS_ACCESS_KEY_ID", KEY)
                .env("AWS_SECRET_ACCESS_KEY", SECRET)
                .env("RESTIC_PASSWORD", PASSWORD)
                .output()
                .unwrap();
            let judgement: serde_json::Value = serde_json::from_str(&succeeded(&drilled)).unwrap();
            assert_eq!(judgement["drills"][0]["verdict"], "verified", "{restic}, format {version}");
            assert_eq!(judgement["drills"][0]["files"], 2, "{restic}, format {version}");
            proven += 1;
        }
    }
    assert!(proven > 0 || !firedrill_testing::have(&["restic-0.19"]), "nothing was proven");
}

/// What comes of opening, which has to fail, within reason.
#[track_caller]
fn refused(address: &str, access: &Access) -> Error {
    let started = Instant::now();
    let error = Location::parse(address).unwrap().open(access).unwrap_err();
    let told = error.chain();
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}: {told}", started.elapsed());
    assert!(!told.contains(SECRET) && !told.contains('\n'), "{told}");
    error
}

#[test]
fn what_is_wrong_is_told_apart() {
    let fixture = Fixture::new();
    let address = fixture.address("bucket/none");
    let nowhere = fixture.address("nowhere/x");
    for (address, access, kind, words) in [
        (address.as_str(), good(), ErrorKind::NoRepository, "no `config` file"),
        (&nowhere, good(), ErrorKind::NoRepository, "there is no bucket nowhere"),
        (&address, access("stranger", SECRET), ErrorKind::Unavailable, "AWS_ACCESS_KEY_ID"),
        (&address, access(KEY, "wrong"), ErrorKind::Unavailable, "AWS_SECRET_ACCESS_KEY"),
        ("s3:http://127.0.0.1:1/bucket", good(), ErrorKind::Unavailable, "nothing answers there"),
        ("s3:http://no-such-host.invalid/bucket", good(), ErrorKind::Unavailable, "host name"),
    ] {
        let error = refused(address, &access);
        assert_eq!(error.kind, kind, "{}", error.chain());
        assert!(error.chain().contains(words), "{address}: {}", error.chain());
    }
}

#[test]
fn missing_credentials_fail_soon() {
    let fixture = Fixture::new();
    // Something that takes connections and never answers, in the place of the metadata service.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}", listener.local_addr().unwrap());
    let none = Environment::default();
    for env in [
        none.clone().with("AWS_EC2_METADATA_DISABLED", "true"),
        none.with("AWS_EC2_METADATA_SERVICE_ENDPOINT", &silent),
    ] {
        let started = Instant::now();
        let error = refused(&fixture.address("bucket/x"), &Access::from_environment(env));
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
        assert_eq!(error.kind, ErrorKind::Usage, "{}", error.chain());
        assert!(error.chain().contains("AWS_PROFILE"), "{}", error.chain());
    }
}

#[test]
fn keys_come_from_a_profile_too() {
    let fixture = Fixture::new();
    let file = fixture.folder.path().join("credentials");
    let profile = format!("[drill]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n");
    std::fs::write(&file, profile).unwrap();
    let env = Environment::default()
        .with("AWS_SHARED_CREDENTIALS_FILE", file.to_str().unwrap())
        .with("AWS_EC2_METADATA_DISABLED", "true")
        .with("AWS_PROFILE", "drill");
    let error = refused(&fixture.address("bucket/x"), &Access::from_environment(env.clone()));
    assert_eq!(error.kind, ErrorKind::NoRepository, "{}", error.chain());
    let other = Access::from_environment(env.with("AWS_PROFILE", "other"));
    assert_eq!(refused(&fixture.address("bucket/x"), &other).kind, ErrorKind::Usage);
}

#[test]
fn listings_have_as_many_pages_as_they_need() {
    let fixture = Fixture::new();
    let backend = fixture.location("bucket/p").open_writable(&good()).unwrap();
    let id_of = |n: u32| -> Id { format!("{n:064x}").parse().unwrap() };
    std::thread::scope(|scope| {
        for worker in 0..4_u32 {
            let backend = &backend;
            scope.spawn(move || {
                for n in (worker..1100).step_by(4) {
                    let content = vec![0; (n % 7) as usize].into();
                    backend.write_bytes(FileType::Snapshot, &id_of(n), false, content).unwrap();
                }
            });
        }
    });
    let folder = fixture.folder.path().join("s3/bucket/p/snapshots");
    std::fs::write(folder.join("not-an-id"), "x").unwrap();
    std::fs::write(folder.join("AB".repeat(32)), "x").unwrap();
    let mut listed = backend.list_with_size(FileType::Snapshot).unwrap();
    listed.sort();
    let expected: Vec<_> = (0..1100).map(|n| (id_of(n), n % 7)).collect();
    assert_eq!(listed, expected);
    assert!(backend.list(FileType::Index).unwrap().is_empty());
    backend.remove(FileType::Snapshot, &id_of(5), false).unwrap();
    assert_eq!(backend.list(FileType::Snapshot).unwrap().len(), 1099);
}

#[test]
fn objects_are_read_whole_and_in_part() {
    let fixture = Fixture::new();
    let backend = fixture.location("bucket/p").open_writable(&good()).unwrap();
    let id: Id = "ab".repeat(32).parse().unwrap();
    backend.write_bytes(FileType::Pack, &id, false, b"0123456789".to_vec().into()).unwrap();
    let read = |offset, length| backend.read_partial(FileType::Pack, &id, false, offset, length);
    assert_eq!(backend.read_full(FileType::Pack, &id).unwrap(), "0123456789");
    assert_eq!(read(2, 3).unwrap(), "234");
    assert_eq!(read(9, 1).unwrap(), "9");
    assert_eq!(read(5, 0).unwrap(), "");
    for (offset, length) in [(8, 3), (10, 1), (u32::MAX, u32::MAX)] {
        assert_eq!(trouble(&read(offset, length).unwrap_err()), Trouble::Short, "{offset} {length}");
    }
    let other: Id = "cd".repeat(32).parse().unwrap();
    assert_eq!(trouble(&backend.read_full(FileType::Pack, &other).unwrap_err()), Trouble::Missing);
    assert_eq!(backend.list_with_size(FileType::Pack).unwrap(), [(id, 10)]);
    assert_eq!(backend.warmup_path(FileType::Pack, &id), format!("p/data/ab/{}", "ab".repeat(32)));
}

#[test]
fn every_kind_of_thread_may_call() {
    let fixture = Fixture::new();
    let backend = fixture.location("bucket/p").open_writable(&good()).unwrap();
    backend.write_bytes(FileType::Config, &Id::default(), false, b"config".to_vec().into()).unwrap();
    let read = move || backend.read_full(FileType::Config, &Id::default()).unwrap();
    assert_eq!(std::thread::spawn(read.clone()).join().unwrap(), "config");
    for mut builder in
        [tokio::runtime::Builder::new_multi_thread(), tokio::runtime::Builder::new_current_thread()]
    {
        let runtime = builder.enable_all().build().unwrap();
        let (blocking, direct) = (read.clone(), read.clone());
        let location = fixture.location("bucket/p");
        runtime.block_on(async move {
            assert_eq!(tokio::task::spawn_blocking(blocking).await.unwrap(), "config");
            // Nobody should, but it must not panic either; nor must the end of a backend.
            assert_eq!(direct(), "config");
            drop(location.open_writable(&good()).unwrap());
        });
    }
}

/// A server that answers each request with the next of `answers`, and tells what it was asked.
fn canned(answers: Vec<String>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("s3:http://{}/bucket", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&asked);
    std::thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut buffer = [0; 4096];
            while !request.windows(4).any(|four| four == b"\r\n\r\n") {
                let read = stream.read(&mut buffer).unwrap();
                request.extend_from_slice(&buffer[..read]);
            }
            kept.lock().unwrap().push(String::from_utf8_lossy(&request).to_lowercase());
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    (address, asked)
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n{body}")
}

fn fault(status: &str, headers: &str, code: &str) -> String {
    answer(status, headers, &format!("<Error><Code>{code}</Code><Message>text</Message></Error>"))
}

/// A pack read from a server with such answers.
fn pack_from(answers: Vec<String>, range: Option<(u32, u32)>) -> Result<bytes::Bytes, Trouble> {
    let (address, _) = canned(answers);
    let backend = Location::parse(&address).unwrap().open_writable(&good()).unwrap();
    let read = match range {
        Some((offset, length)) => backend.read_partial(FileType::Pack, &Id::default(), false, offset, length),
        None => backend.read_full(FileType::Pack, &Id::default()),
    };
    read.map_err(|error| trouble(&error))
}

#[test]
fn uploads_are_plain_signed_puts() {
    let (address, asked) = canned(vec![answer("200 OK", "", "")]);
    let backend = Location::parse(&address).unwrap().open_writable(&good()).unwrap();
    backend.write_bytes(FileType::Config, &Id::default(), false, b"config".to_vec().into()).unwrap();
    let request = asked.lock().unwrap().remove(0);
    assert!(request.starts_with("put /bucket/config"), "{request}");
    assert!(request.contains("content-length: 6"), "{request}");
    assert!(!request.contains("aws-chunked") && !request.contains("trailer"), "{request}");
    let digest = request.lines().find_map(|line| line.strip_prefix("x-amz-content-sha256: "));
    assert!(digest.is_some_and(|digest| digest.len() == 64), "{request}");
}

#[test]
fn servers_that_misbehave_are_not_believed() {
    let short = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\n012".to_owned();
    let whole = answer("200 OK", "", "0123456789");
    // What breaks off is read again.
    assert_eq!(pack_from(vec![short.clone(), whole.clone()], None).unwrap(), "0123456789");
    assert_eq!(pack_from(vec![short.clone(), short], None), Err(Trouble::Unreachable));
    // A range that was ignored is cut out; one that is wrong is refused.
    assert_eq!(pack_from(vec![whole.clone()], Some((2, 3))).unwrap(), "234");
    assert_eq!(pack_from(vec![whole], Some((8, 3))), Err(Trouble::Short));
    let range = |range: &str, body: &str| {
        answer("206 Partial Content", &format!("Content-Range: bytes {range}/10\r\n"), body)
    };
    assert_eq!(pack_from(vec![range("2-4", "234")], Some((2, 3))).unwrap(), "234");
    assert_eq!(pack_from(vec![range("2-3", "23")], Some((2, 3))), Err(Trouble::Short));
    assert_eq!(pack_from(vec![range("0-2", "012")], Some((2, 3))), Err(Trouble::Other));
    // Nobody makes us allocate gigabytes.
    let huge = "HTTP/1.1 200 OK\r\nContent-Length: 4000000000\r\nConnection: close\r\n\r\n".to_owned();
    assert_eq!(pack_from(vec![huge], None), Err(Trouble::Oversized));
}

#[test]
fn refusals_over_the_wire_are_recognised() {
    let cold = fault("403 Forbidden", "", "InvalidObjectState");
    assert_eq!(pack_from(vec![cold], None), Err(Trouble::Cold));
    let moved = fault("301 Moved", "x-amz-bucket-region: eu-central-1\r\n", "PermanentRedirect");
    assert_eq!(pack_from(vec![moved], None), Err(Trouble::Moved));
    let busy = fault("503 Service Unavailable", "", "SlowDown");
    assert_eq!(pack_from(vec![busy.clone(), answer("200 OK", "", "pack")], None).unwrap(), "pack");
    assert_eq!(pack_from(vec![busy.clone(), busy], None), Err(Trouble::Busy));
}

#[test]
fn endless_listings_end() {
    let page = "<ListBucketResult><IsTruncated>true</IsTruncated>\
                <NextContinuationToken>again</NextContinuationToken></ListBucketResult>";
    let (address, asked) = canned(vec![answer("200 OK", "", page); 3]);
    let backend = Location::parse(&address).unwrap().open_writable(&good()).unwrap();
    let error = backend.list(FileType::Snapshot).unwrap_err();
    assert_eq!(trouble(&error), Trouble::Other);
    assert_eq!(asked.lock().unwrap().len(), 2);
}

/// A web server with TLS, killed in the end.
struct TlsServer {
    process: std::process::Child,
    port: u16,
    certificate: PathBuf,
}

impl TlsServer {
    fn start(folder: &Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (key, certificate) = (folder.join("key.pem"), folder.join("certificate.pem"));
        let openssl = |arguments: &str| {
            let mut command = Command::new("openssl");
            command.args(arguments.split_whitespace()).args(["-out".as_ref(), certificate.as_os_str()]);
            command.arg("-keyout").arg(&key);
            succeeded(&command.output().unwrap());
        };
        openssl(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=drill \
             -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE",
        );
        let process = Command::new("openssl")
            .args(["s_server", "-www", "-quiet", "-accept", &format!("127.0.0.1:{port}"), "-key"])
            .args([key.as_os_str(), "-cert".as_ref(), certificate.as_os_str()])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        for _ in 0..100 {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Self { process, port, certificate }
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn certificates_are_checked() {
    if !firedrill_testing::have(&["openssl"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let server = TlsServer::start(folder.path());
    for kind in ["s3", "rest"] {
        let location = format!("{kind}:https://127.0.0.1:{}/bucket", server.port);
        let location = Location::parse(&location).unwrap();
        let read = |access: &Access| {
            let backend = location.open_writable(access).unwrap();
            backend.read_full(FileType::Pack, &Id::default())
        };
        let error = read(&good()).unwrap_err();
        assert_eq!(trouble(&error), Trouble::Untrusted, "{kind}: {error}");
        let told = to_error(ErrorKind::Unavailable, "open", &error).chain();
        assert!(told.contains("--cacert"), "{told}");
        let trusting = Access { ca_cert: Some(server.certificate.clone()), ..good() };
        let page = read(&trusting).unwrap();
        assert!(page.starts_with(b"<HTML>"), "{kind}: {page:?}");
    }
}
