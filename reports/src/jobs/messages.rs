//! Messages to people: ntfy and webhooks. Formats: <https://docs.ntfy.sh/publish/>; a webhook gets the message of
//! [`Message`] as JSON, with `title` and `text` beside.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::pipeline::news::{Brought, Message, Messenger};
use firedrill_core::secret::Secret;
use reqwest::blocking::RequestBuilder;
use serde_json::json;
use url::Url;

use crate::http::{self, Limits};
use crate::text;

/// ntfy turns longer messages into attachments: bytes.
const NTFY_MAX: usize = 4_000;
/// A line about one job is cut to this many characters: the others have to be told, too.
const LINE_MAX: usize = 500;
/// Time for one way of telling people.
const TIME: Duration = Duration::from_secs(60);

/// A way that does not work is left alone for so long: at first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(3600));

/// One way of telling people.
#[derive(Clone, Debug)]
pub enum Way {
    /// A topic of an ntfy server.
    Ntfy {
        /// The server.
        server: String,
        /// The topic.
        topic: String,
        /// From 1 to 5.
        priority: u8,
        /// Tags.
        tags: Vec<String>,
        /// What the title is, instead of one that says what happened.
        title: Option<String>,
        /// Who we are.
        login: Login,
    },
    /// A web server that takes JSON.
    Webhook {
        /// Its URL, which may be a secret.
        url: Secret,
        /// Headers.
        headers: Vec<(String, Secret)>,
    },
}

/// Who we are to an ntfy server.
#[derive(Clone, Debug, Default)]
pub enum Login {
    /// Nobody.
    #[default]
    None,
    /// The owner of a token.
    Token(Secret),
    /// A user with a password.
    User(String, Secret),
}

/// All ways of telling people. One that does not work is left alone for a while, and said to be broken once.
#[derive(Debug)]
pub struct Messages {
    ways: Vec<(Way, Mutex<Option<Broken>>)>,
    pauses: (Duration, Duration),
}

/// A way that does not work.
#[derive(Clone, Copy, Debug)]
struct Broken {
    /// When it failed last.
    since: Instant,
    /// It is left alone for so long.
    pause: Duration,
}

impl Messages {
    /// Tells people in all of these ways.
    pub fn new(ways: Vec<Way>) -> Self {
        let ways = ways.into_iter().map(|way| (way, Mutex::default())).collect();
        Self { ways, pauses: PAUSES }
    }

    /// With other pauses for a way that does not work: the first, and the longest. Each is twice the one before.
    #[must_use]
    pub fn with_pauses(mut self, first: Duration, longest: Duration) -> Self {
        self.pauses = (first, longest);
        self
    }

    /// Tries one way, unless it is left alone for now: whether people were told, and what nobody has heard of yet.
    fn attempt(&self, way: &Way, broken: &Mutex<Option<Broken>>, message: &Message) -> (bool, Option<Error>) {
        let mut broken = broken.lock().unwrap_or_else(PoisonError::into_inner);
        if broken.is_some_and(|broken| broken.since.elapsed() < broken.pause) {
            return (false, None);
        }
        let Err(error) = http::apart("tell people", || way.bring(message)) else {
            *broken = None;
            return (true, None);
        };
        let before = *broken;
        let (first, longest) = self.pauses;
        let pause = before.map_or(first, |broken| broken.pause.saturating_mul(2)).min(longest);
        *broken = Some(Broken { since: Instant::now(), pause });
        (false, before.is_none().then(|| way.silent(error)))
    }

    /// Whether there is any way.
    pub fn is_empty(&self) -> bool {
        self.ways.is_empty()
    }
}

impl Messenger for Messages {
    fn bring(&self, message: &Message) -> Result<Brought> {
        let (mut told, mut failed) = (self.ways.is_empty(), Vec::new());
        for (way, broken) in &self.ways {
            let (done, anew) = self.attempt(way, broken, message);
            told |= done;
            failed.extend(anew);
        }
        // Who was told in one way is told; the other way is broken, and that has to be said as well.
        if told {
            for error in failed {
                tracing::warn!("{}", error.chain());
            }
            return Ok(Brought::Yes);
        }
        let mut failed = failed.into_iter();
        let Some(mut first) = failed.next() else { return Ok(Brought::Later) };
        first.causes.extend(failed.map(|error| error.chain()));
        Err(first)
    }
}

