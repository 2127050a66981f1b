//! A proxy in front of a healthy server that behaves as bad servers do.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::http::{Message, ask};

const CONNECTIONS_MAX: usize = 64;
const HANG_MAX: Duration = Duration::from_secs(120);

/// What goes wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// Answers with this status instead.
    Status(u16),
    /// Announces the whole body, sends this many bytes of it, and cuts the line.
    CutAfter(usize),
    /// Sends this many bytes of the body per second.
    Slow(usize),
    /// Sends a body of the right length with one bit flipped in its middle.
    WrongBytes,
    /// Says that the body is this many bytes longer (or shorter) than what it sends.
    WrongLength(i64),
    /// Takes the request and never answers (until the server stops, or two minutes have passed).
    Hang,
}

/// When something goes wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    /// Only for requests with this method.
    pub(crate) method: &'static str,
    /// Only for paths that contain this.
    pub(crate) path: &'static str,
    /// For how many requests of each path, before all is well again.
    pub(crate) times: usize,
    pub(crate) fault: Fault,
}

impl Rule {
    /// Every GET of a path that contains `path`, for ever.
    pub(crate) fn always(path: &'static str, fault: Fault) -> Self {
        Self { method: "GET", path, times: usize::MAX, fault }
    }

    /// The first `times` GETs of each path that contains `path`.
    pub(crate) fn first(times: usize, path: &'static str, fault: Fault) -> Self {
        Self { method: "GET", path, times, fault }
    }
}

/// A request that came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) faulty: bool,
}

struct Shared {
    upstream: SocketAddr,
    rules: Vec<Rule>,
    stop: AtomicBool,
    open: AtomicUsize,
    seen: Mutex<Vec<Seen>>,
    struck: Mutex<BTreeMap<(usize, String), usize>>,
}

/// The running proxy, stopped when dropped.
pub(crate) struct FaultyServer {
    shared: Arc<Shared>,
    pub(crate) address: SocketAddr,
    acceptor: Option<JoinHandle<()>>,
}

impl FaultyServer {
    /// A proxy in front of `upstream` that follows `rules`: the first that fits a request applies.
    pub(crate) fn in_front_of(upstream: SocketAddr, rules: &[Rule]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a free port");
        let address = listener.local_addr().expect("it has an address");
        let shared = Arc::new(Shared {
            upstream,
            rules: rules.to_vec(),
            stop: AtomicBool::new(false),
            open: AtomicUsize::new(0),
            seen: Mutex::default(),
            struck: Mutex::default(),
        });
        let for_thread = Arc::clone(&shared);
        let acceptor = Some(std::thread::spawn(move || accept(&listener, &for_thread)));
        Self { shared, address, acceptor }
    }

    /// Every request so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many requests met a fault.
    pub(crate) fn struck(&self) -> usize {
        self.seen().iter().filter(|request| request.faulty).count()
    }
}

impl Drop for FaultyServer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for a connection.
        drop(TcpStream::connect(self.address));
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        if shared.open.fetch_add(1, Ordering::SeqCst) >= CONNECTIONS_MAX {
            shared.open.fetch_sub(1, Ordering::SeqCst);
            continue;
        }
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            // A client that hangs up is no news.
            let _ = serve(stream, &shared);
            shared.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

fn serve(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_write_timeout(Some(Duration::from_secs(30)))?;
    stream.set_nodelay(true)?;
    let Some(request) = Message::read(&stream, false)? else { return Ok(()) };
    let fault = shared.fault_for(&request);
    match fault {
        Some(Fault::Hang) => {
            shared.wait(HANG_MAX);
            return Ok(());
        }
        Some(Fault::Status(status)) => {
            let answer = Message { first: format!("HTTP/1.1 {status} as told"), ..Message::default() };
            stream.write_all(&answer.head(Some(0)))?;
            return finish(&stream);
        }
        _ => {}
    }
    let answer = ask(shared.upstream, &request)?;
    send(&mut stream, &request, answer, fault, shared)?;
    finish(&stream)
}

fn send(
    stream: &mut TcpStream,
    request: &Message,
    mut answer: Message,
    fault: Option<Fault>,
    shared: &Shared,
) -> io::Result<()> {
    let mut length = i64::try_from(answer.body.len()).unwrap_or(i64::MAX);
    if request.word(0) == "HEAD" {
        length = answer.header("content-length").and_then(|said| said.parse().ok()).unwrap_or(0);
    }
    let mut keep = answer.body.len();
    match fault {
        Some(Fault::WrongBytes) => {
            let middle = keep / 2;
            if let Some(byte) = answer.body.get_mut(middle) {
                *byte ^= 1;
            }
        }
        Some(Fault::WrongLength(by)) => length = length.saturating_add(by).max(0),
        Some(Fault::CutAfter(bytes)) => keep = keep.min(bytes),
        _ => {}
    }
    stream.write_all(&answer.head(u64::try_from(length).ok()))?;
    let body = answer.body.get(..keep).unwrap_or_default();
    let Some(Fault::Slow(bytes_per_second)) = fault else { return stream.write_all(body) };
    // Ten small portions a second.
    for portion in body.chunks((bytes_per_second / 10).max(1)) {
        if shared.stop.load(Ordering::SeqCst) {
            break;
        }
        stream.write_all(portion)?;
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn finish(stream: &TcpStream) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)
}

