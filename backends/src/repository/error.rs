//! Errors of repositories in one line, with what the reader can do about them.
//!
//! rustic's errors print as a page of text that asks to report a bug, and may carry an address with a
//! password in it. [`to_error`] flattens them, hides credentials, and adds advice. [`trouble`] tells
//! apart what a caller may have to treat differently: an object that is *missing* says something
//! about the backup, a server that is *busy* does not.

use std::error::Error as StdError;
use std::io;

use firedrill_core::error::{Error, ErrorKind};
use firedrill_core::secret::redact_urls;
use rustic_core::{RusticError, RusticResult};

/// What kept a repository from answering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The object is not there.
    Missing,
    /// The object is there, and ends before the range that was asked for.
    Short,
    /// The object is larger than anything that restic writes.
    Oversized,
    /// What carries the name of an object is something else, for example a folder.
    Misshapen,
    /// The object is in cold storage and has to be thawed first.
    Cold,
    /// The object was replaced since it was looked at.
    Changed,
    /// The server, or the file system, denies access.
    Denied,
    /// There are no credentials to ask with.
    NoCredentials,
    /// The bucket does not exist.
    NoBucket,
    /// The bucket is in another region.
    Moved,
    /// The server asks for patience, or has a fault of its own.
    Busy,
    /// The request took too long.
    TimedOut,
    /// Nothing listens there, or the connection broke.
    Unreachable,
    /// The name of the server cannot be resolved.
    Unresolved,
    /// The certificate of the server is signed by nobody known.
    Untrusted,
    /// Anything else.
    Other,
}

impl Trouble {
    /// Whether this says something about what is stored, rather than about the way to it.
    pub fn is_about_content(self) -> bool {
        matches!(self, Self::Missing | Self::Short | Self::Oversized | Self::Misshapen)
    }
}

/// An error of one of our own backends; it travels as the source of a [`RusticError`].
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Fault {
    pub(crate) trouble: Trouble,
    pub(crate) text: String,
    pub(crate) advice: Option<String>,
}

impl Fault {
    pub(crate) fn new(trouble: Trouble, text: impl Into<String>) -> Self {
        Self { trouble, text: text.into(), advice: None }
    }

    pub(crate) fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// This fault as an error of ours, while attempting to `attempted`.
    pub(crate) fn into_error(self, attempted: impl Into<String>) -> Error {
        let kind = match self.trouble {
            Trouble::NoBucket => ErrorKind::NoRepository,
            Trouble::NoCredentials => ErrorKind::Usage,
            _ => ErrorKind::Unavailable,
        };
        let advice = self.advice.or_else(|| general_advice(self.trouble));
        let error =
            Error::new(kind, redact_urls(&attempted.into())).because(one_line(&redact_urls(&self.text)));
        match advice {
            Some(advice) => error.advise(advice),
            None => error,
        }
    }

    /// This fault as what a rustic backend has to return, while attempting to `attempted`.
    pub(crate) fn into_rustic(self, attempted: &str) -> Box<RusticError> {
        // Braces would be taken for placeholders.
        let guidance = format!("failed to {attempted}").replace(['{', '}'], "");
        RusticError::with_source(rustic_core::ErrorKind::Backend, guidance, self)
    }
}

/// What kept the repository from answering.
pub fn trouble(error: &RusticError) -> Trouble {
    diagnose(error).0
}

/// `error` as an error of ours in one line, for something that was attempted ("read the snapshots of
/// s3:https://host/bucket"). `kind` is kept, unless rustic knows that the password is wrong.
pub fn to_error(kind: ErrorKind, attempted: impl Into<String>, error: &RusticError) -> Error {
    let wrong_password = error.is_incorrect_password();
    let kind = if wrong_password { ErrorKind::WrongPassword } else { kind };
    let mut told = Error::new(kind, attempted);
    told.attempted = redact_urls(&told.attempted);
    for cause in causes(error) {
        told = told.because(cause);
    }
    let (_, mut advice) = diagnose(error);
    if told.causes.iter().any(|cause| cause.contains("CaUsedAsEndEntity")) {
        // restic accepts such a certificate, so the reader has reason to wonder.
        advice = Some(
            "the server shows a CA certificate as its own, which firedrill does not take: issue it one with \
             basicConstraints CA:FALSE"
                .to_owned(),
        );
    }
    match advice {
        _ if wrong_password => {
            told.advise("check RESTIC_PASSWORD, RESTIC_PASSWORD_FILE or RESTIC_PASSWORD_COMMAND")
        }
        Some(advice) => told.advise(advice),
        None => told,
    }
}

