//! Questions to a database that was loaded, by way of tokio-postgres.
//!
//! Unlike a dump, a question is text in UTF-8. It is asked by the simple protocol, whose answers are text as well,
//! whatever types a database has.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use firedrill_core::cell::Wire;
use firedrill_core::watch::Watch;
use futures_util::StreamExt as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::AbortHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config, Error, NoTls, SimpleQueryMessage, SimpleQueryRow};

use crate::probe::rows::{Rows, TextRow, TooMuch};

use super::wire::{ANSWER_MAX, Answer, Failure, MESSAGE_MAX, ROWS_MAX, Row, ServerError, TICK};

/// One connection for questions.
pub(super) struct Questions {
    client: Client,
    talk: AbortHandle,
    watch: Watch,
}

impl Drop for Questions {
    fn drop(&mut self) {
        self.talk.abort();
    }
}

impl Questions {
    /// Speaks to the server at the other end of `wire` as `user`, with these settings of the session.
    pub(super) async fn connect(
        wire: Box<dyn Wire>,
        watch: &Watch,
        user: &str,
        database: &str,
        settings: &[(&str, &str)],
    ) -> Result<Self, Failure> {
        // A space ends a setting unless a backslash stands before it.
        let escaped = |value: &str| value.replace('\\', "\\\\").replace(' ', "\\ ");
        let options: Vec<_> =
            settings.iter().map(|(name, value)| format!("-c {name}={}", escaped(value))).collect();
        let mut config = Config::new();
        config.user(user).dbname(database).application_name("firedrill").ssl_mode(SslMode::Disable);
        config.options(options.join(" "));
        let connecting = config.connect_raw(Bounded::new(wire), NoTls);
        let (client, mut connection) = patiently(watch, connecting).await?.map_err(|e| failure(&e))?;
        // What it says without being asked is dropped.
        let talk = tokio::spawn(async move {
            let mut said = futures_util::stream::poll_fn(|context| connection.poll_message(context));
            while let Some(Ok(_)) = said.next().await {}
        });
        Ok(Self { client, talk: talk.abort_handle(), watch: watch.clone() })
    }

    /// Asks for one or more statements and takes what comes.
    pub(super) async fn ask(&mut self, sql: impl AsRef<str>) -> Result<Answer, Failure> {
        patiently(&self.watch, answer(&self.client, sql.as_ref())).await?
    }

    /// Asks for rows, and takes all of them or none.
    pub(super) async fn rows(&mut self, sql: &str) -> Result<Vec<TextRow>, Untaken> {
        patiently(&self.watch, rows(&self.client, sql)).await?
    }
}

/// Why rows could not be taken.
pub(super) enum Untaken {
    /// The question failed.
    Failed(Failure),
    /// There are more than anybody wants to hold.
    TooMuch(TooMuch),
}