impl Shared {
    /// The fault that meets this request; counts it and keeps record.
    fn fault_for(&self, request: &Message) -> Option<Fault> {
        let (method, path) = (request.word(0).to_owned(), request.word(1).to_owned());
        let mut struck = self.struck.lock().unwrap_or_else(PoisonError::into_inner);
        let fault = self.rules.iter().enumerate().find_map(|(number, rule)| {
            if rule.method != method || !path.contains(rule.path) {
                return None;
            }
            let count = struck.entry((number, path.clone())).or_default();
            (*count < rule.times).then(|| {
                *count += 1;
                rule.fault
            })
        });
        let seen = Seen { method, path, faulty: fault.is_some() };
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
        fault
    }

    /// Waits until the server stops, at most `limit`.
    fn wait(&self, limit: Duration) {
        let started = Instant::now();
        while !self.stop.load(Ordering::SeqCst) && started.elapsed() < limit {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Whoever tests with a bad server has to know that it is bad in the way that was asked for.
mod tests {
    use super::super::http::{Message, ask};
    use super::{
        Duration, Fault, FaultyServer, Instant, Ipv4Addr, Rule, SocketAddr, TcpListener, TcpStream, finish,
    };
    use std::io::{Read as _, Write as _};

    const BODY: &[u8] = b"0123456789abcdef0123456789abcdef";

    /// A healthy server that answers everything with [`BODY`], for the rest of the test.
    fn healthy() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a free port");
        let address = listener.local_addr().expect("it has an address");
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                let Ok(Some(_)) = Message::read(&stream, false) else { continue };
                let answer = Message { first: "HTTP/1.1 200 OK".to_owned(), ..Message::default() };
                let _ = stream.write_all(&answer.head(Some(32)));
                let _ = stream.write_all(BODY);
                let _ = finish(&stream);
            }
        });
        address
    }

    fn get(server: &FaultyServer, path: &str) -> Message {
        let request = Message { first: format!("GET {path} HTTP/1.1"), ..Message::default() };
        ask(server.address, &request).expect("an answer")
    }

    #[test]
    fn without_rules_it_is_a_healthy_server() {
        let server = FaultyServer::in_front_of(healthy(), &[]);
        let answer = get(&server, "/data/1");
        assert_eq!((answer.word(1), answer.body.as_slice()), ("200", BODY));
        assert_eq!((server.seen().len(), server.struck()), (1, 0));
    }

    #[test]
    fn a_status_is_answered_for_the_first_requests_of_each_path() {
        let server = FaultyServer::in_front_of(healthy(), &[Rule::first(2, "/data/", Fault::Status(503))]);
        let statuses = |path| (0..3).map(|_| get(&server, path).word(1).to_owned()).collect::<Vec<_>>();
        assert_eq!(statuses("/data/1"), ["503", "503", "200"]);
        assert_eq!(statuses("/data/2"), ["503", "503", "200"]);
        assert_eq!(statuses("/keys/1"), ["200", "200", "200"]);
        assert_eq!(server.struck(), 4);
    }

    #[test]
    fn the_line_is_cut() {
        let server = FaultyServer::in_front_of(healthy(), &[Rule::always("/", Fault::CutAfter(10))]);
        let answer = get(&server, "/data/1");
        assert_eq!(answer.header("content-length"), Some("32"));
        assert_eq!(answer.body, &BODY[..10]);
    }

    #[test]
    fn bytes_are_wrong_and_their_number_is_right() {
        let server = FaultyServer::in_front_of(healthy(), &[Rule::always("/", Fault::WrongBytes)]);
        let body = get(&server, "/data/1").body;
        assert_eq!(body.len(), BODY.len());
        assert_eq!(body.iter().zip(BODY).filter(|(a, b)| a != b).count(), 1);
    }

    #[test]
    fn the_length_is_wrong() {
        for (by, said) in [(5, "37"), (-5, "27"), (-99, "0")] {
            let server = FaultyServer::in_front_of(healthy(), &[Rule::always("/", Fault::WrongLength(by))]);
            let answer = get(&server, "/data/1");
            assert_eq!((answer.header("content-length"), answer.body.as_slice()), (Some(said), BODY));
        }
    }

    #[test]
    fn it_is_slow() {
        let server = FaultyServer::in_front_of(healthy(), &[Rule::always("/", Fault::Slow(80))]);
        let started = Instant::now();
        assert_eq!(get(&server, "/data/1").body, BODY);
        assert!(started.elapsed() >= Duration::from_millis(300), "{:?}", started.elapsed());
    }

    #[test]
    fn it_never_answers_and_still_stops() {
        let server = FaultyServer::in_front_of(healthy(), &[Rule::always("/", Fault::Hang)]);
        let mut stream = TcpStream::connect(server.address).expect("a connection");
        stream.write_all(b"GET /data/1 HTTP/1.1\r\n\r\n").expect("a request");
        stream.set_read_timeout(Some(Duration::from_millis(300))).expect("a time-out");
        assert!(stream.read(&mut [0; 1]).is_err(), "there was an answer");
        let started = Instant::now();
        drop(server);
        assert!(started.elapsed() < Duration::from_secs(5));
    }
}
