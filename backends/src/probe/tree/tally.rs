//! What one thread found, how threads add up, and what becomes of the sum.

use std::collections::BTreeMap;

use firedrill_core::config::settings::{Proof, TreeSettings};
use firedrill_core::finding::{Examination, FINDINGS_MAX, Finding};
use rustix::io::Errno;

/// One file on disk, for comparing hard links.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) entry: usize,
    pub(super) group: u64,
    pub(super) inode: (u64, u64),
}

/// Something that is no fault of the backup, how often, and the first of it in words.
#[derive(Debug, Default)]
pub(super) struct Count {
    pub(super) times: u64,
    pub(super) first: String,
}

impl Count {
    pub(super) fn add(&mut self, first: impl FnOnce() -> String) {
        if self.times == 0 {
            self.first = first();
        }
        self.times += 1;
    }

    fn merge(&mut self, other: Self) {
        if self.times == 0 {
            self.first = other.first;
        }
        self.times += other.times;
    }
}

/// Findings and counts of one thread.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) checked: u64,
    /// Kept in the order of weight, then path: the same whichever thread is faster.
    findings: BTreeMap<(usize, Vec<u8>), Finding>,
    omitted: u64,
    pub(super) links: Vec<Link>,
    /// What the kernel would not let us look at.
    pub(super) trouble: Count,
    /// Why the examination ended early.
    pub(super) stopped: Option<String>,
    /// Metadata that cannot be set where we run.
    pub(super) owners: Count,
    pub(super) attributes: Count,
    pub(super) modes: Count,
    pub(super) times: Count,
    /// Privileges that scratch withholds.
    pub(super) withheld: u64,
    pub(super) sockets: u64,
    pub(super) devices: u64,
    /// Links of something else than a regular file that the snapshot says share an inode.
    pub(super) special_links: u64,
}

/// The weight of a code: what matters most is kept when there is too much.
fn weight(code: &str) -> usize {
    const ORDER: [&str; 12] = [
        "tree.missing",
        "tree.type",
        "tree.read_error",
        "tree.names",
        "tree.size",
        "tree.content",
        "tree.link_target",
        "tree.extra",
        "tree.mode",
        "tree.hardlink",
        "tree.owner",
        "tree.attributes",
    ];
    ORDER.iter().position(|known| *known == code).unwrap_or(ORDER.len())
}

impl Tally {
    pub(super) fn find(&mut self, path: &[u8], finding: Finding) {
        self.findings.insert((weight(&finding.code), path.to_vec()), finding);
        self.trim();
    }

    fn trim(&mut self) {
        while self.findings.len() > FINDINGS_MAX {
            self.findings.pop_last();
            self.omitted += 1;
        }
    }

    /// Notes that `path` could not be looked at.
    pub(super) fn hinder(&mut self, path: impl FnOnce() -> String, doing: &str, errno: Errno) {
        self.trouble.add(|| format!("cannot {doing} {}: {}", path(), std::io::Error::from(errno)));
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.checked += other.checked;
        self.findings.extend(other.findings);
        self.omitted += other.omitted;
        self.trim();
        self.links.extend(other.links);
        self.trouble.merge(other.trouble);
        if self.stopped.is_none() {
            self.stopped = other.stopped;
        }
        self.owners.merge(other.owners);
        self.attributes.merge(other.attributes);
        self.modes.merge(other.modes);
        self.times.merge(other.times);
        self.withheld += other.withheld;
        self.sockets += other.sockets;
        self.devices += other.devices;
        self.special_links += other.special_links;
    }

    /// Turns the sum into the examination.
    pub(super) fn settle(self, settings: &TreeSettings, examination: &mut Examination) {
        examination.checked = self.checked;
        if let Some(reason) = &self.stopped {
            examination.interrupt(reason.clone());
        }
        if self.trouble.times > 0 {
            let Count { times, first } = &self.trouble;
            examination.interrupt(format!("{times} of the restored entries could not be examined: {first}"));
        }
        self.settle_limits(settings, examination);
        self.settle_unproven(examination);
        examination.findings_omitted += self.omitted;
        for finding in self.findings.into_values() {
            examination.find(finding);
        }
    }

    fn settle_limits(&self, settings: &TreeSettings, examination: &mut Examination) {
        let Count { times, first } = &self.owners;
        match settings.owner {
            _ if *times == 0 => {}
            Proof::Applied => examination.interrupt(format!(
                "{times} entries belong to other users ({first}) and only root can restore owners: \
                 run as root, or set probes.tree.owner: recorded"
            )),
            Proof::Recorded => examination.not_verified.push(format!(
                "the owners of {times} entries, which are recorded in the snapshot and were not set here"
            )),
        }
        let Count { times, first } = &self.attributes;
        match settings.attributes {
            _ if *times == 0 => {}
            Proof::Applied => examination.interrupt(format!(
                "{times} entries have extended attributes that cannot be set in scratch ({first}): \
                 use a file system that keeps them, or set probes.tree.attributes: recorded"
            )),
            Proof::Recorded => examination.not_verified.push(format!(
                "the extended attributes of {times} entries, which are recorded in the snapshot and \
                 cannot be set here"
            )),
        }
        let Count { times, first } = &self.modes;
        if *times > 0 {
            examination.interrupt(format!(
                "{times} entries have permission bits that cannot be set in scratch ({first}): \
                 use a file system that keeps them"
            ));
        }
        let Count { times, first } = &self.times;
        if *times > 0 {
            examination.not_verified.push(format!(
                "the exact modification times of {times} entries, which the file system of scratch \
                 cannot keep ({first})"
            ));
        }
    }

    fn settle_unproven(&self, examination: &mut Examination) {
        examination.not_verified.push("access times and change times".to_owned());
        if self.withheld > 0 {
            examination.not_verified.push(format!(
                "privileges of {} files (setuid, setgid, capabilities), withheld in scratch on purpose",
                self.withheld
            ));
        }
        if self.special_links > 0 {
            examination
                .not_verified
                .push(format!("hard links of {} entries that are not regular files", self.special_links));
        }
        for (count, what) in [(self.sockets, "sockets"), (self.devices, "devices")] {
            if count > 0 {
                examination.notes.push(format!("the snapshot lists {count} {what}"));
                examination.not_verified.push(format!("{count} {what}, which are not made in scratch"));
            }
        }
    }
}
