//! Pushes the metrics of a run to a Prometheus Pushgateway.
//!
//! Groups, each replaced as a whole (`PUT`), so that no measurement of an older run survives in it:
//!
//! | group | holds |
//! |---|---|
//! | `/metrics/job/firedrill/copy/<copy>/tag/<tag>` | everything about one tag but its last success |
//! | `/metrics/job/firedrill_last_success/copy/<copy>/tag/<tag>` | its last success; pushed only when verified |
//! | `/metrics/job/firedrill` | the run as a whole |
//! | `/metrics/job/backup/instance/backup-restore-test` | `backup_restore_status`, for existing alerts |
//!
//! The last success has a group of its own because a failing run must leave it untouched. Replacing only
//! what is pushed (`POST`) into one common group would keep it too, but would also keep the recovery
//! times and points of an older run beside the verdict of this one.
//!
//! One tag that is refused does not keep the others from being pushed. A gateway that does not answer at
//! all ends the push, and everything together takes a bounded time.

pub(crate) mod client;
pub(crate) mod group;

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::judge::Judgement;
use firedrill_core::ports::Sink;
use firedrill_core::secret::{Secret, redact_urls};
use firedrill_core::verdict::Verdict;
use url::Url;

use crate::http::{self, Failure};
use crate::prometheus::{Metrics, ReferenceStatus, encode, merged, reference_status};
use client::Client;
use group::Key;
/// The job of groups that nobody named.
const JOB: &str = "firedrill";
/// What the job of the groups ends in that hold nothing but the last success.
pub(crate) const SUCCESS: &str = "_last_success";
/// At most this many refusals are told one by one.
const REFUSALS_MAX: usize = 3;

/// How firedrill makes itself known to the gateway (or the proxy before it).
#[derive(Clone, Debug, Default)]
pub enum Auth {
    /// With the user and password in the URL, if there are any.
    #[default]
    InUrl,
    /// With a user and a password.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: Secret,
    },
    /// With a token.
    Bearer(Secret),
}

/// Where and how to push.
#[derive(Clone)]
pub struct PushgatewayOptions {
    /// The URL of the gateway, without `/metrics`.
    pub url: String,
    /// Credentials.
    pub auth: Auth,
    /// The label `job` of the groups.
    pub job: String,
    /// The label `instance` of the groups: one per firedrill that pushes to the same gateway.
    pub instance: Option<String>,
    /// How `backup_restore_status` is pushed.
    pub reference_status: ReferenceStatus,
    /// Whether groups of tags that are no longer in the plan are deleted. Set this only for a run whose
    /// plan covers every tag.
    pub prune: bool,
    /// Time limit for one request.
    pub request_timeout: Duration,
    /// Time limit for everything.
    pub timeout: Duration,
    /// Pause before the second attempt; it doubles before the third, which is the last.
    pub pause: Duration,
}

impl PushgatewayOptions {
    /// The defaults for a gateway at `url`.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            auth: Auth::InUrl,
            job: JOB.to_owned(),
            instance: None,
            reference_status: ReferenceStatus::Gauge,
            prune: false,
            request_timeout: Duration::from_secs(10),
            timeout: Duration::from_secs(120),
            pause: Duration::from_millis(500),
        }
    }
}

impl PushgatewayOptions {
    /// The group of everything whose job ends in `ending`.
    pub(crate) fn group(&self, ending: &str) -> Key {
        let key = Key::of_job(&format!("{}{ending}", self.job));
        match &self.instance {
            Some(instance) => key.with("instance", instance),
            None => key,
        }
    }
}

impl fmt::Debug for PushgatewayOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PushgatewayOptions")
            .field("url", &redact_urls(&self.url))
            .field("auth", &self.auth)
            .field("reference_status", &self.reference_status)
            .field("prune", &self.prune)
            .finish_non_exhaustive()
    }
}

/// Pushes metrics.
#[derive(Clone, Debug)]
pub struct Pushgateway {
    options: PushgatewayOptions,
}

impl Pushgateway {
    /// Pushes as `options` say.
    pub fn new(options: PushgatewayOptions) -> Self {
        Self { options }
    }
}

impl Sink for Pushgateway {
    fn name(&self) -> String {
        match base(&self.options.url) {
            Ok(url) => format!("pushgateway {}", shown(&url)),
            Err(_) => "pushgateway".to_owned(),
        }
    }

    /// Checks the form of the URL only: a gateway that is down must not keep backups from being tested.
    fn preflight(&mut self) -> Result<()> {
        base(&self.options.url).map(drop)
    }

    fn finish(&mut self, judgement: &Judgement) -> Result<()> {
        let base = base(&self.options.url)?;
        let pushes = pushes(judgement, &self.options)?;
        http::apart("push metrics", || ship(&self.options, base, judgement, &pushes))
    }
}

