//! Bad weather: a proxy before a healthy server, which takes writes as well as reads.
//!
//! What meets a request follows from a seed. No path meets more than a few faults in a row, so that whoever tries
//! again a few times gets through, every time.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use firedrill_core::seed;

const HEAD_MAX: u64 = 64 * 1024;
const BODY_MAX: u64 = 64 * 1024 * 1024;
const SILENCE_MAX: Duration = Duration::from_secs(60);
const HANG_MAX: Duration = Duration::from_secs(300);
/// At most so many faults in a row for one path.
const IN_A_ROW: usize = 2;

/// What goes wrong with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// The server has a fault of its own: the request does not reach it.
    Status(u16),
    /// Half of the request arrives, and then the line breaks.
    CutRequest,
    /// The server does what it is asked, and nobody hears of it.
    LostAnswer,
    /// The head of the answer arrives, and half of its body.
    CutAnswer,
}

/// Everything that can go wrong and passes.
pub(crate) const FAULTS: [Fault; 8] = [
    Fault::Status(500),
    Fault::Status(502),
    Fault::Status(503),
    Fault::Status(429),
    Fault::CutRequest,
    Fault::LostAnswer,
    Fault::LostAnswer,
    Fault::CutAnswer,
];

/// How a server is down that does not come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Down {
    /// It answers that it is.
    Refuses,
    /// It hangs up.
    HangsUp,
    /// It takes requests and never answers.
    Silent,
}

/// When a server goes down.
#[derive(Clone, Copy, Debug)]
pub(crate) enum From {
    /// With this request.
    Request(usize),
    /// With the first one that writes a file of this folder.
    WriteTo(&'static str),
}

/// The weather.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    pub(crate) seed: u64,
    /// Of a hundred requests so many meet a fault.
    pub(crate) percent: u64,
    /// From some request on the server is down.
    pub(crate) down: Option<(From, Down)>,
}

struct Shared {
    upstream: SocketAddr,
    weather: Weather,
    stop: AtomicBool,
    requests: AtomicUsize,
    is_down: AtomicBool,
    in_a_row: Mutex<BTreeMap<String, usize>>,
    met: Mutex<BTreeMap<(Fault, String), usize>>,
    is_back: AtomicBool,
    /// How often each request came through, by method and path.
    done: Mutex<BTreeMap<String, usize>>,
}

/// The running proxy; dropping it stops it.
pub(crate) struct Proxy {
    shared: Arc<Shared>,
    pub(crate) address: SocketAddr,
    acceptor: Option<JoinHandle<()>>,
}

impl Proxy {
    pub(crate) fn in_front_of(upstream: SocketAddr, weather: Weather) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            upstream,
            weather,
            stop: AtomicBool::new(false),
            requests: AtomicUsize::new(0),
            is_down: AtomicBool::new(false),
            in_a_row: Mutex::default(),
            met: Mutex::default(),
            is_back: AtomicBool::new(false),
            done: Mutex::default(),
        });
        let for_thread = Arc::clone(&shared);
        let acceptor = Some(std::thread::spawn(move || accept(&listener, &for_thread)));
        Self { shared, address, acceptor }
    }

    /// How often each fault met each method.
    pub(crate) fn met(&self) -> BTreeMap<(Fault, String), usize> {
        self.shared.met.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn is_down(&self) -> bool {
        self.shared.is_down.load(Ordering::SeqCst)
    }

    /// Ends that it is down.
    pub(crate) fn come_back(&self) {
        self.shared.is_back.store(true, Ordering::SeqCst);
    }

    /// How often each request was answered as it should be, by method and path.
    pub(crate) fn done(&self) -> BTreeMap<String, usize> {
        self.shared.done.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
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
        let (Ok(stream), shared) = (stream, Arc::clone(shared)) else { continue };
        std::thread::spawn(move || {
            // A client that hangs up is no news.
            let _ = serve(stream, &shared);
        });
    }
}

fn serve(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    stream.set_write_timeout(Some(SILENCE_MAX))?;
    stream.set_nodelay(true)?;
    let Some(request) = Message::read(&stream, false)? else { return Ok(()) };
    let number = shared.requests.fetch_add(1, Ordering::SeqCst);
    if let Some((from, down)) = shared.weather.down
        && shared.goes_down(from, number, &request)
    {
        return match down {
            Down::Refuses => answer_status(&mut stream, 503),
            Down::HangsUp => Ok(()),
            Down::Silent => {
                shared.wait();
                Ok(())
            }
        };
    }
    match shared.fault_for(&request, number) {
        None => {
            let answer = ask(shared.upstream, &request, None)?;
            let name = format!("{} {}", request.word(0), request.word(1));
            *shared.done.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default() += 1;
            stream.write_all(&answer.bytes())
        }
        Some(Fault::Status(status)) => answer_status(&mut stream, status),
        Some(Fault::CutRequest) => {
            let _ = ask(shared.upstream, &request, Some(request.body.len() / 2));
            Ok(())
        }
        Some(Fault::LostAnswer) => ask(shared.upstream, &request, None).map(drop),
        Some(Fault::CutAnswer) => {
            let answer = ask(shared.upstream, &request, None)?;
            let bytes = answer.bytes();
            stream.write_all(&bytes[..bytes.len() - answer.body.len().div_ceil(2)])
        }
    }?;
    stream.shutdown(Shutdown::Write)
}

