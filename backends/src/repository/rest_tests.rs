use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use firedrill_core::watch::Watch;

use super::*;
use crate::repository::access::Environment;
use crate::repository::error::trouble;
use crate::repository::location::Location;

/// A server that answers each request as told, and remembers what it was asked.
struct Server {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

/// `answer` gets the first line of a request, and returns status line and body.
fn serve(answer: impl Fn(&str) -> (&'static str, &'static [u8]) + Send + 'static) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            let mut buffer = [0; 4096];
            while !request.windows(4).any(|four| four == b"\r\n\r\n") {
                match stream.read(&mut buffer) {
                    Ok(0) | Err(_) => break,
                    Ok(read) => request.extend_from_slice(&buffer[..read]),
                }
            }
            let request = String::from_utf8_lossy(&request).into_owned();
            let (status, body) = answer(request.lines().next().unwrap_or_default());
            kept.lock().unwrap_or_else(PoisonError::into_inner).push(request);
            let length = body.len();
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
        }
    });
    Server { address, asked }
}

fn access(env: Environment) -> Access {
    Access { retries: 0, ..Access::from_environment(env) }
}

fn attempt(server: &Server, user: &str) -> Result<Arc<dyn WriteBackend>> {
    let address = format!("rest:http://{user}{}/repo", server.address);
    Location::parse(&address).unwrap().open(&access(Environment::default()))
}

#[test]
fn a_refusal_is_not_an_absence() {
    for status in ["401 Unauthorized", "403 Forbidden"] {
        let server = serve(move |_| (status, b""));
        let error = attempt(&server, "me:hunter2@").unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable);
        assert!(error.chain().contains("RESTIC_REST_USERNAME"), "{}", error.chain());
        assert!(!error.chain().contains("hunter2"), "{}", error.chain());
    }
    let server = serve(|_| ("404 Not Found", b""));
    assert_eq!(attempt(&server, "").unwrap_err().kind, ErrorKind::NoRepository);
    let server = serve(|_| ("500 Internal Server Error", b""));
    let error = attempt(&server, "").unwrap_err();
    assert!(error.kind == ErrorKind::Unavailable && error.chain().contains("try again later"));
}

#[test]
fn nobody_home_is_told_as_such() {
    let address = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let place = Location::parse(&format!("rest:http://me:hunter2@{address}/")).unwrap();
    let error = place.open(&access(Environment::default())).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.chain().contains("nothing answers there"), "{}", error.chain());
    assert!(!error.chain().contains("hunter2"), "{}", error.chain());
    let place = Location::parse("rest:http://no-such-host.invalid/").unwrap();
    let error = place.open(&access(Environment::default())).unwrap_err();
    assert!(error.chain().contains("host name"), "{}", error.chain());
}

#[test]
fn odd_passwords_arrive_unchanged() {
    let password = "p@ss:/?#%41 \u{e4}";
    let env = Environment::default().with("RESTIC_REST_USERNAME", "us@er");
    let env = env.with("RESTIC_REST_PASSWORD", password);
    let authorization = |user: &str, env: Environment| {
        let server = serve(|_| ("200 OK", b"config"));
        let place = Location::parse(&format!("rest:http://{user}{}/repo", server.address)).unwrap();
        place.open(&access(env)).unwrap();
        let asked = server.asked.lock().unwrap();
        let line = asked[0].lines().find(|line| line.to_lowercase().starts_with("authorization: basic "));
        line.map(|line| {
            let coded = line.rsplit(' ').next().unwrap();
            String::from_utf8(base64::engine::general_purpose::STANDARD.decode(coded).unwrap()).unwrap()
        })
    };
    assert_eq!(authorization("", env.clone()), Some(format!("us@er:{password}")));
    // The address comes before the environment, as in restic.
    assert_eq!(authorization("a:b%40c@", env), Some("a:b@c".to_owned()));
    assert_eq!(authorization("", Environment::default()), None);
}

#[test]
fn ranges_are_not_believed() {
    let server = serve(|line| match line.starts_with("GET /repo/config") {
        true => ("200 OK", b"config"),
        false => ("200 OK", b"0123456789"),
    });
    let backend = attempt(&server, "").unwrap();
    let read = |offset, length| backend.read_partial(FileType::Pack, &Id::default(), false, offset, length);
    assert_eq!(read(2, 3).unwrap(), "234", "the server ignores ranges");
    assert_eq!(read(0, 0).unwrap(), "");
    for (offset, length) in [(8, 3), (0, 11), (u32::MAX, 2)] {
        assert_eq!(trouble(&read(offset, length).unwrap_err()), Trouble::Short, "{offset} {length}");
    }
}

#[test]
fn a_missing_folder_is_empty_where_there_is_a_repository() {
    let server = serve(|line| match line.starts_with("GET /repo/config") {
        true => ("200 OK", b"config"),
        false => ("404 Not Found", b""),
    });
    let backend = attempt(&server, "").unwrap();
    assert_eq!(backend.list_with_size(FileType::Config).unwrap(), [(Id::default(), 6)]);
    assert!(backend.list_with_size(FileType::Snapshot).unwrap().is_empty());
    let gone = serve(|_| ("404 Not Found", b""));
    let place = Location::parse(&format!("rest:http://{}/repo", gone.address)).unwrap();
    let backend = place.open_writable(&access(Environment::default())).unwrap();
    assert!(backend.list_with_size(FileType::Snapshot).is_err());
}

#[test]
fn nothing_shows_the_password() {
    let server = serve(|_| ("200 OK", b"config"));
    let backend = attempt(&server, "me:hunter2@").unwrap();
    let shown =
        format!("{} {backend:?} {}", backend.location(), backend.warmup_path(FileType::Pack, &Id::default()));
    assert!(!shown.contains("hunter2"), "{shown}");
}

/// How often a server is asked by somebody with this access, and what comes of it.
fn asked(server: &Server, access: &Access) -> (usize, Result<()>) {
    let place = Location::parse(&format!("rest:http://{}/repo", server.address)).unwrap();
    let opened = place.open(access).map(drop);
    (server.asked.lock().unwrap().len(), opened)
}

#[test]
fn a_server_that_asks_for_patience_is_asked_again() {
    let tries = AtomicUsize::new(0);
    let server = serve(move |_| match tries.fetch_add(1, Ordering::SeqCst) {
        0 => ("429 Too Many Requests", b""),
        1 => ("503 Service Unavailable", b""),
        _ => ("200 OK", b"config"),
    });
    let (times, opened) = asked(&server, &Access { retries: 2, ..access(Environment::default()) });
    assert!(opened.is_ok() && times == 3, "{times}: {opened:?}");
}

#[test]
fn a_refusal_that_is_meant_is_not_asked_again() {
    let server = serve(|_| ("403 Forbidden", b""));
    let (times, opened) = asked(&server, &Access { retries: 5, ..access(Environment::default()) });
    assert!(opened.is_err() && times == 1, "{times}: {opened:?}");
}

#[test]
fn nobody_tries_again_whose_time_is_over() {
    let server = serve(|_| ("503 Service Unavailable", b""));
    let over = Watch::unlimited().within(Some(Duration::ZERO));
    let (times, opened) =
        asked(&server, &Access { retries: 5, ..access(Environment::default()) }.watched(&over));
    assert!(opened.is_err() && times == 1, "{times}: {opened:?}");
}
