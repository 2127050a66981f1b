//! As much of PostgreSQL's protocol as loading a dump needs.
//!
//! Questions go through tokio-postgres. For loading, a client library would be in the way: those take statements as
//! UTF-8 text, while a dump may be in any encoding, and its bytes must arrive as they are. What is left is simple:
//! the simple query protocol, `COPY` into the server, answers as text, and no authentication, because the socket of
//! a cell is nobody else's.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use firedrill_core::cell::Wire;
use firedrill_core::error::Error;
use firedrill_core::watch::Watch;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

use super::witness::{self, Shared};

/// A longer message from the server is refused.
pub(super) const MESSAGE_MAX: usize = 64 << 20;
/// More rows than this of one answer are not kept.
pub(super) const ROWS_MAX: usize = 200_000;
/// More bytes than this of one answer are not kept.
pub(super) const ANSWER_MAX: usize = 64 << 20;
/// How often the watch is asked while the server says nothing.
pub(super) const TICK: Duration = Duration::from_millis(200);

/// An error of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ServerError {
    /// `ERROR`, `FATAL` or `PANIC`.
    pub(super) severity: String,
    /// The SQLSTATE.
    pub(super) code: String,
    /// The message.
    pub(super) message: String,
    /// More about it.
    pub(super) detail: String,
    /// In which context, for example the line of a `COPY`.
    pub(super) context: String,
}

impl ServerError {
    /// Whether it tells of the machine, of limits of ours or of time that was over, and not of the data: memory,
    /// disk and connections (53), somebody who stopped it (57), a disk that fails, a lock that did not come.
    pub(super) fn is_ours(&self) -> bool {
        ["53", "57"].iter().any(|class| self.code.starts_with(class))
            || matches!(self.code.as_str(), "58030" | "55P03")
    }

    /// Whether the server goes on after it, and it says something about the data.
    pub(super) fn is_about_data(&self) -> bool {
        self.severity == "ERROR" && !self.is_ours()
    }

    /// The message without the values of a row that it is about.
    fn discreet_message(&self) -> String {
        let message = self.message.as_str();
        let (before, after) = match self.code.as_str() {
            // `value "12345678901" is out of range for type integer`
            code if code.starts_with("22") && message.starts_with("value \"") => {
                ("value", message.rsplit_once('"').map_or("", |(_, after)| after))
            }
            // `invalid input syntax for type integer: "x"`
            code if code.starts_with("22") => (before_value(message), ""),
            // `syntax error at or near "'x'"`
            "42601" => match message.split_once(" \"'") {
                Some((before, _)) => (before, ""),
                None => (message, ""),
            },
            _ => (message, ""),
        };
        if before.len() == message.len() { before.to_owned() } else { format!("{before} \"..\"{after}") }
    }

    /// Which columns it is about: `Key (a, b)`.
    fn discreet_detail(&self) -> Option<&str> {
        let columns = self.detail.lines().next()?.split_once(")=(")?.0;
        columns.starts_with("Key (").then_some(columns)
    }

    /// Where it happened: `COPY t, line 2, column a`, `PL/pgSQL function f() line 3 at RAISE`.
    fn discreet_context(&self) -> &str {
        let line = self.context.lines().next().unwrap_or_default();
        if line.starts_with("PL/pgSQL function ") || line.starts_with("SQL function ") {
            return line;
        }
        let line = line.split_once(": ").map_or(line, |(before, _)| before);
        if line.starts_with("COPY ") {
            return line;
        }
        line.split_once('"').map_or(line, |(before, _)| before).trim_end()
    }
}

fn before_value(message: &str) -> &str {
    let colon = message.find(": \"");
    colon.and_then(|at| message.get(..=at)).unwrap_or(message)
}

/// Findings are read by more people than the data: what a row holds is left out.
impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.severity, self.code, shown(&self.discreet_message(), 300))?;
        if let Some(columns) = self.discreet_detail() {
            write!(f, "; {})", shown(columns, 200))?;
        }
        if !self.discreet_context().is_empty() {
            write!(f, "; {}", shown(self.discreet_context(), 200))?;
        }
        Ok(())
    }
}

/// Text of a server or a dump for people: cut, and without control characters.
pub(super) fn shown(text: &str, length: usize) -> String {
    let mut shown = String::new();
    for c in text.chars().take(length) {
        if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    if text.chars().nth(length).is_some() {
        shown.push_str("...");
    }
    shown
}

/// Why the server did not do what it was asked.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// It refused.
    Refused(Box<ServerError>),
    /// The connection broke, or the server spoke nonsense.
    Lost(String),
    /// We had to stop.
    Stopped(Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => write!(f, "{error}"),
            Self::Lost(why) => write!(f, "the connection to the server broke: {why}"),
            Self::Stopped(error) => f.write_str(&error.chain()),
        }
    }
}

