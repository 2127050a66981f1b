//! No secret is told: not on the console, not in logs at their loudest, not in evidence, not in any report;
//! neither when all is well nor when something fails. Every other test here searches for the password of
//! the fixture; these use every other kind of secret, with everything that can be written.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result, ensure};
use firedrill_scenarios::damage;
use firedrill_scenarios::fleet::copy_repository;
use firedrill_scenarios::s3_server::S3Server;

use crate::fixture::{Fixture, PASSWORD};
use crate::place::{self, Answer, Place, Run};

const USER: &str = "Drill-User-5c1e";
/// With signs that have to be encoded in a URL.
const IN_URL: &str = "Url-Secret-8e21";
/// `USER:IN_URL` and `USER:PUSH` as basic authentication sends them.
const BASIC: &str = "RHJpbGwtVXNlci01YzFlOlVybC1TZWNyZXQtOGUyMQ==";
const PUSH: &str = "Push-Secret-b7d3";
const ACCESS_KEY: &str = "DRILLACCESSKEY77";
const SECRET_KEY: &str = "Aws-Secret-41fd/with+signs";

/// A run that writes everything that can be written, as loudly as it can.
fn loud(place: &Place) -> Result<Run<'_>> {
    let out = place.out();
    fs::create_dir_all(&out)?;
    let state = place.state();
    Ok(place
        .firedrill()?
        .args(["-vvv", "restore-test", "--json", "--state"])
        .arg(state)
        .arg("--scratch")
        .arg(place.path("scratch"))
        .arg("--json-file")
        .arg(out.join("r.json"))
        .arg("--junit")
        .arg(out.join("r.xml"))
        .arg("--html")
        .arg(out.join("r.html"))
        .arg("--prometheus-file")
        .arg(out.join("r.prom")))
}

/// Everything was written, so that there was something to search.
fn wrote_everything(place: &Place, answer: &Answer) -> Result<()> {
    for name in ["r.json", "r.xml", "r.html", "r.prom"] {
        let size = fs::metadata(place.out().join(name)).with_context(|| format!("{name} is missing"))?.len();
        ensure!(size > 100, "{name} has {size} bytes");
    }
    let run = answer.run.as_ref().context("there is evidence")?;
    ensure!(run.join("evidence.jsonl").is_file() && run.join("report.html").is_file(), "no evidence");
    Ok(())
}

#[test]
fn the_password_of_the_repository() {
    let fixture = Fixture::shared().unwrap();
    for (damage, code) in [(None, 0), (Some("data-bit"), 1), (Some("key-bit"), 1), (Some("config-bit"), 1)] {
        let place = Place::with(&fixture.rustic()).unwrap();
        if let Some(name) = damage {
            let operator = damage::named(name).unwrap();
            let _guard = operator.apply_to(&place.repository(), PASSWORD, 1, "alpha").unwrap();
        }
        // As an argument of the command that tells it: one who does that should at least not find it in reports.
        let run = loud(&place).unwrap().arg("--repository").arg(place.repository());
        let run = run.arg("--password-command").arg(format!("echo {PASSWORD}"));
        let answer = run.ends().unwrap().expect(code).unwrap();
        wrote_everything(&place, &answer).unwrap();
        if damage.is_none() {
            let judge = place.firedrill().unwrap().args(["-vvv", "judge"]).arg(answer.run.as_ref().unwrap());
            judge.ends().unwrap().expect(0).unwrap();
        }
        let run = loud(&place).unwrap().arg("--repository").arg(place.repository());
        run.arg(format!("--password-command=echo {PASSWORD}")).ends().unwrap().expect(code).unwrap();
    }
    let place = Place::with(&fixture.rustic()).unwrap();
    for (name, wrong) in
        [("RESTIC_PASSWORD", "Wrong-Secret-19aa"), ("RESTIC_PASSWORD_COMMAND", "echo Wrong-Secret-19aa")]
    {
        let run = loud(&place).unwrap().arg("--repository").arg(place.repository()).env(name, wrong);
        let answer = run.secret("Wrong-Secret-19aa").ends().unwrap().expect(2).unwrap();
        wrote_everything(&place, &answer).unwrap();
    }
    // A command that fails, and one that talks.
    let talks = "sh -c 'echo Talks-Secret-77 >&1; exit 3'";
    let run = loud(&place).unwrap().arg("--repository").arg(place.repository());
    run.arg("--password-command").arg(talks).secret("Talks-Secret-77").ends().unwrap().expect(64).unwrap();
}