impl From<Failure> for Untaken {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Waits for something as long as the watch allows.
async fn patiently<F: Future>(watch: &Watch, future: F) -> Result<F::Output, Failure> {
    let mut future = pin!(future);
    loop {
        watch.check().map_err(Failure::Stopped)?;
        tokio::select! {
            done = &mut future => return Ok(done),
            () = tokio::time::sleep(TICK) => {}
        }
    }
}

async fn answer(client: &Client, sql: &str) -> Result<Answer, Failure> {
    let messages = client.simple_query_raw(sql).await.map_err(|error| failure(&error))?;
    let mut messages = pin!(messages);
    let (mut answer, mut kept) = (Answer::default(), 0);
    while let Some(message) = messages.next().await {
        if let SimpleQueryMessage::Row(row) = message.map_err(|error| failure(&error))? {
            let row = texts(&row);
            kept += row.iter().flatten().map(String::len).sum::<usize>();
            if answer.rows.len() < ROWS_MAX && kept < ANSWER_MAX {
                answer.rows.push(row);
            }
        }
    }
    Ok(answer)
}

async fn rows(client: &Client, sql: &str) -> Result<Vec<TextRow>, Untaken> {
    let messages = client.simple_query_raw(sql).await.map_err(|error| failure(&error))?;
    let mut messages = pin!(messages);
    let mut rows = Rows::default();
    while let Some(message) = messages.next().await {
        if let SimpleQueryMessage::Row(row) = message.map_err(|error| failure(&error))? {
            rows.push(texts(&row)).map_err(Untaken::TooMuch)?;
        }
    }
    Ok(rows.into_all())
}

fn texts(row: &SimpleQueryRow) -> Row {
    // Only a database without an encoding sends what is no text.
    let text = |at| match row.try_get(at) {
        Ok(text) => text.map(str::to_owned),
        Err(_) => Some(char::REPLACEMENT_CHARACTER.to_string()),
    };
    (0..row.len()).map(text).collect()
}

fn failure(error: &Error) -> Failure {
    let Some(refused) = error.as_db_error() else {
        let mut why = error.to_string();
        let mut next = std::error::Error::source(error);
        while let Some(source) = next {
            why = format!("{why}: {source}");
            next = source.source();
        }
        return Failure::Lost(why);
    };
    let severity = refused.parsed_severity().map_or(refused.severity().to_owned(), |known| known.to_string());
    Failure::Refused(Box::new(ServerError {
        severity,
        code: refused.code().code().to_owned(),
        message: refused.message().to_owned(),
        detail: refused.detail().unwrap_or_default().to_owned(),
        context: refused.where_().unwrap_or_default().to_owned(),
    }))
}

/// A connection that breaks when the server announces a message beyond all measure: tokio-postgres would keep
/// room for it.
struct Bounded {
    wire: Box<dyn Wire>,
    header: Vec<u8>,
    /// Bytes of the message whose header was read that are still to come.
    left: usize,
}

impl Bounded {
    fn new(wire: Box<dyn Wire>) -> Self {
        Self { wire, header: Vec::new(), left: 0 }
    }

    fn follow(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let passed = self.left.min(bytes.len());
            self.left -= passed;
            bytes = bytes.get(passed..).unwrap_or_default();
            let (taken, rest) = bytes.split_at((5 - self.header.len()).min(bytes.len()));
            self.header.extend_from_slice(taken);
            bytes = rest;
            if let [_, a, b, c, d] = *self.header {
                let length = u32::from_be_bytes([a, b, c, d]) as usize;
                if !(4..=MESSAGE_MAX).contains(&length) {
                    return Err(io::Error::other(format!("a message of {length} bytes")));
                }
                self.left = length - 4;
                self.header.clear();
            }
        }
        Ok(())
    }
}

impl AsyncRead for Bounded {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let had = into.filled().len();
        let read = Pin::new(&mut this.wire).poll_read(context, into);
        if let Poll::Ready(Ok(())) = read {
            return Poll::Ready(this.follow(into.filled().get(had..).unwrap_or_default()));
        }
        read
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().wire).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().wire).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().wire).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follow(chunks: &[&[u8]]) -> io::Result<()> {
        let (wire, _other) = tokio::io::duplex(1);
        let mut bounded = Bounded::new(Box::new(wire));
        chunks.iter().try_for_each(|chunk| bounded.follow(chunk))
    }

    #[test]
    fn a_message_beyond_all_measure_breaks_the_connection() {
        let huge = [&b"D"[..], &0x7fff_ffff_u32.to_be_bytes()].concat();
        assert!(follow(&[b"Z\0\0\0\x05I", &huge]).is_err());
        assert!(follow(&[b"Z\0\0\0\x05I", huge.get(..3).unwrap(), huge.get(3..).unwrap()]).is_err());
        assert!(follow(&[b"Z\0\0\0\x05", b"I", b"Z\0", b"\0\0\x05I"]).is_ok());
        assert!(follow(&[b"Z\0\0\0\x03"]).is_err(), "shorter than its own header");
    }
}