/// One row of an answer, as text; `None` is NULL.
pub(super) type Row = Vec<Option<String>>;

/// What the server said to one or more statements.
#[derive(Clone, Debug, Default)]
pub(super) struct Answer {
    /// The rows of all of them.
    pub(super) rows: Vec<Row>,
    /// The tag of each, such as `INSERT 0 1`.
    pub(super) tags: Vec<String>,
}

impl Answer {
    /// The first column of the first row.
    pub(super) fn first(&self) -> Option<&str> {
        self.rows.first()?.first()?.as_deref()
    }
}

enum Message {
    Notice(Box<ServerError>),
    Refused(Box<ServerError>),
    Row(Row),
    Tag(String),
    CopyIn,
    CopyOut,
    Ready(u8),
    Other,
}

/// One connection.
pub(super) struct Client {
    reading: ReadHalf<Box<dyn Wire>>,
    writing: WriteHalf<Box<dyn Wire>>,
    inbox: BytesMut,
    watch: Watch,
    status: u8,
    witness: Option<Shared>,
}

impl Client {
    /// Speaks to the server at the other end of `wire` as `user`, with these settings of the session.
    pub(super) async fn connect(
        wire: Box<dyn Wire>,
        watch: &Watch,
        user: &str,
        database: &str,
        settings: &[(&str, &str)],
    ) -> Result<Self, Failure> {
        let (reading, writing) = tokio::io::split(wire);
        let inbox = BytesMut::new();
        let mut client = Self { reading, writing, inbox, watch: watch.clone(), status: b'I', witness: None };
        let mut body = 196_608_u32.to_be_bytes().to_vec();
        let own = [("user", user), ("database", database), ("application_name", "firedrill")];
        for (name, value) in own.into_iter().chain(settings.iter().copied()) {
            for text in [name, value] {
                body.extend(text.bytes().filter(|byte| *byte != 0));
                body.push(0);
            }
        }
        body.push(0);
        let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX).to_be_bytes();
        client.send(&[&length, &body]).await?;
        client.finish().await.map(|_| client)
    }

    /// Tells `witness` from now on what the server reports of statements inside of functions.
    pub(super) fn tell(&mut self, witness: &Shared) {
        self.witness = Some(Shared::clone(witness));
    }

    /// Whether a transaction is open, or has failed.
    pub(super) fn in_transaction(&self) -> bool {
        self.status != b'I'
    }

    /// Asks for one or more statements and takes what comes. Nothing is copied in or out.
    pub(super) async fn ask(&mut self, sql: impl AsRef<[u8]>) -> Result<Answer, Failure> {
        self.query(sql.as_ref()).await?;
        self.finish().await
    }

    /// Asks for a `COPY` into the server. On `Ok` it waits for the data.
    pub(super) async fn begin_copy(&mut self, sql: &[u8]) -> Result<(), Failure> {
        self.query(sql).await?;
        loop {
            match self.message().await? {
                Message::CopyIn => return Ok(()),
                Message::Refused(error) => {
                    self.until_ready().await?;
                    return Err(Failure::Refused(error));
                }
                Message::Ready(status) => {
                    self.status = status;
                    return Err(Failure::Lost("it did not ask for the data of a COPY".to_owned()));
                }
                _ => {}
            }
        }
    }

    /// Sends data of a `COPY`.
    pub(super) async fn copy(&mut self, data: &[u8]) -> Result<(), Failure> {
        let length = u32::try_from(data.len() + 4).unwrap_or(u32::MAX).to_be_bytes();
        self.send(&[b"d", &length, data]).await
    }

    /// Whether the server has said something in the middle of a `COPY`, which can only be an error or a notice.
    pub(super) fn is_waiting(&self) -> bool {
        self.inbox.first() == Some(&b'E')
    }

    /// Ends a `COPY`.
    pub(super) async fn end_copy(&mut self) -> Result<Answer, Failure> {
        self.send(&[b"c\0\0\0\x04"]).await?;
        self.finish().await
    }

    async fn query(&mut self, sql: &[u8]) -> Result<(), Failure> {
        let length = u32::try_from(sql.len() + 5).unwrap_or(u32::MAX).to_be_bytes();
        self.send(&[b"Q", &length, sql, b"\0"]).await
    }

    /// Takes everything up to the moment at which the server is ready again.
    async fn finish(&mut self) -> Result<Answer, Failure> {
        let (mut answer, mut refused, mut kept) = (Answer::default(), None, 0);
        loop {
            match self.message().await? {
                Message::Ready(status) => {
                    self.status = status;
                    return refused.map_or(Ok(answer), |error| Err(Failure::Refused(error)));
                }
                Message::Refused(error) => {
                    let fatal = error.severity != "ERROR";
                    if fatal {
                        return Err(Failure::Refused(error));
                    }
                    refused.get_or_insert(error);
                }
                Message::Row(row) => {
                    kept += row.iter().flatten().map(String::len).sum::<usize>();
                    if answer.rows.len() < ROWS_MAX && kept < ANSWER_MAX {
                        answer.rows.push(row);
                    }
                }
                Message::Tag(tag) => {
                    if answer.tags.len() < ROWS_MAX {
                        answer.tags.push(tag);
                    }
                }
                Message::CopyIn => self.send(&[b"f\0\0\0\x05\0"]).await?,
                Message::CopyOut | Message::Notice(_) | Message::Other => {}
            }
        }
    }

    async fn until_ready(&mut self) -> Result<(), Failure> {
        match self.finish().await {
            Ok(_) | Err(Failure::Refused(_)) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    // ---- bytes ----

    /// Writes, and reads meanwhile: a server that cannot get rid of its notices takes no more data.
    async fn send(&mut self, parts: &[&[u8]]) -> Result<(), Failure> {
        for part in parts {
            let mut left = *part;
            while !left.is_empty() {
                tokio::select! {
                    biased;
                    wrote = self.writing.write(left) => match wrote {
                        Ok(n) if n > 0 => left = left.get(n..).unwrap_or_default(),
                        Ok(_) => return Err(Failure::Lost("it takes nothing more".to_owned())),
                        Err(error) => return self.lost(&error).await,
                    },
                    read = self.reading.read_buf(&mut self.inbox), if self.inbox.len() < MESSAGE_MAX => {
                        if let Err(error) = read {
                            return self.lost(&error).await;
                        }
                        self.drop_notices();
                    }
                    () = tokio::time::sleep(TICK) => self.watch.check().map_err(Failure::Stopped)?,
                }
            }
        }
        let flushed = self.writing.flush().await;
        flushed.map_err(|error| Failure::Lost(error.to_string()))
    }

    /// Drops notices at the beginning of what has come, so that a flood of them does not fill it.
    fn drop_notices(&mut self) {
        while let [b'N', a, b, c, d, ..] = self.inbox.as_ref() {
            let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
            if length < 4 || self.inbox.len() <= length {
                return;
            }
            self.inbox.advance(5);
            let body = self.inbox.split_to(length - 4);
            self.noticed(&refusal(&body));
        }
    }

    /// Passes on what the server reports of a statement inside of a function; see [`witness`].
    fn noticed(&self, notice: &ServerError) {
        if let Some(witness) = &self.witness
            && notice.severity == "LOG"
            && notice.message.ends_with(" STATISTICS")
            && !notice.context.is_empty()
        {
            witness::with(witness, |witness| witness.hear(&notice.context));
        }
    }

    /// The connection broke while something was written: what the server said last tells why.
    async fn lost(&mut self, error: &std::io::Error) -> Result<(), Failure> {
        for _ in 0..100 {
            match self.message().await {
                Ok(Message::Refused(error)) => return Err(Failure::Refused(error)),
                Ok(_) => {}
                Err(_) => break,
            }
        }
        Err(Failure::Lost(error.to_string()))
    }

    async fn more(&mut self) -> Result<(), Failure> {
        loop {
            tokio::select! {
                read = self.reading.read_buf(&mut self.inbox) => return match read {
                    Ok(0) => Err(Failure::Lost("the server closed it".to_owned())),
                    Ok(_) => Ok(()),
                    Err(error) => Err(Failure::Lost(error.to_string())),
                },
                () = tokio::time::sleep(TICK) => self.watch.check().map_err(Failure::Stopped)?,
            }
        }
    }

    async fn message(&mut self) -> Result<Message, Failure> {
        self.watch.check().map_err(Failure::Stopped)?;
        loop {
            if let [kind, a, b, c, d, ..] = self.inbox.as_ref() {
                let kind = *kind;
                let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
                if !(4..=MESSAGE_MAX).contains(&length) {
                    return Err(Failure::Lost(format!("a message of {length} bytes")));
                }
                if self.inbox.len() > length {
                    self.inbox.advance(5);
                    let body = self.inbox.split_to(length - 4);
                    match decode(kind, &body)? {
                        Message::Notice(notice) => self.noticed(&notice),
                        message => return Ok(message),
                    }
                    continue;
                }
            }
            self.more().await?;
        }
    }
}

fn decode(kind: u8, body: &[u8]) -> Result<Message, Failure> {
    Ok(match kind {
        b'E' => Message::Refused(Box::new(refusal(body))),
        b'N' => Message::Notice(Box::new(refusal(body))),
        b'D' => Message::Row(row(body)),
        b'C' => Message::Tag(String::from_utf8_lossy(until_zero(body)).into_owned()),
        b'G' | b'W' => Message::CopyIn,
        b'H' => Message::CopyOut,
        b'Z' => Message::Ready(body.first().copied().unwrap_or(b'I')),
        b'R' if body != [0; 4] => return Err(Failure::Lost("the server wants a password".to_owned())),
        _ => Message::Other,
    })
}

fn until_zero(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn refusal(mut body: &[u8]) -> ServerError {
    let mut fields = BTreeMap::new();
    while let [kind, rest @ ..] = body {
        let text = until_zero(rest);
        fields.insert(*kind, String::from_utf8_lossy(text).into_owned());
        body = rest.get(text.len() + 1..).unwrap_or_default();
    }
    let mut field = |kind| fields.remove(&kind).unwrap_or_default();
    let severity = field(b'V');
    ServerError {
        severity: if severity.is_empty() { field(b'S') } else { severity },
        code: field(b'C'),
        message: field(b'M'),
        detail: field(b'D'),
        context: field(b'W'),
    }
}

fn row(mut body: &[u8]) -> Row {
    let count = body.try_get_u16().unwrap_or(0);
    let mut row = Vec::new();
    for _ in 0..count {
        let Ok(length) = body.try_get_i32() else { break };
        row.push(usize::try_from(length).ok().map(|length| {
            let text = body.get(..length).unwrap_or(body);
            body = body.get(length..).unwrap_or_default();
            String::from_utf8_lossy(text).into_owned()
        }));
    }
    row
}

/// `name` as an SQL identifier.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `text` as an SQL string, whatever `standard_conforming_strings` says.
pub(super) fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: &str, message: &str, detail: &str, context: &str) -> ServerError {
        let text = str::to_owned;
        ServerError {
            severity: text("ERROR"),
            code: text(code),
            message: text(message),
            detail: text(detail),
            context: text(context),
        }
    }

    #[test]
    fn what_a_row_holds_is_not_told() {
        for (error, shown) in [
            (
                error(
                    "22P04",
                    "missing data for column \"hash\"",
                    "",
                    "COPY users, line 9: \"9\\tanna\\t$2y$secret\"",
                ),
                "ERROR 22P04: missing data for column \"hash\"; COPY users, line 9",
            ),
            (
                error(
                    "22P02",
                    "invalid input syntax for type integer: \"secret\"",
                    "",
                    "COPY t, line 2, column a: \"secret\"",
                ),
                "ERROR 22P02: invalid input syntax for type integer: \"..\"; COPY t, line 2, column a",
            ),
            (
                error("22003", "value \"5551234567\" is out of range for type integer", "", ""),
                "ERROR 22003: value \"..\" is out of range for type integer",
            ),
            (
                error(
                    "23505",
                    "duplicate key value violates unique constraint \"u\"",
                    "Key (email, b)=(anna@secret, )=() already exists.",
                    "COPY users, line 2",
                ),
                "ERROR 23505: duplicate key value violates unique constraint \"u\"; Key (email, b); COPY users, line 2",
            ),
            (
                error(
                    "23502",
                    "null value in column \"a\" of relation \"t\" violates not-null constraint",
                    "Failing row contains (9, secret, null).",
                    "",
                ),
                "ERROR 23502: null value in column \"a\" of relation \"t\" violates not-null constraint",
            ),
            (
                error(
                    "22P02",
                    "invalid input syntax for type json",
                    "Token \"secret\" is invalid.",
                    "JSON data, line 1: secret...\nCOPY t, line 1",
                ),
                "ERROR 22P02: invalid input syntax for type json; JSON data, line 1",
            ),
            (
                error("P0001", "no", "", "PL/pgSQL function f(integer) line 3 at RAISE\nSQL statement \"x\""),
                "ERROR P0001: no; PL/pgSQL function f(integer) line 3 at RAISE",
            ),
            (
                error("23505", "twice", "", "SQL statement \"INSERT INTO t VALUES ('secret')\"\nPL/pgSQL"),
                "ERROR 23505: twice; SQL statement",
            ),
            (
                error("42601", "syntax error at or near \"'secret'\"", "", ""),
                "ERROR 42601: syntax error at or near \"..\"",
            ),
            (
                error("42601", "syntax error at or near \"TABEL\"", "", ""),
                "ERROR 42601: syntax error at or near \"TABEL\"",
            ),
        ] {
            assert_eq!(error.to_string(), shown);
        }
    }

    #[test]
    fn errors_of_the_machine_are_told_from_those_of_the_data() {
        for code in ["53100", "53200", "53300", "57014", "57P01", "58030", "55P03"] {
            let error = error(code, "", "", "");
            assert!(error.is_ours() && !error.is_about_data(), "{code}");
        }
        for code in ["XX001", "XX002", "58P01", "22P02", "23505", "42P01", "55000"] {
            let error = error(code, "", "", "");
            assert!(!error.is_ours() && error.is_about_data(), "{code}");
        }
    }
}