/// With the password, and with an eye on what a URL may hold.
fn secretive(run: Run<'_>) -> Run<'_> {
    run.env("RESTIC_PASSWORD", PASSWORD).secret(IN_URL).secret(BASIC)
}

#[test]
fn credentials_in_the_address_of_a_server() {
    let fixture = Fixture::shared().unwrap();
    let server = Server::start(&fixture.rustic()).unwrap();
    let place = Place::new().unwrap();
    let url = |user: &str, port: u16| format!("rest:http://{user}127.0.0.1:{port}/");

    let good = format!("{USER}:{IN_URL}@");
    let run = secretive(loud(&place).unwrap().arg("--repository").arg(url(&good, server.port)));
    let answer = run.ends().unwrap().expect(0).unwrap();
    wrote_everything(&place, &answer).unwrap();
    answer.all_verified().unwrap();
    assert_eq!(answer.copy().unwrap().location, format!("rest:http://127.0.0.1:{}/", server.port));
    assert!(answer.judgement().unwrap().command.contains("rest:http://***@127.0.0.1"));

    let run = secretive(loud(&place).unwrap().arg("--repository").arg(url("", server.port)));
    let run = run.env("RESTIC_REST_USERNAME", USER).env("RESTIC_REST_PASSWORD", IN_URL);
    run.ends().unwrap().expect(0).unwrap();

    let file = place.path("address");
    fs::write(&file, url(&good, server.port)).unwrap();
    secretive(loud(&place).unwrap().arg("--repository-file").arg(file)).ends().unwrap().expect(0).unwrap();

    // Denied, and addresses that are none.
    let wrong = format!("{USER}:Wrong-{IN_URL}@");
    let run = secretive(loud(&place).unwrap().arg("--repository").arg(url(&wrong, server.port)));
    run.ends().unwrap().expect(2).unwrap().says(&["access denied"]).unwrap();
    for address in [
        format!("rest:http://{USER}:{IN_URL}@"),
        format!("rest:http://{USER}:{IN_URL}@host:port/"),
        format!("rest:http://{USER}:{IN_URL}/#?@host/"),
        format!("rest:htp://{USER}:{IN_URL}@host/"),
        format!("rest:{USER}:{IN_URL}@host/"),
        format!("sftp://{USER}:{IN_URL}@host/x"),
        format!("https://{USER}:{IN_URL}@host/x"),
        format!("s3:https://{USER}:{IN_URL}@"),
    ] {
        let run = secretive(loud(&place).unwrap().arg("--repository").arg(&address));
        run.ends().unwrap().expect(64).with_context(|| address.clone()).unwrap();
    }
    assert!(server.served.load(Ordering::Relaxed) > 20, "the server was asked");
}

/// All of them try several times before they give up, so they do it at once.
#[test]
fn credentials_in_an_address_where_nobody_is() {
    let plain = format!("rest:http://{USER}:{IN_URL}@127.0.0.1:1/");
    let spaced = format!("rest:http://{USER}:Sp aced {IN_URL}@127.0.0.1:1/");
    let cases = [(plain.as_str(), false), (&spaced, false), (&spaced, true)];
    place::all(&cases, |(address, configured)| {
        let place = Place::new()?;
        let run = secretive(loud(&place)?);
        let run = if configured {
            let config = place.path("firedrill.yaml");
            let copy = format!("{{name: primary, role: primary, repository: '{address}'}}");
            fs::write(&config, format!("version: 1\ncopies: [{copy}]\n"))?;
            run.arg("--config").arg(config)
        } else {
            run.arg("--repository").arg(address)
        };
        let answer = run.ends()?.expect(2)?.says(&["nothing answers there"])?;
        wrote_everything(&place, &answer)
    });
}

#[test]
fn keys_of_a_bucket() {
    let fixture = Fixture::shared().unwrap();
    let folder = place::folder().unwrap();
    let server = S3Server::start(folder.path(), ACCESS_KEY, SECRET_KEY).unwrap();
    let bucket = server.create_bucket("backups").unwrap();
    copy_repository(&fixture.rustic(), &bucket.join("small")).unwrap();
    let address = format!("s3:{}/backups/small", server.endpoint());
    let run = |place: &Place, key: &str, secret: &str| {
        let run = loud(place).unwrap().arg("--repository").arg(&address);
        let run =
            run.args(["--region", "us-east-1", "--path-style", "true"]).env("RESTIC_PASSWORD", PASSWORD);
        let run = run.env("AWS_ACCESS_KEY_ID", key).env("AWS_SECRET_ACCESS_KEY", secret);
        let run = run.env("AWS_SESSION_TOKEN", if secret == SECRET_KEY { "" } else { "Aws-Token-90aa" });
        run.secret(secret).secret("Aws-Token-90aa").ends().unwrap()
    };
    let place = Place::new().unwrap();
    let answer = run(&place, ACCESS_KEY, SECRET_KEY).expect(0).unwrap();
    answer.all_verified().unwrap();
    wrote_everything(&place, &answer).unwrap();
    // A wrong secret, then a repository that is damaged.
    run(&place, ACCESS_KEY, "Wrong-Aws-Secret-66").expect(2).unwrap();
    let operator = damage::named("tree-bit").unwrap();
    let _guard = operator.apply_to(&bucket.join("small"), PASSWORD, 1, "alpha").unwrap();
    run(&place, ACCESS_KEY, SECRET_KEY).expect(1).unwrap();
}

#[test]
fn passwords_of_a_pushgateway() {
    let fixture = Fixture::shared().unwrap();
    let place = Place::with(&fixture.rustic()).unwrap();
    // Nothing there, and something that says no.
    let server = Server::start(&fixture.rustic()).unwrap();
    for port in [1, server.port] {
        let url = format!("http://{USER}:{PUSH}@127.0.0.1:{port}");
        let run = loud(&place)
            .unwrap()
            .arg("--repository")
            .arg(place.repository())
            .env("RESTIC_PASSWORD", PASSWORD);
        let answer = run.arg("--pushgateway").arg(&url).secret(PUSH).ends().unwrap().expect(5).unwrap();
        wrote_everything(&place, &answer).unwrap();

        let config = place.path("firedrill.yaml");
        let repository = serde_json::to_string(&place.repository()).unwrap();
        let text = format!(
            "version: 1\n\
             copies: [{{name: primary, role: primary, repository: {repository}, password_env: DRILL_PASSWORD}}]\n\
             canary: {{key_env: DRILL_CANARY}}\n\
             sinks: {{pushgateway: {{url: 'http://127.0.0.1:{port}', username: {USER}, password_env: DRILL_PUSH}}}}\n"
        );
        fs::write(&config, text).unwrap();
        let canary = "c4".repeat(32);
        let run = loud(&place).unwrap().arg("--config").arg(&config).env("DRILL_PASSWORD", PASSWORD);
        let run = run.env("DRILL_PUSH", PUSH).secret(PUSH).env("DRILL_CANARY", &canary).secret(&canary);
        run.ends().unwrap().expect(5).unwrap();
    }
    assert!(!server.asked_by_push.lock().unwrap().is_empty(), "the gateway was asked");
}

/// A restic server, for reading: answers only who authenticates as `USER` with `IN_URL`.
struct Server {
    port: u16,
    stop: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    asked_by_push: Arc<Mutex<Vec<String>>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    fn start(repository: &Path) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let port = listener.local_addr()?.port();
        let (stop, served, asked) = <(Arc<AtomicBool>, Arc<AtomicUsize>, Arc<Mutex<Vec<String>>>)>::default();
        let root = repository.to_owned();
        let (ending, counter, pushes) = (Arc::clone(&stop), Arc::clone(&served), Arc::clone(&asked));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ending.load(Ordering::Relaxed) {
                    return;
                }
                let (root, counter, pushes) = (root.clone(), Arc::clone(&counter), Arc::clone(&pushes));
                std::thread::spawn(move || {
                    if let Ok(stream) = stream {
                        // A client that goes away is none of our business.
                        let _ = answer(stream, &root, &counter, &pushes);
                    }
                });
            }
        });
        Ok(Self { port, stop, served, asked_by_push: asked, thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // It waits for somebody to come.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer(stream: TcpStream, root: &Path, served: &AtomicUsize, pushes: &Mutex<Vec<String>>) -> Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        lines.push(line.trim().to_owned());
    }
    let header = |name: &str| {
        let found = lines.iter().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}: ")));
        found.and_then(|line| line.split_once(": ")).map(|(_, value)| value.to_owned())
    };
    let mut words = lines.first().context("a request has a line")?.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if path.contains("/metrics") {
        pushes.lock().unwrap().push(path.clone());
    }
    let length = header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    std::io::copy(&mut reader.take(length), &mut std::io::sink())?;
    let allowed = header("authorization").is_some_and(|text| text == format!("Basic {BASIC}"));
    let mut stream = stream;
    let (status, body) = match allowed {
        false => ("401 Unauthorized", Vec::new()),
        true => content(root, path.trim_start_matches('/'))
            .map_or(("404 Not Found", Vec::new()), |c| ("200 OK", c)),
    };
    served.fetch_add(1, Ordering::Relaxed);
    let (status, body) = match header("range").filter(|_| status == "200 OK") {
        Some(range) => ("206 Partial Content", cut(&body, &range).context("a range of bytes")?),
        None => (status, body),
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: application/vnd.x.restic.rest.v2\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    if method != "HEAD" {
        stream.write_all(&body)?;
    }
    Ok(())
}

