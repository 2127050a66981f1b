//! Where the password of a repository comes from, by restic's rules.
//!
//! Flags come first, then RESTIC_PASSWORD_FILE and RESTIC_PASSWORD_COMMAND (of each pair only one),
//! then RESTIC_PASSWORD. Files and the output of commands lose the white space around them.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::secret::Secret;

use super::access::Environment;

/// How long a password file or command may take.
const LIMIT: Duration = Duration::from_secs(60);
/// No password is longer than this.
const BYTES_MAX: u64 = 1 << 20;
const ADVICE: &str = "pass --password-file or --password-command, or set RESTIC_PASSWORD_FILE, RESTIC_PASSWORD_COMMAND or \
     RESTIC_PASSWORD";

/// Where the password comes from. `Display` and `Debug` show no secret.
#[derive(Clone, PartialEq, Eq)]
pub enum PasswordSource {
    /// A file.
    File(PathBuf),
    /// The output of a command.
    Command(String),
    /// The variable RESTIC_PASSWORD.
    Variable(Secret),
}

impl PasswordSource {
    /// The source that holds: the flags (of which only one may be given), else the environment.
    pub fn resolve(file: Option<&Path>, command: Option<&str>, env: &Environment) -> Result<Self> {
        let usage = || Error::new(ErrorKind::Usage, "find out the repository password");
        let (file, command, names) = if file.is_some() || command.is_some() {
            (file.map(Path::to_owned), command, "--password-file and --password-command")
        } else {
            let file = env.get("RESTIC_PASSWORD_FILE").map(PathBuf::from);
            let command = env.get("RESTIC_PASSWORD_COMMAND");
            (file, command, "RESTIC_PASSWORD_FILE and RESTIC_PASSWORD_COMMAND")
        };
        match (file, command) {
            (Some(_), Some(_)) => Err(usage().because(format!("{names} exclude each other"))),
            (Some(file), None) => Ok(Self::File(file)),
            (None, Some(command)) => Ok(Self::Command(command.to_owned())),
            (None, None) => match env.get("RESTIC_PASSWORD") {
                Some(password) => Ok(Self::Variable(Secret::new(password))),
                None => Err(usage().because("no password was given").advise(ADVICE)),
            },
        }
    }

    /// Fetches the password. A command runs without a shell, inherits the environment and standard
    /// error, and is killed after a minute.
    pub fn read(&self) -> Result<Secret> {
        self.read_within(LIMIT)
    }

    fn read_within(&self, limit: Duration) -> Result<Secret> {
        let failed = || Error::new(ErrorKind::Usage, format!("read the repository password from {self}"));
        let password = match self {
            Self::Variable(password) => return Ok(password.clone()),
            Self::File(file) => read_text_within(file, limit),
            Self::Command(command) => run(command, limit),
        };
        let password = password.map_err(|why| failed().because(why))?;
        match password.trim() {
            "" => Err(failed().because("it is empty").advise("firedrill opens no repository without one")),
            password => Ok(Secret::new(password)),
        }
    }
}

impl fmt::Display for PasswordSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => write!(f, "file {}", file.display()),
            // Arguments may hold secrets; the name of the program does not.
            Self::Command(command) => match shell_words::split(command).unwrap_or_default().first() {
                Some(program) => write!(f, "command `{program}`"),
                None => f.write_str("a command"),
            },
            Self::Variable(_) => f.write_str("RESTIC_PASSWORD"),
        }
    }
}

impl fmt::Debug for PasswordSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PasswordSource({self})")
    }
}

/// The text of a small file, which may be a pipe.
pub(super) fn read_text(file: &Path) -> Result<String, String> {
    read_text_within(file, LIMIT)
}

fn read_text_within(file: &Path, limit: Duration) -> Result<String, String> {
    let path = file.to_owned();
    let content = receive(&in_background(move || File::open(path)), limit)?;
    decoded(content.map_err(|error| error.to_string())?)
}

/// Reads what `open` opens on a thread of its own, because nothing else puts a limit on a pipe. The
/// thread stays behind when the limit passes.
fn in_background<R: Read>(
    open: impl FnOnce() -> io::Result<R> + Send + 'static,
) -> Receiver<io::Result<Vec<u8>>> {
    let (sender, receiver) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let content = open().and_then(|reader| {
            let mut content = Vec::new();
            reader.take(BYTES_MAX + 1).read_to_end(&mut content).map(|_| content)
        });
        // Nobody listens any more once the limit passed.
        let _ = sender.send(content);
    });
    receiver
}

fn receive<T>(receiver: &Receiver<T>, limit: Duration) -> Result<T, String> {
    receiver.recv_timeout(limit).map_err(|error| match error {
        RecvTimeoutError::Timeout => "it took too long".to_owned(),
        RecvTimeoutError::Disconnected => "reading it broke off".to_owned(),
    })
}

/// Text as restic reads it: UTF-8, or UTF-16 with a byte order mark.
fn decoded(bytes: Vec<u8>) -> Result<String, String> {
    if bytes.len() as u64 > BYTES_MAX {
        return Err("it is larger than 1 MiB".to_owned());
    }
    let units = |bytes: &[u8], unit: fn([u8; 2]) -> u16| -> Vec<u16> {
        bytes.chunks_exact(2).filter_map(|pair| pair.try_into().ok()).map(unit).collect()
    };
    let text = match bytes.as_slice() {
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8(rest.to_vec()).ok(),
        [0xff, 0xfe, rest @ ..] => String::from_utf16(&units(rest, u16::from_le_bytes)).ok(),
        [0xfe, 0xff, rest @ ..] => String::from_utf16(&units(rest, u16::from_be_bytes)).ok(),
        _ => String::from_utf8(bytes).ok(),
    };
    text.ok_or_else(|| "it is not UTF-8".to_owned())
}

fn run(command: &str, limit: Duration) -> Result<String, String> {
    let words = shell_words::split(command).map_err(|_| "a quote in it is not closed".to_owned())?;
    let Some((program, arguments)) = words.split_first() else {
        return Err("it is empty".to_owned());
    };
    let deadline = Instant::now() + limit;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("it does not start: {error}"))?;
    let output = child.stdout.take().ok_or("it has no output")?;
    let output = in_background(move || Ok(output));
    let status = wait(&mut child, deadline)?;
    if !status.success() {
        return Err(format!("it failed: {status}"));
    }
    // A grandchild may hold the pipe open.
    let left = deadline.saturating_duration_since(Instant::now());
    decoded(receive(&output, left)?.map_err(|error| error.to_string())?)
}

fn wait(child: &mut Child, deadline: Instant) -> Result<ExitStatus, String> {
    let mut pause = Duration::from_millis(1);
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) if Instant::now() < deadline => {
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(50));
            }
            outcome => {
                // It may have ended just now; either way it is waited for.
                let _ = child.kill();
                let _ = child.wait();
                return Err(match outcome {
                    Err(error) => error.to_string(),
                    Ok(_) => "it took too long and was killed".to_owned(),
                });
            }
        }
    }
}

#[cfg(test)]
#[path = "password_tests.rs"]
mod tests;
