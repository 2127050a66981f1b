//! What a bucket says of itself, in words for people.

use std::collections::BTreeMap;

use aws_sdk_s3::types::{ExpirationStatus, LifecycleRule};

use super::error;
use super::objects::Objects;
use crate::repository::error::{Fault, Trouble};

/// So many rules are told.
const RULES_TOLD: usize = 20;

impl Objects {
    /// Versioning, object lock and lifecycle. What is denied or not supported is not known, with the reason.
    pub(crate) fn settings(&self) -> BTreeMap<String, String> {
        let all = [
            ("versioning", self.versioning()),
            ("object_lock", self.object_lock()),
            ("lifecycle", self.lifecycle()),
        ];
        let told =
            |said: Result<String, Fault>| said.unwrap_or_else(|fault| format!("not known: {}", fault.text));
        all.into_iter().map(|(name, said)| (name.to_owned(), told(said))).collect()
    }

    fn versioning(&self) -> Result<String, Fault> {
        let bucket = self.bucket.clone();
        self.runtime.run(bucket.limit(0), async move {
            let said = bucket.client.get_bucket_versioning().bucket(&*bucket.name).send().await;
            let said = said.map_err(|error| error::fault(&error, &bucket.name))?;
            let delete = said.mfa_delete().filter(|mfa| mfa.as_str() == "Enabled");
            let text = said.status().map_or("off", |status| match status.as_str() {
                "Enabled" => "on",
                "Suspended" => "suspended",
                _ => "not known",
            });
            Ok(if delete.is_some() { format!("{text}, deleting needs MFA") } else { text.to_owned() })
        })
    }

    fn object_lock(&self) -> Result<String, Fault> {
        let bucket = self.bucket.clone();
        let said = self.runtime.run(bucket.limit(0), async move {
            let said = bucket.client.get_object_lock_configuration().bucket(&*bucket.name).send().await;
            said.map_err(|error| error::fault(&error, &bucket.name))
        });
        let said = match said {
            Ok(said) => said,
            Err(fault) if is_absent(&fault) => return Ok("off".to_owned()),
            Err(fault) => return Err(fault),
        };
        let config = said.object_lock_configuration();
        if config.and_then(|config| config.object_lock_enabled()).is_none() {
            return Ok("off".to_owned());
        }
        let Some(default) = config.and_then(|config| config.rule()?.default_retention()) else {
            return Ok(
                "on, without a default retention: only objects that are locked one by one are".to_owned()
            );
        };
        let mode = default.mode().map_or("unknown mode", |mode| mode.as_str());
        let span = match (default.days(), default.years()) {
            (Some(days), _) => format!("{days} days"),
            (_, Some(years)) => format!("{years} years"),
            _ => "an unknown time".to_owned(),
        };
        Ok(format!("on, {mode}, {span} by default"))
    }

    fn lifecycle(&self) -> Result<String, Fault> {
        let bucket = self.bucket.clone();
        let said = self.runtime.run(bucket.limit(0), async move {
            let said = bucket.client.get_bucket_lifecycle_configuration().bucket(&*bucket.name).send().await;
            said.map_err(|error| error::fault(&error, &bucket.name))
        });
        match said {
            Ok(said) if said.rules().is_empty() => Ok("no rules".to_owned()),
            Ok(said) => {
                let rules: Vec<String> = said.rules().iter().take(RULES_TOLD).map(rule).collect();
                Ok(rules.join("; "))
            }
            Err(fault) if is_absent(&fault) => Ok("no rules".to_owned()),
            Err(fault) => Err(fault),
        }
    }
}

/// Servers answer so when nothing was set; they answer otherwise when they do not know the question.
fn is_absent(fault: &Fault) -> bool {
    let codes = ["ObjectLockConfigurationNotFoundError", "NoSuchLifecycleConfiguration"];
    codes.iter().any(|code| fault.text.starts_with(code)) && fault.trouble != Trouble::Denied
}

fn rule(rule: &LifecycleRule) -> String {
    let mut does: Vec<String> = Vec::new();
    for change in rule.transitions() {
        let class = change.storage_class().map_or("another class", |class| class.as_str());
        does.push(format!("to {class} {}", after(change.days())));
    }
    if let Some(expiry) = rule.expiration() {
        match (expiry.days(), expiry.date()) {
            (None, None) => does.push("delete markers without versions go".to_owned()),
            (days, _) => does.push(format!("deleted {}", after(days))),
        }
    }
    if let Some(old) = rule.noncurrent_version_expiration() {
        does.push(format!("old versions deleted {}", after(old.noncurrent_days())));
    }
    if let Some(parts) = rule.abort_incomplete_multipart_upload() {
        does.push(format!("unfinished uploads given up {}", after(parts.days_after_initiation())));
    }
    let below = rule.filter().and_then(|filter| filter.prefix().or_else(|| filter.and()?.prefix()));
    #[expect(deprecated, reason = "old rules have their prefix here")]
    let below = below.or_else(|| rule.prefix()).filter(|prefix| !prefix.is_empty());
    let place = below.map_or_else(|| "everything".to_owned(), |prefix| format!("below {prefix}"));
    let off = if *rule.status() == ExpirationStatus::Enabled { "" } else { " (switched off)" };
    format!("{place}: {}{off}", if does.is_empty() { "nothing".to_owned() } else { does.join(", ") })
}

fn after(days: Option<i32>) -> String {
    days.map_or_else(|| "at a fixed date".to_owned(), |days| format!("after {days} days"))
}