/// A file, or the listing of a folder, at `path`.
fn content(root: &Path, path: &str) -> Option<Vec<u8>> {
    let path = path.split('?').next()?;
    if path == "config" {
        return fs::read(root.join("config")).ok();
    }
    let (kind, id) = path.split_once('/')?;
    let place = |id: &str| match kind {
        "data" => root.join("data").join(id.get(..2).unwrap_or("zz")).join(id),
        _ => root.join(kind).join(id),
    };
    if !id.is_empty() {
        return fs::read(place(id)).ok();
    }
    let mut folders = vec![root.join(kind)];
    let mut listed = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.metadata().ok()? {
                meta if meta.is_dir() => folders.push(entry.path()),
                meta => {
                    listed.push(serde_json::json!({"name": entry.file_name().to_str()?, "size": meta.len()}))
                }
            }
        }
    }
    serde_json::to_vec(&listed).ok()
}

/// The part of `body` that `bytes=FROM-TO` names.
fn cut(body: &[u8], range: &str) -> Option<Vec<u8>> {
    let (from, to) = range.strip_prefix("bytes=")?.split_once('-')?;
    let (from, to): (usize, usize) = (from.parse().ok()?, to.parse().ok()?);
    body.get(from..body.len().min(to.checked_add(1)?)).map(<[u8]>::to_vec)
}
