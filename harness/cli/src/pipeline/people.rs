//! Who hears what becomes of jobs: from the config to observers and messengers.

use firedrill_backends::repository::access::Environment;
use firedrill_core::config::Config;
use firedrill_core::config::notify::Notify;
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::pipeline::news;
use firedrill_core::pipeline::runner::Observer;
use firedrill_core::pipeline::spec::JobSpec;
use firedrill_core::secret::Secret;
use firedrill_reports::jobs::messages::{Login, Messages, Way};
use firedrill_reports::jobs::metrics::JobMetrics;
use firedrill_reports::jobs::pings::Pings;
use jiff::Timestamp;

use super::Fleet;
use crate::{complain, sinks};

/// Everybody who hears of one job, or of all.
pub(super) struct People {
    metrics: Option<JobMetrics>,
    pings: Option<Pings>,
    messages: Messages,
    repeat: std::time::Duration,
}

impl People {
    /// Those who hear of `job`; without one, of all jobs.
    pub(super) fn of(config: &Config, job: Option<&JobSpec>, environment: &Environment) -> Result<Self> {
        let metrics = match &config.sinks.pushgateway {
            Some(gateway) => Some(JobMetrics::new(sinks::pushgateway(gateway)?, &gateway.also)),
            None => None,
        };
        let all = JobSpec::all(config);
        let urls = all.iter().filter(|one| job.is_none_or(|job| job.name == one.name)).filter_map(|one| {
            let name = one.rules.ping_env.as_deref()?;
            Some(secret(environment, name).map(|url| (one.name.clone(), url)))
        });
        let urls = urls.collect::<Result<std::collections::BTreeMap<_, _>>>()?;
        let pings = (!urls.is_empty()).then(|| Pings::new(urls));
        Ok(Self {
            metrics,
            pings,
            messages: Messages::new(ways(&config.notify, environment)?),
            repeat: config.notify.repeat.map_or(news::REPEAT, |span| span.0),
        })
    }

    pub(super) fn observers(&self) -> Vec<&dyn Observer> {
        let metrics = self.metrics.iter().map(|metrics| metrics as &dyn Observer);
        metrics.chain(self.pings.iter().map(|pings| pings as &dyn Observer)).collect()
    }

    /// Tells people the news, and says whether everybody could be told everything.
    pub(super) fn tell(&self, fleet: &Fleet, now: Timestamp) -> bool {
        let mut troubles: Vec<Error> = self.metrics.iter().flat_map(JobMetrics::troubles).collect();
        troubles.extend(self.pings.iter().flat_map(Pings::troubles));
        if !self.messages.is_empty() {
            troubles
                .extend(news::tell(&fleet.ledger, &fleet.names(), &self.messages, now, self.repeat).err());
        }
        troubles.iter().for_each(complain);
        troubles.is_empty()
    }
}

fn secret(environment: &Environment, name: &str) -> Result<Secret> {
    environment.get(name).map(Secret::new).ok_or_else(|| {
        Error::new(ErrorKind::Usage, format!("read the variable {name}"))
            .because("it is not set")
            .advise("the config names it; set it, or remove the key")
    })
}

fn ways(notify: &Notify, environment: &Environment) -> Result<Vec<Way>> {
    let mut ways = Vec::new();
    if let Some(ntfy) = &notify.ntfy {
        let login = match (&ntfy.token_env, &ntfy.username, &ntfy.password_env) {
            (Some(name), _, _) => Login::Token(secret(environment, name)?),
            (_, Some(user), Some(name)) => Login::User(user.clone(), secret(environment, name)?),
            _ => Login::None,
        };
        ways.push(Way::Ntfy {
            server: ntfy.server.clone(),
            topic: ntfy.topic.clone(),
            priority: ntfy.priority,
            tags: ntfy.tags.clone(),
            title: None,
            login,
        });
    }
    for hook in &notify.webhooks {
        let url = match (&hook.url, &hook.url_env) {
            (Some(url), _) => Secret::new(url.clone()),
            (None, Some(name)) => secret(environment, name)?,
            (None, None) => continue,
        };
        let headers = hook
            .headers_env
            .iter()
            .map(|(header, name)| Ok((header.clone(), secret(environment, name)?)))
            .collect::<Result<_>>()?;
        ways.push(Way::Webhook { url, headers });
    }
    Ok(ways)
}
