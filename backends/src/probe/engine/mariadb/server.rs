//! A MariaDB server in a cell, and the client that asks it.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use firedrill_core::cell::{Cell, Ended, Pipes, Program, Service};
use firedrill_core::error::Error;
use firedrill_core::watch::Watch;

use super::log;

/// The data folder in a cell.
pub(super) const DATA: &str = "/cell/.firedrill/mariadb";
/// An empty folder, where plugins and files for the server would be.
const NONE: &str = "/cell/.firedrill/none";
/// A folder for what does not last.
pub(super) const TEMPORARY: &str = "/cell/.firedrill/tmp";
const SOCKET: &str = "/cell/.firedrill/db.sock";
/// A server that recovers a large data folder may take this long.
const START_MAX: Duration = Duration::from_secs(6 * 3600);
/// A longer answer is not read.
const ANSWER_MAX: usize = 256 << 20;
/// Between two looks at a server that starts.
const START_STEP: Duration = Duration::from_millis(10);
/// What the server says once it can be asked.
const READY: &str = "ready for connections";
/// It is not asked to end in order: the cell is thrown away.
const GRACE: Duration = Duration::from_secs(60);

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Something that says nothing about the backup.
    Ours(String),
    /// The server refused a statement.
    Refused(Refusal),
    /// The server is gone. Its last telling words.
    Dead(String),
}

impl Trouble {
    /// In words.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Ours(why) => why.clone(),
            Self::Refused(refusal) => refusal.describe(),
            Self::Dead(words) => format!("the server ended: {words}"),
        }
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Ours(error.chain())
    }
}

/// The error of a statement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The server's number for it.
    pub(super) code: u32,
    /// The line of the input.
    pub(super) line: Option<u64>,
    /// What the server said, shortened.
    pub(super) message: String,
}

impl Refusal {
    /// In words.
    pub(super) fn describe(&self) -> String {
        format!("error {}: {}", self.code, self.message)
    }

    /// Reads `ERROR 1064 (42000) at line 5: You have an error ..`.
    pub(super) fn of(line: &str) -> Option<Self> {
        let rest = line.strip_prefix("ERROR ")?;
        let (front, message) = rest.split_once(": ")?;
        let code = front.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0);
        let at = front.split_once("at line ").and_then(|(_, number)| number.trim().parse().ok());
        Some(Self { code, line: at, message: discreet(message) })
    }

    /// The errors in what a client said, in order.
    pub(super) fn all(stderr: &str) -> Vec<Self> {
        stderr.lines().filter_map(Self::of).collect()
    }
}

/// Messages quote the data they are about: a little of it helps, more may be a secret.
fn discreet(message: &str) -> String {
    let lower = message.to_ascii_lowercase();
    let secret = lower.contains("identified") || lower.contains("password");
    let text = match message.split_once("near '") {
        Some((before, _)) if secret => format!("{before}near something that is left out"),
        Some((before, near)) => format!("{before}near '{}'", near.chars().take(40).collect::<String>()),
        None => message.to_owned(),
    };
    log::plain(&without_value(&text), 240)
}

/// Leaves a value out that was refused: `Duplicate entry 'x' for key 'y'`, `Incorrect date value: 'x'`.
fn without_value(text: &str) -> String {
    for lead in ["entry '", "value: '"] {
        let Some((before, rest)) = text.split_once(lead) else { continue };
        let after = ["' for ", "' at "].iter().find_map(|end| Some((*end, rest.rsplit_once(end)?.1)));
        let after = after.map(|(end, after)| format!("{end}{after}")).unwrap_or_else(|| "'".to_owned());
        return format!("{before}{lead}..{after}");
    }
    text.to_owned()
}

/// One row of an answer. A NULL reads `NULL`.
pub(super) type Row = Vec<String>;

/// An answer, which data can make longer than anybody wants to hold.
#[derive(Default)]
struct Answer(Vec<u8>);

