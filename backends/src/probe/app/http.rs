//! Asks a server in a cell over HTTP/1.1, bounded in every way. Nothing is followed: what an answer points to lies
//! outside of the cell, or is asked for by the config.

use std::time::Duration;

use bytes::Bytes;
use firedrill_core::cell::{Address, Cell, Pipes, Program};
use firedrill_core::config::trials::HttpCheck;
use firedrill_core::watch::Watch;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::Request;
use hyper::client::conn::http1::Builder;
use hyper_util::rt::TokioIo;

/// A longer body is not taken.
const BODY_MAX: usize = 16 << 20;
/// Bytes that the head of an answer may take.
const HEAD_MAX: usize = 256 << 10;
/// A port on which nobody listens.
const NOBODY: u16 = 9;
/// How often the stop signal is looked at.
const TICK: Duration = Duration::from_millis(100);

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Bytes,
}

/// Why nothing came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Silence {
    /// Nobody listens, or the connection ended without a whole answer.
    NoAnswer(String),
    /// The time for the answer was over.
    Slow,
    /// We cannot or must not ask.
    Ours(String),
}

/// Whether a port of the cell could be reached at all if somebody listened; `Err` says why not. A cell without a
/// loopback address, or without bash, would make every application look dead.
pub(super) fn reachable(cell: &dyn Cell) -> Result<(), String> {
    let program = Program::new("/bin/bash", ["-c", &format!("exec 3<>/dev/tcp/127.0.0.1/{NOBODY}")]);
    let ended = cell.run(&program, Pipes::default()).map_err(|e| e.chain())?;
    match ended.succeeded() || ended.stderr.to_lowercase().contains("refused") {
        true => Ok(()),
        false => Err(format!("nothing can be asked in the cell: {}", ended.describe())),
    }
}

/// Sends one request to `port` of the cell, and takes the answer.
pub(super) async fn ask(
    cell: &dyn Cell,
    port: u16,
    check: &HttpCheck,
    watch: &Watch,
) -> Result<Answer, Silence> {
    let stopped = async {
        loop {
            if let Err(error) = watch.check() {
                return Silence::Ours(error.chain());
            }
            tokio::time::sleep(TICK).await;
        }
    };
    tokio::select! {
        answer = tokio::time::timeout(check.timeout.0, exchange(cell, port, check)) => {
            answer.unwrap_or(Err(Silence::Slow))
        }
        silence = stopped => Err(silence),
    }
}

async fn exchange(cell: &dyn Cell, port: u16, check: &HttpCheck) -> Result<Answer, Silence> {
    let ours = |e: &dyn std::error::Error| Silence::Ours(e.to_string());
    let gone = |e: hyper::Error| Silence::NoAnswer(e.to_string());
    let mut request = Request::builder().method(check.method.as_str()).uri(check.path.as_str());
    let named = |name: &str| check.headers.keys().any(|own| own.eq_ignore_ascii_case(name));
    for (name, value) in &check.headers {
        request = request.header(name, value);
    }
    for (name, value) in [("host", format!("localhost:{port}")), ("connection", "close".to_owned())] {
        if !named(name) {
            request = request.header(name, value);
        }
    }
    let body = check.send.clone().unwrap_or_default();
    let request = request.body(Full::new(Bytes::from(body))).map_err(|e| ours(&e))?;
    // Where a port is closed some runtimes say so here, and others end the connection.
    let wire =
        cell.dial(&Address::Tcp(port)).map_err(|e| match e.chain().to_lowercase().contains("refused") {
            true => Silence::NoAnswer(e.chain()),
            // It did not even come to that: there is no bash in the image, or the daemon does not answer.
            false => Silence::Ours(e.chain()),
        })?;
    let mut http = Builder::new();
    http.max_buf_size(HEAD_MAX);
    let (mut sender, connection) = http.handshake(TokioIo::new(wire)).await.map_err(gone)?;
    let talk = async {
        let answer = sender.send_request(request).await.map_err(gone)?;
        let status = answer.status().as_u16();
        let body =
            Limited::new(answer.into_body(), BODY_MAX).collect().await.map_err(|e| match e
                .is::<LengthLimitError>()
            {
                true => Silence::Ours(format!("the answer is longer than {BODY_MAX} bytes")),
                false => Silence::NoAnswer(e.to_string()),
            })?;
        Ok(Answer { status, body: body.to_bytes() })
    };
    tokio::pin!(connection, talk);
    // The connection has to be driven for the talk to go on; its own end says nothing that the talk does not.
    tokio::select! {
        answer = &mut talk => answer,
        _ = &mut connection => talk.await,
    }
}