/// At most this many causes are told.
const CAUSES_MAX: usize = 8;
/// Each of them is cut after this many characters.
const CAUSE_CHARS_MAX: usize = 400;
/// Sentences of rustic that help nobody.
const FILLER: &[&str] = &[
    "Backoff failed, please check the logs for more information.",
    "Please check the file and try again.",
    "Please check the given backend and try again.",
    "Please check the path and try again.",
];

/// The chain of causes, each in one line without credentials, without repetitions.
fn causes(error: &RusticError) -> Vec<String> {
    let mut told: Vec<String> = Vec::new();
    let mut next: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(cause) = next
        && told.len() < CAUSES_MAX
    {
        let text = match as_rustic(cause) {
            Some(rustic) => message_of(rustic),
            None => cause.to_string(),
        };
        let text = one_line(&redact_urls(&text));
        if !text.is_empty() && !told.iter().any(|earlier| earlier.contains(&text)) {
            told.push(text);
        }
        next = cause.source();
    }
    told
}

fn as_rustic<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a RusticError> {
    error
        .downcast_ref::<RusticError>()
        .or_else(|| error.downcast_ref::<Box<RusticError>>().map(AsRef::as_ref))
}

/// The message of a rustic error, with the context that it does not mention.
fn message_of(error: &RusticError) -> String {
    let log = error.display_log();
    let log = log.strip_prefix("Error: ").unwrap_or(&log);
    let message = log.find(" (kind: related to ").and_then(|end| log.get(..end)).unwrap_or(log);
    let mut message = message.to_owned();
    for filler in FILLER {
        message = message.replace(filler, "");
    }
    let page = error.to_string();
    let context = page.lines().skip_while(|line| *line != "Context:").skip(1);
    for line in context.map_while(|line| line.strip_prefix("- ")) {
        message.push_str(&format!(" ({line})"));
    }
    message
}

fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let line = words.join(" ");
    let line = line.trim_end_matches(['.', ' ']);
    match line.char_indices().nth(CAUSE_CHARS_MAX) {
        Some((cut, _)) => format!("{}...", line.get(..cut).unwrap_or_default()),
        None => line.to_owned(),
    }
}

/// The trouble, and what to do about it.
fn diagnose(error: &RusticError) -> (Trouble, Option<String>) {
    let mut next: Option<&(dyn StdError + 'static)> = Some(error);
    let mut found = (Trouble::Other, None);
    while let Some(cause) = next {
        if let Some(fault) = cause.downcast_ref::<Fault>() {
            return (fault.trouble, fault.advice.clone().or_else(|| general_advice(fault.trouble)));
        }
        if let Some(http) = cause.downcast_ref::<reqwest::Error>() {
            let trouble = of_http(http);
            return (trouble, rest_advice(trouble).or_else(|| general_advice(trouble)));
        }
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            let trouble = of_io(io);
            found = (trouble, local_advice(trouble).or_else(|| general_advice(trouble)));
        }
        next = cause.source();
    }
    found
}

pub(crate) fn of_http(error: &reqwest::Error) -> Trouble {
    match error.status().map(|status| status.as_u16()) {
        Some(401 | 403) => Trouble::Denied,
        Some(404) => Trouble::Missing,
        Some(416) => Trouble::Short,
        Some(408 | 429 | 500..) => Trouble::Busy,
        _ if error.is_timeout() => Trouble::TimedOut,
        _ => of_chain(error),
    }
}

pub(crate) fn of_io(error: &io::Error) -> Trouble {
    match error.kind() {
        io::ErrorKind::NotFound => Trouble::Missing,
        io::ErrorKind::PermissionDenied => Trouble::Denied,
        io::ErrorKind::UnexpectedEof => Trouble::Short,
        io::ErrorKind::TimedOut => Trouble::TimedOut,
        io::ErrorKind::ConnectionRefused
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable => Trouble::Unreachable,
        _ => Trouble::Other,
    }
}

/// What the texts of a chain of errors say of a connection that failed. Neither hyper nor rustls
/// lets us ask by type through two layers of boxes.
pub(crate) fn of_chain(error: &(dyn StdError + 'static)) -> Trouble {
    let mut texts = String::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        texts.push_str(&cause.to_string().to_lowercase());
        texts.push('\n');
        next = cause.source();
    }
    let says = |needle: &str| texts.contains(needle);
    if says("certificate") || says("unknownissuer") {
        Trouble::Untrusted
    } else if says("dns error") || says("failed to lookup address") || says("name or service not known") {
        Trouble::Unresolved
    } else if says("timed out") || says("timeout") {
        Trouble::TimedOut
    } else if says("connection refused")
        || says("connection reset")
        || says("unreachable")
        || says("connection closed")
        || says("tcp connect error")
    {
        Trouble::Unreachable
    } else {
        Trouble::Other
    }
}

