//! What a running etcd says, against what the pages of the snapshot hold.

use std::collections::BTreeMap;

use firedrill_core::config::settings::EtcdExpectation;
use firedrill_core::finding::Finding;
use firedrill_core::manifest::display_path;
use firedrill_core::watch::Watch;
use sha2::{Digest, Sha256};

use super::content::{Content, Sampled, fingerprint};
use super::server::{Failure, Server, quoted};

/// Keys asked for at once.
const PAGE: usize = 2000;
/// An etcd takes 128 operations in one transaction.
const OPERATIONS_MAX: usize = 64;
/// Bytes of values asked for at once.
const VALUES_MAX: usize = 8 << 20;
/// Different values that are told one by one.
const DIFFERENT_MAX: usize = 10;

/// The keys of a running etcd at the revision of the snapshot.
#[derive(Debug, Default)]
pub(super) struct Keys {
    pub(super) count: u64,
    digest: u64,
    newest: u64,
    /// For each prefix that is expected.
    pub(super) prefixes: BTreeMap<String, u64>,
}

/// The first question: how many keys there are.
pub(super) fn count(server: &Server<'_>, content: &Content) -> Result<(u64, u64), Failure> {
    // At the revision of the snapshot: leases go on expiring.
    // An answer with few keys still counts all of them.
    let question =
        format!("get --from-key --keys-only --limit=1 --rev={} -- {}", content.revision, quoted(&[0]));
    let answers = server.ask(&[question])?;
    let count = answers.ranges.first().map_or(0, |range| range.count);
    Ok((answers.revision, count))
}

/// All keys, page by page.
pub(super) fn keys(
    server: &Server<'_>,
    content: &Content,
    expected: Option<&EtcdExpectation>,
    watch: &Watch,
) -> Result<Keys, Failure> {
    let mut keys = Keys::default();
    let wanted: Vec<&String> = expected.iter().flat_map(|e| e.prefixes.keys()).collect();
    keys.prefixes = wanted.iter().map(|prefix| ((*prefix).clone(), 0)).collect();
    let mut from = vec![0];
    loop {
        watch.check()?;
        let question = format!(
            "get --from-key --keys-only --limit={PAGE} --rev={} -- {}",
            content.revision,
            quoted(&from)
        );
        let mut answers = server.ask(&[question])?;
        let Some(page) = answers.ranges.pop() else { return Ok(keys) };
        let more = page.more && !page.kvs.is_empty();
        for pair in &page.kvs {
            let key = pair.key().filter(|key| *key >= from);
            let Some(key) = key else {
                return Err(Failure::Trouble("etcdctl lists keys that are out of order".to_owned()));
            };
            keys.count += 1;
            keys.newest = keys.newest.max(pair.mod_revision);
            let one = fingerprint(&key, pair.create_revision, pair.mod_revision, pair.version);
            keys.digest = keys.digest.wrapping_add(one);
            for prefix in wanted.iter().filter(|prefix| key.starts_with(prefix.as_bytes())) {
                *keys.prefixes.entry((*prefix).clone()).or_default() += 1;
            }
            from = key;
            from.push(0);
        }
        if !more {
            return Ok(keys);
        }
    }
}

/// Compares the keys of a running etcd with those in the file.
pub(super) fn compare_keys(at: &str, content: &Content, revision: u64, keys: &Keys) -> Vec<Finding> {
    let mut findings = Vec::new();
    if revision < content.revision {
        findings.push(Finding::damage(
            "etcd.content",
            at,
            format!("an etcd at revision {}, like the file", content.revision),
            format!("revision {revision} after the restore"),
        ));
    }
    let Some(live) = &content.live else { return findings };
    if keys.count != live.count {
        findings.push(Finding::damage(
            "etcd.content",
            at,
            format!("the {} keys that the file holds", live.count),
            format!("{} keys after the restore", keys.count),
        ));
    } else if keys.digest != live.digest {
        findings.push(Finding::damage(
            "etcd.content",
            at,
            "keys with the revisions that the file holds",
            format!("other keys or revisions after the restore, up to revision {}", keys.newest),
        ));
    }
    findings
}

/// Compares the values of the sampled keys. Returns how many were compared.
pub(super) fn compare_values(
    server: &Server<'_>,
    at: &str,
    content: &Content,
    watch: &Watch,
    findings: &mut Vec<Finding>,
) -> Result<usize, Failure> {
    let Some(live) = &content.live else { return Ok(0) };
    let mut compared = 0;
    for batch in batches(&live.sample) {
        watch.check()?;
        let questions: Vec<String> = batch
            .iter()
            .map(|sampled| format!("get --rev={} -- {}", content.revision, quoted(&sampled.key)))
            .collect();
        let answers = server.ask(&questions)?;
        if answers.ranges.len() != batch.len() {
            return Err(Failure::Trouble("etcdctl did not answer every question".to_owned()));
        }
        for (sampled, range) in batch.iter().zip(&answers.ranges) {
            compared += 1;
            let value = range.kvs.first().and_then(|pair| pair.value());
            let same = value.as_ref().is_some_and(|v| <[u8; 32]>::from(Sha256::digest(v)) == sampled.digest);
            if !same && findings.len() < DIFFERENT_MAX {
                findings.push(Finding::damage(
                    "etcd.value",
                    format!("{at}: {}", display_path(&sampled.key)),
                    format!("the {} bytes that the file holds", sampled.length),
                    value.map_or("no such key".to_owned(), |v| format!("other content, {} bytes", v.len())),
                ));
            }
        }
    }
    Ok(compared)
}

fn batches(sample: &[Sampled]) -> Vec<Vec<&Sampled>> {
    let mut batches: Vec<Vec<&Sampled>> = Vec::new();
    let mut bytes = 0;
    for sampled in sample {
        bytes += sampled.length;
        match batches.last_mut() {
            Some(batch) if bytes <= VALUES_MAX && batch.len() < OPERATIONS_MAX => batch.push(sampled),
            _ => {
                bytes = sampled.length;
                batches.push(vec![sampled]);
            }
        }
    }
    batches
}

/// What the config expects of the keys.
pub(super) fn expectations(
    at: &str,
    expected: Option<&EtcdExpectation>,
    count: u64,
    prefixes: &dyn Fn(&str) -> Option<u64>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let Some(expected) = expected else { return findings };
    if let Some(least) = expected.keys_min.filter(|least| count < *least) {
        findings.push(Finding::damage(
            "etcd.keys",
            at,
            format!("at least {least} keys"),
            format!("{count} keys"),
        ));
    }
    for (prefix, least) in &expected.prefixes {
        if let Some(seen) = prefixes(prefix).filter(|seen| seen < least) {
            findings.push(Finding::damage(
                "etcd.prefix",
                format!("{at}: {prefix}"),
                format!("at least {least} keys below {prefix}"),
                format!("{seen} keys"),
            ));
        }
    }
    findings
}