impl Write for Answer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > ANSWER_MAX {
            return Err(io::Error::other("the answer is longer than firedrill reads"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where a server listens. Without a port that is a socket alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Listening {
    pub(super) port: Option<u16>,
    pub(super) socket: Option<String>,
}

impl Listening {
    fn socket(&self) -> &str {
        self.socket.as_deref().unwrap_or(SOCKET)
    }

    fn arguments(&self) -> Vec<String> {
        let mut all = vec![format!("--socket={}", self.socket())];
        match self.port {
            None => all.push("--skip-networking".to_owned()),
            Some(port) => all.extend(["--bind-address=127.0.0.1".to_owned(), format!("--port={port}")]),
        }
        all
    }
}

/// A running server.
pub(super) struct Server<'c> {
    cell: &'c dyn Cell,
    service: Box<dyn Service>,
    user: String,
    socket: String,
    watch: Watch,
}

/// A program of MariaDB. In a cell with an application it is not the first kit that has it.
pub(super) fn program<S: Into<String>>(name: &str, arguments: impl IntoIterator<Item = S>) -> Program {
    Program { kit: super::NAME.to_owned(), ..Program::new(name, arguments) }
}

/// Makes the folders that servers and tools need.
pub(super) fn furnish(cell: &dyn Cell) -> Result<(), Trouble> {
    for folder in [DATA, NONE, TEMPORARY] {
        // The file is there for its folder: cells make folders for files only.
        cell.bring(&mut io::empty(), &format!("{folder}/.keep"))?;
    }
    Ok(())
}

impl<'c> Server<'c> {
    /// Starts a server on [`DATA`] with `arguments` on top of those that keep it to itself, and waits for it.
    pub(super) fn start(
        cell: &'c dyn Cell,
        arguments: &[String],
        user: &str,
        listening: &Listening,
        watch: &Watch,
    ) -> Result<Self, Trouble> {
        // The file is there for its folder.
        cell.bring(&mut io::empty(), &format!("{}.keep", listening.socket()))?;
        let mut all: Vec<String> = [
            "--no-defaults",
            "--skip-slave-start",
            "--skip-log-bin",
            "--skip-name-resolve",
            "--local-infile=0",
            "--event-scheduler=OFF",
            "--lc-messages=en_US",
            "--max-allowed-packet=1G",
            "--net-read-timeout=86400",
            "--net-write-timeout=86400",
            // Rows that a laxer server took must not be refused here.
            "--innodb-strict-mode=OFF",
            // Nothing has to survive this machine's end: waiting for its disks would be most of the time.
            "--loose-debug-no-sync",
            "--innodb-flush-method=nosync",
            "--innodb-flush-log-at-trx-commit=0",
            "--innodb-doublewrite=0",
        ]
        .map(str::to_owned)
        .to_vec();
        all.push(format!("--datadir={DATA}"));
        all.extend(listening.arguments());
        all.push("--pid-file=/cell/.firedrill/db.pid".to_owned());
        all.push(format!("--tmpdir={TEMPORARY}"));
        all.push(format!("--secure-file-priv={NONE}"));
        all.push(format!("--plugin-dir={NONE}"));
        all.extend_from_slice(arguments);
        let service = cell.start(&program("mariadbd", all))?;
        let (user, socket) = (user.to_owned(), listening.socket().to_owned());
        let server = Self { cell, service, user, socket, watch: watch.clone() };
        server.wait()?;
        Ok(server)
    }

    fn wait(&self) -> Result<(), Trouble> {
        let start = Instant::now();
        loop {
            if let Some(ended) = self.service.ended() {
                return Err(self.death(&ended));
            }
            if self.service.log().contains(READY) {
                return Ok(());
            }
            self.watch.check()?;
            if start.elapsed() > START_MAX {
                return Err(Trouble::Ours(format!(
                    "the server was not ready after {} s",
                    START_MAX.as_secs()
                )));
            }
            std::thread::sleep(START_STEP);
        }
    }

    /// The cell.
    pub(super) fn cell(&self) -> &'c dyn Cell {
        self.cell
    }

    /// What the server said, its end.
    pub(super) fn log(&self) -> String {
        self.service.log()
    }

    /// Speaks as another account from now on.
    pub(super) fn become_user(&mut self, user: &str) {
        user.clone_into(&mut self.user);
    }

    /// Asks, and gives all rows of all answers.
    pub(super) fn ask(&self, sql: &str) -> Result<Vec<Row>, Trouble> {
        self.answer(&[], sql).map(|answer| rows(&answer))
    }

    /// Asks, and gives what the client writes with these arguments.
    pub(super) fn answer(&self, arguments: &[String], sql: &str) -> Result<Vec<u8>, Trouble> {
        let mut answer = Answer::default();
        let ended = self.client(arguments, Box::new(sql.as_bytes()), Some(Box::new(&mut answer)))?;
        match self.refusal(&ended) {
            Some(trouble) => Err(trouble),
            None => Ok(answer.0),
        }
    }

    /// Runs the client on `stdin`.
    pub(super) fn client<'a>(
        &self,
        arguments: &[String],
        stdin: Box<dyn Read + Send + 'a>,
        stdout: Option<Box<dyn Write + Send + 'a>>,
    ) -> Result<Ended, Trouble> {
        let mut all: Vec<String> = [
            "--no-defaults",
            "--batch",
            "--skip-column-names",
            "--skip-auto-rehash",
            "--skip-reconnect",
            // No command of the client but DELIMITER is understood: what is fed is data.
            "--binary-mode",
            "--local-infile=0",
            "--max-allowed-packet=1G",
        ]
        .map(str::to_owned)
        .to_vec();
        all.push(format!("--socket={}", self.socket));
        all.push(format!("--user={}", self.user));
        all.extend_from_slice(arguments);
        Ok(self.cell.run(&program("mariadb", all), Pipes { stdin: Some(stdin), stdout })?)
    }