pub(crate) fn rest_advice(trouble: Trouble) -> Option<String> {
    let advice = match trouble {
        Trouble::Denied => {
            "access denied: check user name and password (RESTIC_REST_USERNAME, RESTIC_REST_PASSWORD)"
        }
        Trouble::Missing => "check the path in the address: the server knows nothing there",
        _ => return None,
    };
    Some(advice.to_owned())
}

/// What to do about trouble with a folder.
pub(crate) fn local_advice(trouble: Trouble) -> Option<String> {
    let advice = match trouble {
        Trouble::Denied => {
            "run as a user who may read the repository: restic writes files for their owner alone"
        }
        _ => return None,
    };
    Some(advice.to_owned())
}

fn general_advice(trouble: Trouble) -> Option<String> {
    let advice = match trouble {
        Trouble::Cold => "object is in cold storage: thaw it first, or restore-test another copy",
        Trouble::Busy => "the server has a fault or asks for patience: try again later",
        Trouble::TimedOut => "the server or the network is slow: try again, or allow more time per request",
        Trouble::Unreachable => "nothing answers there: check host and port, and that the server runs",
        Trouble::Unresolved => "check the host name, and that this machine resolves it",
        Trouble::Untrusted => "pass the CA of the server with --cacert or RESTIC_CACERT",
        _ => return None,
    };
    Some(advice.to_owned())
}

/// Says what was attempted when `result` is an error of ours.
pub(crate) fn or_rustic<T>(result: Result<T, Fault>, attempted: impl FnOnce() -> String) -> RusticResult<T> {
    result.map_err(|fault| fault.into_rustic(&attempted()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_becomes_a_line() {
        let source = io::Error::from(io::ErrorKind::PermissionDenied);
        let error = RusticError::with_source(
            rustic_core::ErrorKind::Backend,
            "Failed to read the contents of the file. Please check the file and try again.",
            source,
        )
        .attach_context("path", "/repo/config")
        .ask_report();
        let told = to_error(ErrorKind::Unavailable, "open the repository", &error);
        assert_eq!(told.kind, ErrorKind::Unavailable);
        assert!(!told.chain().contains('\n') && !told.chain().contains("report"), "{}", told.chain());
        assert_eq!(
            told.causes,
            ["Failed to read the contents of the file. (path: /repo/config)", "permission denied"]
        );
        assert!(told.advice.is_some_and(|advice| advice.contains("may read")));
        assert_eq!(trouble(&error), Trouble::Denied);
    }

    #[test]
    fn nested_errors_stay_short_and_keep_their_trouble() {
        let inner =
            Fault::new(Trouble::Cold, "object is in cold storage (InvalidObjectState): thaw it first")
                .into_rustic("read pack {abc}");
        let outer = RusticError::with_source(rustic_core::ErrorKind::Internal, "reading failed", inner);
        let told = to_error(ErrorKind::Unavailable, "restore", &outer);
        assert_eq!(trouble(&outer), Trouble::Cold);
        assert_eq!(told.causes.len(), 3, "{told:?}");
        assert!(told.chain().contains("(InvalidObjectState): thaw it first"));
    }

    #[test]
    fn credentials_are_hidden() {
        let error = RusticError::new(rustic_core::ErrorKind::Backend, "get `{url}` failed")
            .attach_context("url", "http://u:hunter2@h/x")
            .attach_context("other", "rest:https://u:hunter2@h/");
        let told = to_error(ErrorKind::Unavailable, "read rest:http://u:hunter2@h/", &error).chain();
        assert!(!told.contains("hunter2"), "{told}");
    }

    #[test]
    fn a_wrong_password_has_its_own_kind() {
        let error = RusticError::new(rustic_core::ErrorKind::Credentials, "no key").attach_error_code("C002");
        assert_eq!(to_error(ErrorKind::Unavailable, "open", &error).kind, ErrorKind::WrongPassword);
    }

    #[test]
    fn a_ca_as_a_server_has_advice_of_its_own() {
        let source = io::Error::other("invalid peer certificate: Other(OtherError(CaUsedAsEndEntity))");
        let error = RusticError::with_source(rustic_core::ErrorKind::Backend, "get", source);
        assert!(to_error(ErrorKind::Unavailable, "open", &error).chain().contains("CA:FALSE"));
    }

    #[test]
    fn endless_texts_are_cut() {
        let error = RusticError::new(rustic_core::ErrorKind::Backend, "x\n".repeat(10_000));
        let told = to_error(ErrorKind::Unavailable, "open", &error);
        assert!(told.chain().len() < 1000);
    }
}
