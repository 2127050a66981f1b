//! As much of HTTP/1 as a proxy for tests needs: bounded heads, bodies of a known length.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const HEAD_MAX: u64 = 64 * 1024;
const BODY_MAX: u64 = 256 * 1024 * 1024;
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// A request, or an answer: its first line, its headers, its body.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message {
    pub(crate) first: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Message {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The word of the first line at `position`: method and path, or protocol and status.
    pub(crate) fn word(&self, position: usize) -> &str {
        self.first.split(' ').nth(position).unwrap_or_default()
    }

    /// Reads one; nothing when the other side closed without a word.
    pub(crate) fn read(stream: &TcpStream, body_without_length: bool) -> io::Result<Option<Self>> {
        stream.set_read_timeout(Some(SILENCE_MAX))?;
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
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the head does not end"));
            }
            match line.trim_end().split_once(':') {
                Some((name, value)) => message.headers.push((name.to_owned(), value.trim().to_owned())),
                None => break,
            }
        }
        let length = message.header("content-length").and_then(|length| length.parse::<u64>().ok());
        if body_without_length {
            reader.take(BODY_MAX).read_to_end(&mut message.body)?;
        } else if let Some(length) = length {
            reader.take(length.min(BODY_MAX)).read_to_end(&mut message.body)?;
        }
        Ok(Some(message))
    }

    /// The head as it goes over the line, with `length` for the body's.
    pub(crate) fn head(&self, length: Option<u64>) -> Vec<u8> {
        let mut head = format!("{}\r\n", self.first);
        for (name, value) in &self.headers {
            let own = ["content-length", "connection", "transfer-encoding", "keep-alive"];
            if !own.contains(&name.to_ascii_lowercase().as_str()) {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        if let Some(length) = length {
            head.push_str(&format!("Content-Length: {length}\r\n"));
        }
        head.push_str("Connection: close\r\n\r\n");
        head.into_bytes()
    }
}

/// Sends `request` to `address` and returns the answer.
pub(crate) fn ask(address: SocketAddr, request: &Message) -> io::Result<Message> {
    let mut stream = TcpStream::connect_timeout(&address, SILENCE_MAX)?;
    stream.set_write_timeout(Some(SILENCE_MAX))?;
    let mut request = request.clone();
    // A server answers HTTP/1.0 without chunks, and closes at the end of the body.
    request.first = request.first.replace("HTTP/1.1", "HTTP/1.0");
    let length = u64::try_from(request.body.len()).unwrap_or(0);
    stream.write_all(&request.head((request.word(0) == "POST").then_some(length)))?;
    stream.write_all(&request.body)?;
    let mut answer = Message::read(&stream, true)?
        .ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "no answer"))?;
    answer.first = answer.first.replace("HTTP/1.0", "HTTP/1.1");
    Ok(answer)
}