    /// Why a client did not succeed, if it did not.
    pub(super) fn refusal(&self, ended: &Ended) -> Option<Trouble> {
        if ended.succeeded() {
            return None;
        }
        let refusal = Refusal::all(&ended.stderr).pop();
        let lost = refusal.as_ref().is_none_or(|r| matches!(r.code, 2002 | 2003 | 2006 | 2013 | 1053 | 1927));
        if lost && let Some(dead) = self.dead() {
            return Some(dead);
        }
        Some(match refusal {
            Some(refusal) if lost => Trouble::Ours(refusal.describe()),
            Some(refusal) => match log::is_ours(&refusal.message) {
                true => Trouble::Ours(refusal.describe()),
                false => Trouble::Refused(refusal),
            },
            None => Trouble::Ours(format!("the client ended with {}", ended.describe())),
        })
    }

    /// Whether the server is gone, a moment after a client noticed that something is wrong.
    pub(super) fn dead(&self) -> Option<Trouble> {
        // A server that crashes writes its stack first.
        let patience = Instant::now();
        loop {
            if let Some(ended) = self.service.ended() {
                return Some(self.death(&ended));
            }
            if patience.elapsed() > Duration::from_secs(5) || self.watch.check().is_err() {
                return None;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn death(&self, ended: &Ended) -> Trouble {
        let said = self.service.log();
        let said = if said.is_empty() { ended.stderr.clone() } else { said };
        let words = log::telling(&said).unwrap_or_else(|| ended.describe());
        // Only a crash or an exit of its own tells of the data: a kill is somebody's, or the memory limit's.
        if ended.tells_nothing() || log::is_ours(&said) {
            return Trouble::Ours(format!("the server was ended or lacked something: {words}"));
        }
        Trouble::Dead(words)
    }

    /// The program itself, for whoever lets it run.
    pub(super) fn into_service(self) -> Box<dyn Service> {
        self.service
    }

    /// Ends the server.
    pub(super) fn stop(self) -> Result<(), Trouble> {
        self.service.stop(false, GRACE)?;
        Ok(())
    }
}

/// Reads what a client in batch mode wrote: tabs, line ends and backslashes in data are escaped there.
pub(super) fn rows(output: &[u8]) -> Vec<Row> {
    let lines = output.split(|b| *b == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| line.split(|b| *b == b'\t').map(unescape).collect()).collect()
}

fn unescape(field: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.iter();
    while let Some(&byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next() {
                Some(b'n') => b'\n',
                Some(b't') => b'\t',
                Some(b'0') => 0,
                Some(&other) => other,
                None => b'\\',
            },
            _ => byte,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A name for SQL.
pub(super) fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_whatever_data_holds() {
        assert_eq!(rows(b"a\tb\\tc\\nd\\\\e\n\tNULL\n"), [["a", "b\tc\nd\\e"], ["", "NULL"]]);
        assert!(rows(b"").is_empty());
    }

    #[test]
    fn errors_of_the_client_are_read() {
        let refusal = Refusal::of("ERROR 1146 (42S02) at line 12: Table 'shop.x' doesn't exist").unwrap();
        assert_eq!((refusal.code, refusal.line), (1146, Some(12)));
        assert_eq!(refusal.message, "Table 'shop.x' doesn't exist");
        let said = "--------------\nINSERT\n--------------\n\nERROR 1064 (42000) at line 3: You have an error near \
                    'IDENTIFIED BY PASSWORD hunter2'\n";
        assert!(!Refusal::all(said)[0].message.contains("hunter2"));
        assert_eq!(Refusal::of("ERROR at line 1: Unknown command '\\!'.").unwrap().code, 0);
        let refusal =
            Refusal::of("ERROR 1062 (23000) at line 7: Duplicate entry 'me@x.org' for key 'PRIMARY'")
                .unwrap();
        assert_eq!(refusal.message, "Duplicate entry '..' for key 'PRIMARY'");
        assert_eq!(quoted("a`b"), "`a``b`");
    }
}