impl Way {
    fn bring(&self, message: &Message) -> Result<()> {
        match self {
            Self::Ntfy { server, topic, priority, tags, title, login } => {
                let url = address(server, "ntfy")?;
                let client = http::client(&url, "ntfy")?;
                // What is well again needs nobody to get up at night.
                let calm = message.bad.is_empty() && message.still_bad.is_empty();
                let body = json!({
                    "topic": topic,
                    // A title that somebody chose says that something failed.
                    "title": title.clone().filter(|_| !calm).unwrap_or_else(|| text::clean(&message.title())),
                    "message": lines(&message.text(), NTFY_MAX),
                    "priority": if calm { 3 } else { *priority },
                    "tags": if calm { vec!["white_check_mark".to_owned()] } else { tags.clone() },
                });
                post(
                    "tell ntfy",
                    |client, url| match login {
                        Login::None => client.post(url),
                        Login::Token(token) => client.post(url).bearer_auth(token.reveal()),
                        Login::User(user, password) => {
                            client.post(url).basic_auth(user, Some(password.reveal()))
                        }
                    },
                    &client,
                    &url,
                    &body,
                )
            }
            Self::Webhook { url, headers } => {
                let url = address(url.reveal(), "a webhook")?;
                let client = http::client(&url, "a webhook")?;
                let mut body = serde_json::to_value(message)
                    .map_err(|e| Error::new(ErrorKind::Internal, "write a message").from_source(&e))?;
                if let Some(map) = body.as_object_mut() {
                    map.insert("title".to_owned(), message.title().into());
                    map.insert("text".to_owned(), message.text().into());
                }
                post(
                    "tell a webhook",
                    |client, url| {
                        headers.iter().fold(client.post(url), |request, (name, value)| {
                            request.header(name, value.reveal())
                        })
                    },
                    &client,
                    &url,
                    &body,
                )
            }
        }
    }
}

impl Way {
    /// An error that tells no secret of this way.
    fn silent(&self, error: Error) -> Error {
        let secrets = match self {
            Self::Ntfy { server, login, .. } => {
                let mut secrets = address(server, "ntfy").map(|url| user_of(&url)).unwrap_or_default();
                match login {
                    Login::None => {}
                    Login::Token(token) => secrets.push(token.reveal().to_owned()),
                    Login::User(user, password) => {
                        let pair = format!("{user}:{}", password.reveal());
                        secrets.extend([STANDARD.encode(pair), password.reveal().to_owned()]);
                    }
                }
                secrets
            }
            Self::Webhook { url, headers } => {
                let url = address(url.reveal(), "a webhook").map(|url| http::secrets_of(&url));
                let headers = headers.iter().map(|(_, value)| value.reveal().to_owned());
                url.unwrap_or_default().into_iter().chain(headers).collect()
            }
        };
        http::conceal(error, &secrets)
    }
}

/// The credentials in a URL that is no secret itself.
fn user_of(url: &Url) -> Vec<String> {
    url.password().map(str::to_owned).into_iter().collect()
}

/// What may be shown of a text of several lines, in at most so many bytes.
pub(super) fn lines(text: &str, bytes_max: usize) -> String {
    let mut shown = String::new();
    for line in text.lines() {
        let line = text::brief(line, LINE_MAX);
        if shown.len() + line.len() + 2 > bytes_max.saturating_sub('…'.len_utf8()) {
            shown.push('…');
            break;
        }
        if !shown.is_empty() {
            shown.push('\n');
        }
        shown.push_str(&line);
    }
    shown
}

fn post(
    attempted: &str,
    request: impl Fn(&reqwest::blocking::Client, Url) -> RequestBuilder,
    client: &reqwest::blocking::Client,
    url: &Url,
    body: &serde_json::Value,
) -> Result<()> {
    let limits = Limits {
        deadline: Instant::now().checked_add(TIME),
        request: Duration::from_secs(15),
        pause: Duration::from_secs(1),
    };
    let text = body.to_string();
    let sent = http::send(
        attempted,
        limits,
        || request(client, url.clone()).header("content-type", "application/json").body(text.clone()),
        |status, _| match status.as_u16() {
            401 | 403 => Some("check the token, or the user and password".to_owned()),
            404 => Some("check the URL and the topic".to_owned()),
            _ => None,
        },
    );
    sent.map(drop).map_err(http::Failure::into_error)
}

/// A URL that may be a secret: it is not repeated.
pub(super) fn address(text: &str, what: &str) -> Result<Url> {
    let failed = |why: String| Error::new(ErrorKind::Usage, format!("read the URL of {what}")).because(why);
    let url = Url::parse(text.trim()).map_err(|e| failed(e.to_string()))?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(url),
        _ => Err(failed("it is not an http or https URL".to_owned())),
    }
}