/// What S3 and rest-servers alike may answer.
fn answer_status(stream: &mut TcpStream, status: u16) -> io::Result<()> {
    let body = "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";
    let head = format!("HTTP/1.1 {status} as told\r\nContent-Type: application/xml\r\n");
    write!(stream, "{head}Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())?;
    stream.shutdown(Shutdown::Write)
}

impl Shared {
    fn fault_for(&self, request: &Message, number: usize) -> Option<Fault> {
        let path = request.word(1).to_owned();
        let mut in_a_row = self.in_a_row.lock().unwrap_or_else(PoisonError::into_inner);
        let count = in_a_row.entry(path).or_default();
        let dice = seed::child(self.weather.seed, &number.to_string());
        if *count >= IN_A_ROW || dice % 100 >= self.weather.percent {
            *count = 0;
            return None;
        }
        *count += 1;
        let fault = FAULTS[usize::try_from(dice / 100 % 8).unwrap_or(0)];
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        *met.entry((fault, request.word(0).to_owned())).or_default() += 1;
        Some(fault)
    }

    fn goes_down(&self, from: From, number: usize, request: &Message) -> bool {
        if self.is_back.load(Ordering::SeqCst) {
            return false;
        }
        let now = match from {
            From::Request(first) => number >= first,
            From::WriteTo(folder) => {
                ["POST", "PUT"].contains(&request.word(0)) && request.word(1).contains(folder)
            }
        };
        self.is_down.fetch_or(now, Ordering::SeqCst) || now
    }

    /// Waits until the proxy stops.
    fn wait(&self) {
        let started = Instant::now();
        while !self.stop.load(Ordering::SeqCst) && started.elapsed() < HANG_MAX {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A request or an answer, with as much of HTTP as is needed here.
#[derive(Clone, Debug, Default)]
struct Message {
    first: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// The length that is told; of an answer to HEAD it is not that of the body.
    length: Option<usize>,
}

impl Message {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The word of the first line at `position`: method and path.
    fn word(&self, position: usize) -> &str {
        self.first.split(' ').nth(position).unwrap_or_default()
    }

    /// Reads one; nothing when the other side closed without a word.
    fn read(mut stream: &TcpStream, to_the_end: bool) -> io::Result<Option<Self>> {
        let mut reader = BufReader::new(stream);
        let mut message = Self::default();
        let mut head = (&mut reader).take(HEAD_MAX);
        if head.read_line(&mut message.first)? == 0 {
            return Ok(None);
        }
        message.first = message.first.trim_end().to_owned();
        loop {
            let mut line = String::new();
            if head.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match line.trim_end().split_once(':') {
                Some((name, value)) => message.headers.push((name.to_owned(), value.trim().to_owned())),
                None => break,
            }
        }
        if message.header("expect").is_some() {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        message.length = message.header("content-length").and_then(|length| length.parse().ok());
        if message.header("transfer-encoding").is_some_and(|coding| coding.contains("chunked")) {
            message.body = chunks(&mut reader)?;
            message.length = Some(message.body.len());
        } else if to_the_end {
            reader.take(BODY_MAX).read_to_end(&mut message.body)?;
            message.length = message.length.or(Some(message.body.len()));
        } else if let Some(length) = message.length {
            reader.take(BODY_MAX.min(length as u64)).read_to_end(&mut message.body)?;
            if message.body.len() < length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(Some(message))
    }

    fn head(&self) -> String {
        let mut head = format!("{}\r\n", self.first);
        let own = ["content-length", "connection", "transfer-encoding", "keep-alive", "expect"];
        for (name, value) in &self.headers {
            if !own.contains(&name.to_ascii_lowercase().as_str()) {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        if let Some(length) = self.length {
            head.push_str(&format!("Content-Length: {length}\r\n"));
        }
        head + "Connection: close\r\n\r\n"
    }

    fn bytes(&self) -> Vec<u8> {
        [self.head().as_bytes(), &self.body].concat()
    }
}

fn chunks(reader: &mut BufReader<&TcpStream>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.by_ref().take(HEAD_MAX).read_line(&mut line)?;
        let size = line.trim_end().split(';').next().unwrap_or_default();
        let size = u64::from_str_radix(size, 16).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        if size > BODY_MAX || reader.by_ref().take(size).read_to_end(&mut body)? as u64 != size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut end = String::new();
        reader.by_ref().take(HEAD_MAX).read_line(&mut end)?;
        if size == 0 {
            return Ok(body);
        }
    }
}

/// Sends `request`, or so many bytes of its body and then nothing, and returns the answer.
fn ask(address: SocketAddr, request: &Message, only: Option<usize>) -> io::Result<Message> {
    let mut stream = TcpStream::connect_timeout(&address, SILENCE_MAX)?;
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    stream.set_write_timeout(Some(SILENCE_MAX))?;
    let mut request = request.clone();
    // A server answers HTTP/1.0 without chunks, and closes at the end of the body.
    request.first = request.first.replace("HTTP/1.1", "HTTP/1.0");
    stream.write_all(request.head().as_bytes())?;
    if let Some(bytes) = only {
        stream.write_all(request.body.get(..bytes).unwrap_or_default())?;
        stream.shutdown(Shutdown::Both)?;
        return Err(io::ErrorKind::ConnectionAborted.into());
    }
    stream.write_all(&request.body)?;
    let mut answer = Message::read(&stream, true)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    answer.first = answer.first.replace("HTTP/1.0", "HTTP/1.1");
    Ok(answer)
}