/// The base of all URLs.
pub(crate) fn base(url: &str) -> Result<Url> {
    let bad = |why: String, advice: &str| {
        // The text of what is no URL is not repeated: nobody could tell where a password in it ends.
        Error::new(ErrorKind::Usage, "read the URL of the Pushgateway").because(why).advise(advice)
    };
    let example = "write it like http://pushgateway:9091";
    let parsed = Url::parse(url.trim()).map_err(|e| bad(e.to_string(), example))?;
    if !matches!(parsed.scheme(), "http" | "https") || !parsed.has_host() {
        return Err(bad("it is not an http or https URL".to_owned(), example));
    }
    if parsed.query().is_some() || parsed.fragment().is_some() {
        return Err(bad("it has a query or a fragment".to_owned(), example));
    }
    let path = parsed.path().trim_end_matches('/');
    if path.ends_with("/metrics") || path.contains("/metrics/job") {
        return Err(bad("it names a group of metrics".to_owned(), "leave out /metrics and what follows"));
    }
    Ok(parsed)
}

/// A URL for people: without credentials.
fn shown(url: &Url) -> String {
    let mut shown = url.clone();
    // Both fail only for URLs that cannot have credentials.
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    shown.to_string().trim_end_matches('/').to_owned()
}

/// One group and its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Push {
    pub(crate) key: Key,
    pub(crate) body: String,
}

/// Everything that is pushed, tags first: should the gateway fail in the middle, the run as a whole does
/// not look newer than its tags.
fn pushes(judgement: &Judgement, options: &PushgatewayOptions) -> Result<Vec<Push>> {
    let (whole, success) = (options.group(""), options.group(SUCCESS));
    let status = options.reference_status;
    let mut pushes = Vec::new();
    for series in merged(judgement) {
        let mut metrics = Metrics::default();
        metrics.tag(judgement, &series)?;
        let key = whole.of_tag(&series.copy, &series.tag);
        pushes.push(Push { key, body: encode(&metrics.families())? });
        let mut metrics = Metrics::default();
        if metrics.success(judgement, &series)? {
            let key = success.of_tag(&series.copy, &series.tag);
            pushes.push(Push { key, body: encode(&metrics.families())? });
        }
    }
    let mut metrics = Metrics::default();
    metrics.run(judgement)?;
    pushes.push(Push { key: whole, body: encode(&metrics.families())? });
    if status != ReferenceStatus::Off {
        let key = Key::of_job("backup").with("instance", "backup-restore-test");
        pushes.push(Push { key, body: reference_status(judgement, status) });
    }
    Ok(pushes)
}

fn ship(options: &PushgatewayOptions, base: Url, judgement: &Judgement, pushes: &[Push]) -> Result<()> {
    let client = Client::new(options, base)?;
    let mut refused = put_all(&client, pushes)?;
    if options.prune
        && let Err(error) = prune(&client, judgement, options)
    {
        refused.push(error);
    }
    summed_up(refused, pushes.len())
}

/// Puts every group; what was refused comes back. A gateway that does not answer ends it.
fn put_all(client: &Client, pushes: &[Push]) -> Result<Vec<Error>> {
    let mut refused = Vec::new();
    for (done, push) in pushes.iter().enumerate() {
        match client.put(&push.key, &push.body) {
            Ok(()) => {}
            Err(Failure::Refused(error)) => refused.push(error),
            Err(Failure::Unreachable(error)) => {
                let left = pushes.len() - done;
                return Err(error.because(format!("{left} of {} groups were not pushed", pushes.len())));
            }
        }
    }
    Ok(refused)
}

/// Puts groups of jobs.
pub(crate) fn push(options: &PushgatewayOptions, pushes: &[Push]) -> Result<()> {
    let base = base(&options.url)?;
    http::apart("push metrics", || {
        let refused = put_all(&Client::new(options, base)?, pushes)?;
        summed_up(refused, pushes.len())
    })
}

/// One error that tells of all of them.
fn summed_up(refused: Vec<Error>, pushed: usize) -> Result<()> {
    let count = refused.len();
    let mut refused = refused.into_iter();
    let Some(mut first) = refused.next() else { return Ok(()) };
    first.causes.extend(refused.take(REFUSALS_MAX - 1).map(|e| e.chain()));
    if count > 1 {
        first.causes.push(format!("{count} of {pushed} groups were refused in all"));
    }
    Err(first)
}

/// Deletes what was pushed once for tags that are gone. Only for copies that could be read, are not
/// damaged, and still hold something: a tag that seems to be gone because its copy is broken or was
/// emptied has to go on raising alarms.
fn prune(client: &Client, judgement: &Judgement, options: &PushgatewayOptions) -> Result<()> {
    if judgement.seconds.is_none() || !judgement.reasons.is_empty() {
        return Ok(());
    }
    let planned: BTreeSet<_> = merged(judgement).into_iter().map(|s| (s.copy, s.tag)).collect();
    let readable: BTreeSet<_> = judgement
        .copies
        .iter()
        .filter(|c| c.verdict == Verdict::Verified)
        .map(|c| c.name.0.as_str())
        .filter(|name| planned.iter().any(|(copy, _)| copy == name))
        .collect();
    for key in client.groups()? {
        let groups = [options.group(""), options.group(SUCCESS)];
        let Some((copy, tag)) = groups.iter().find_map(|whole| key.as_tag_of(whole)) else { continue };
        if readable.contains(copy) && !planned.contains(&(copy.to_owned(), tag.to_owned())) {
            client.delete(&key).map_err(Failure::into_error)?;
        }
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;
