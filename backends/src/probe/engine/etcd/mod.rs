//! The `etcd` probe: each snapshot of etcd is restored into a real etcd in a sealed cell, and asked.
//!
//! *Verified*: the tool that a person would use restores the snapshot, with its SHA-256 checked; an etcd starts on
//! it; it has every key that the file holds, with the same revisions; the values of a seeded sample of keys are
//! those in the file, and all of them where HashKV agrees; no alarm (space, corruption) is raised; what the config
//! expects is there. Against the last baseline: the revision does not go back, and no kind of object loses most of
//! its keys. Without an engine: the same of what can be read from the pages.
//!
//! *Verified, of what a recovery needs besides*: for k3s and RKE2 a server token that opens the bootstrap data in the
//! snapshot; for kubeadm the certificate authorities and their keys, which have to match each other, be valid, and
//! be those of the cluster; for values that are encrypted at rest the configuration with their key.
//!
//! *Not verified*: that the member had caught up with its cluster when it was saved; that Kubernetes starts on it;
//! what values mean; certificates other than the authorities; write-ahead logs beside the database file of a member.
//! Of several snapshots with one name and different dates only the newest is restored. Where a tag holds several
//! clusters, the recovery point is that of the newest snapshot.
//!
//! | file | what lives there |
//! |---|---|
//! | `unpack` | from a dump to a file |
//! | `content` | what the file holds, read from its pages |
//! | `server` | a single etcd in a cell |
//! | `verify` | what it says, against the file |
//! | `beside` | small files that a recovery needs |
//! | `token`, `pki` | whether they fit |
//! | `memory` | baselines |
//! | `kube`, `proto`, `crc32c` | keys and values of Kubernetes, protobuf, checksums |

mod beside;
mod content;
mod crc32c;
mod kube;
mod memory;
mod pki;
mod proto;
mod server;
mod token;
pub(crate) mod unpack;
mod verify;

use firedrill_core::cell::{Cell, Kit};
use firedrill_core::config::settings::{Demand, EtcdExpectation};
use firedrill_core::event::Phase;
use firedrill_core::finding::{Examination, Finding, RecoveryBasis, RecoveryPoint};
use firedrill_core::ports::Probe;
use firedrill_core::subject::Subject;
use jiff::{SignedDuration, Timestamp};

use crate::probe::engine::dumps::{Dump, DumpKind, Dumps};
use crate::probe::engine::session::{Session, demanded};
use beside::Beside;
use content::{Content, Hash};
use memory::Learnt;
use server::Failure;
use unpack::Unpacked;

/// The name of the probe, and of its part of a baseline.
const NAME: &str = "etcd";
/// Clocks of nodes may be this much ahead of ours.
const AHEAD_MAX: SignedDuration = SignedDuration::from_mins(10);

/// Restores snapshots of etcd, and asks them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct EtcdProbe;

impl Probe for EtcdProbe {
    fn name(&self) -> &'static str {
        NAME
    }

    /// Also without an engine: what a recovery needs besides can be examined without one.
    fn recognises(&self, subject: &Subject) -> bool {
        subject.drill.expectations.etcd.is_some() || !dumps(subject).chosen.is_empty()
    }

    fn examine(&self, subject: &Subject) -> Examination {
        let mut drill = EtcdDrill {
            session: Session::new(subject, NAME, "snapshots"),
            subject,
            expected: subject.drill.expectations.etcd.as_ref(),
            learnt: Learnt::default(),
            point: None,
            beside: None,
        };
        drill.examine();
        drill.finish()
    }
}

fn dumps(subject: &Subject) -> Dumps {
    Dumps::of(subject, &[DumpKind::EtcdSnapshot])
}

/// One examination.
struct EtcdDrill<'s> {
    session: Session<'s>,
    subject: &'s Subject,
    expected: Option<&'s EtcdExpectation>,
    learnt: Learnt,
    point: Option<RecoveryPoint>,
    beside: Option<Beside>,
}

impl EtcdDrill<'_> {
    fn examine(&mut self) {
        let dumps = dumps(self.subject);
        for reason in &dumps.unreadable {
            self.session.examination.interrupt(reason.clone());
        }
        if dumps.chosen.is_empty() {
            self.missing();
        }
        for (newest, older) in &dumps.older {
            self.leave_out(format!("{older} older generations of {newest}"));
        }
        for dump in &dumps.chosen {
            if let Err(error) = self.subject.watch.check() {
                return self.session.trouble(&error);
            }
            self.snapshot(dump);
        }
    }

    fn finish(mut self) -> Examination {
        self.session.examination.recovery_point = self.point;
        self.learnt.keep(&mut self.session.examination);
        self.session.finish()
    }

    /// The config says what snapshots of etcd hold, and there is none.
    fn missing(&mut self) {
        if self.expected.is_none() || self.session.examination.interrupted.is_some() {
            return;
        }
        if !self.subject.manifest.is_complete() {
            return self.session.examination.interrupt("not all of the snapshot can be read");
        }
        let paths = self.subject.snapshot.paths.join(", ");
        self.session.find(Finding::damage(
            "etcd.missing",
            paths,
            "a snapshot of etcd",
            "no file that is one",
        ));
    }

    fn snapshot(&mut self, dump: &Dump) {
        let mut unpacked = match unpack::unpack(self.subject, dump) {
            Ok(unpacked) => unpacked,
            Err(unpack::Failure::Trouble(why)) => return self.session.examination.interrupt(why),
            Err(unpack::Failure::Damaged(why)) => {
                return self.refused(dump, &format!("it cannot be unpacked: {why}"));
            }
        };
        let wanted: Vec<String> = self.expected.iter().flat_map(|e| e.prefixes.keys().cloned()).collect();
        let seed = self.subject.drill.seed;
        let content = match Content::read(&unpacked.file, &self.subject.watch, seed, &wanted) {
            Ok(content) => content,
            Err(error) => {
                let why = format!("failed to read {}: {error}", dump.location);
                return self.session.examination.interrupt(why);
            }
        };
        if content.hash == Hash::Absent {
            self.session.find(Finding::gap(
                "etcd.no_hash",
                &dump.location,
                "a snapshot with its SHA-256 appended",
                "a database file without one: nothing protects its content; save it with `etcdctl snapshot save`",
            ));
        }
        if content.is_sound() {
            self.beside(dump, &content);
            for finding in memory::compare(self.subject, dump, &content) {
                self.session.find(finding);
            }
            self.recovery_point(dump, &content);
        }
        self.engine(dump, &content, &mut unpacked);
    }

    /// Restores the snapshot where there is an etcd for it.
    fn engine(&mut self, dump: &Dump, content: &Content, unpacked: &mut Unpacked) {
        let at = &dump.location;
        // An etcd that is too old proves as little as none.
        let kit = match server::kit(self.subject, content.version) {
            Ok(kit) => kit,
            Err(why) if demanded(self.subject) => return self.session.examination.interrupt(why),
            Err(why) => return self.without_engine(dump, content, &why),
        };
        let Some(cell) = self.session.open(std::slice::from_ref(&kit)) else { return };
        let outcome = self.restored(dump, content, unpacked, cell.as_ref(), &kit);
        match outcome {
            Ok(()) => {}
            Err(Failure::Trouble(why) | Failure::Unanswered(why)) => {
                self.session.examination.interrupt(format!("{at}: {why}"));
            }
            Err(Failure::Refused(why)) => self.refused_by(dump, content, cell.as_ref(), &why),
        }
        if let Err(error) = cell.close() {
            self.session.trouble(&error);
        }
    }

    /// The software says that it cannot use the snapshot. Where nothing else speaks against the snapshot and the
    /// software is not of the version that saved it, that may be why.
    fn refused_by(&mut self, dump: &Dump, content: &Content, cell: &dyn Cell, why: &str) {
        let version = cell.facts().of(NAME).and_then(|software| software.version);
        match (version, content.version) {
            (Some(version), Some(saved)) if content.is_sound() && version != saved => {
                self.session.examination.interrupt(format!(
                    "{}: an etcd {version} refuses a snapshot of an etcd {saved}: {why} (provide an etcd {saved})",
                    dump.location
                ));
            }
            _ => self.refused(dump, why),
        }
    }

    /// What a recovery would meet.
    fn refused(&mut self, dump: &Dump, why: &str) {
        self.session.find(Finding::damage(
            "etcd.restore",
            &dump.location,
            "a snapshot that an etcd can be restored from",
            why,
        ));
    }

    fn restored(
        &mut self,
        dump: &Dump,
        content: &Content,
        unpacked: &mut Unpacked,
        cell: &dyn Cell,
        kit: &Kit,
    ) -> Result<(), Failure> {
        let at = dump.location.as_str();
        let watch = &self.subject.watch;
        let bytes = unpacked.file.metadata().map_or(0, |meta| meta.len());
        // A file without a hash is one that a restore refuses. Where its pages are in order, the rest is still
        // worth knowing; where they are not, that refusal is the answer.
        let skip_hash = content.hash == Hash::Absent && content.is_sound();
        self.session.timed(Phase::Load, |_| server::restore(cell, kit, unpacked, skip_hash))?;
        let server = self.session.timed(Phase::Start, |s| server::start(cell, s.subject, bytes))?;
        if let Some(flaw) = &content.flaw {
            self.refused(dump, &format!("an etcd starts on it, but its pages cannot be followed: {flaw}"));
            return Ok(());
        }
        if content.auth {
            return Err(Failure::Trouble("its users have to log in, and nobody here can".to_owned()));
        }
        let (revision, count) = self.session.timed(Phase::Answer, |_| verify::count(&server, content))?;
        self.session.timed(Phase::Verify, |session| {
            let keys = verify::keys(&server, content, self.expected, watch)?;
            let mut findings = verify::compare_keys(at, content, revision, &keys);
            if keys.count != count {
                return Err(Failure::Trouble(format!("etcd counts {count} keys and lists {}", keys.count)));
            }
            let compared = verify::compare_values(&server, at, content, watch, &mut findings)?;
            let wanted = |prefix: &str| keys.prefixes.get(prefix).copied();
            findings.extend(verify::expectations(at, self.expected, count, &wanted));
            let mut alarms = server.alarms()?;
            alarms.extend(&content.alarms);
            findings.extend(alarm_findings(at, &alarms));
            findings.into_iter().for_each(|finding| session.find(finding));
            // What this sum covers of compacted revisions differs between versions: only agreement says something.
            let all =
                matches!((server.hash(content.revision), content.sum), (Ok(Some(a)), Some(b)) if a == b);
            let values =
                if all { "all revisions by HashKV".to_owned() } else { format!("{compared} values") };
            if !all {
                let what = format!("{at}: values beyond a sample of {compared}");
                session.examination.not_verified.push(what);
            }
            session.examination.notes.push(format!(
                "{at}: etcd came up at revision {revision} with {count} keys; compared: every key, {values}"
            ));
            session.examination.checked += 1;
            Ok(())
        })?;
        self.learnt.learn(dump, content);
        Ok(())
    }

    /// What can be said without starting anything.
    fn without_engine(&mut self, dump: &Dump, content: &Content, why: &str) {
        let at = dump.location.as_str();
        self.leave_out(format!("{at} was not restored into an etcd: {why}"));
        if !content.is_sound() {
            // The probe of its structure tells what is wrong.
            return self.leave_out(format!("{at}: the content of a damaged snapshot"));
        }
        let Some(live) = &content.live else {
            return self.session.examination.interrupt(format!("{at} has too many keys to count"));
        };
        let wanted = |prefix: &str| live.wanted.get(prefix).copied();
        let mut findings = verify::expectations(at, self.expected, live.count, &wanted);
        findings.extend(alarm_findings(at, &content.alarms));
        findings.into_iter().for_each(|finding| self.session.find(finding));
        self.session.examination.checked += 1;
        self.learnt.learn(dump, content);
    }

    /// What a recovery needs besides the snapshot.
    fn beside(&mut self, dump: &Dump, content: &Content) {
        let subject = self.subject;
        let expected = self.expected.cloned().unwrap_or_default();
        let k3s = !content.bootstrap.is_empty();
        let at = dump.location.as_str();
        let beside = self.beside.get_or_insert_with(|| Beside::collect(subject));
        if let Some(why) = &beside.unreadable {
            self.session.examination.interrupt(why.clone());
        }
        let mut findings = Vec::new();
        let mut encryption = None;
        if k3s {
            let (finding, config) = token::examine(at, content, beside, expected.token);
            findings.extend(finding);
            encryption = config;
        } else if expected.token == Demand::Required {
            let seen = "no bootstrap data: it does not come from k3s or RKE2";
            findings.push(Finding::damage("etcd.token", at, "a snapshot that belongs to a token", seen));
        }
        if (content.kubernetes && !k3s) || expected.pki == Demand::Required {
            findings.extend(pki::examine(at, content, beside, expected.pki, subject.at));
        }
        findings.extend(encryption_at_rest(at, content, beside, encryption));
        findings.into_iter().for_each(|finding| self.session.find(finding));
    }

    /// The newest moment that the data itself shows. A snapshot holds everything up to the moment at which it was
    /// saved; its name tells that, or a node that renewed its lease every few seconds.
    fn recovery_point(&mut self, dump: &Dump, content: &Content) {
        let latest = self.subject.at.saturating_add(AHEAD_MAX).unwrap_or(Timestamp::MAX);
        let plausible = |time: &Timestamp| *time <= latest;
        if content.renewed.is_some_and(|time| !plausible(&time)) {
            let note = format!("{}: a node renewed its lease in the future", dump.location);
            self.session.examination.notes.push(note);
        }
        let renewed = content.renewed.filter(plausible);
        let of_data = renewed.or_else(|| stamp(&dump.path).filter(plausible));
        let point = match (of_data, dump.mtime.filter(plausible)) {
            (Some(time), _) => RecoveryPoint { time, basis: RecoveryBasis::Data },
            // A file may have been copied or unpacked later: this is as good as the time of a backup.
            (None, Some(time)) => RecoveryPoint { time, basis: RecoveryBasis::Snapshot },
            (None, None) => return,
        };
        let better = self.point.as_ref().is_none_or(|known| {
            (point.basis, std::cmp::Reverse(point.time)) < (known.basis, std::cmp::Reverse(known.time))
        });
        if better {
            self.point = Some(point);
        }
    }

    fn leave_out(&mut self, what: String) {
        self.session.examination.not_verified.push(what);
    }
}

/// Alarms keep a restored etcd from taking writes.
fn alarm_findings(at: &str, alarms: &[u64]) -> Vec<Finding> {
    let mut findings = Vec::new();
    if alarms.contains(&1) {
        let seen = "the alarm NOSPACE: a restored etcd takes no writes until it is disarmed";
        findings.push(Finding::anomaly("etcd.alarm", at, "no alarm", seen));
    }
    if alarms.iter().any(|alarm| *alarm > 1) {
        let seen = "the alarm CORRUPT: members of the cluster held different data";
        findings.push(Finding::damage("etcd.alarm", at, "no alarm", seen));
    }
    findings
}

/// Values that are encrypted at rest mean nothing without the configuration that holds the keys. `own` is the one
/// that the snapshot itself brings along for who has the token.
fn encryption_at_rest(at: &str, content: &Content, beside: &Beside, own: Option<String>) -> Option<Finding> {
    let encrypted = &content.live.as_ref()?.encrypted;
    let texts = beside.files.iter().filter_map(|file| file.text());
    let known: Vec<&str> = texts
        .chain(own.as_deref())
        .filter(|text| text.contains("EncryptionConfig") && text.contains("providers"))
        .collect();
    let names = |provider: &&String| {
        let key = provider.rsplit(':').next().unwrap_or_default();
        known.iter().any(|text| text.contains(key))
    };
    let without: Vec<_> = encrypted.keys().filter(|provider| !names(provider)).cloned().collect();
    (!without.is_empty()).then(|| {
        let values: u64 = without.iter().filter_map(|provider| encrypted.get(provider)).sum();
        Finding::gap(
            "etcd.encryption",
            at,
            "the EncryptionConfiguration of the API server beside the snapshot",
            format!(
                "{values} values are encrypted at rest ({}), and nothing here names that key",
                without.join(", ")
            ),
        )
    })
}

/// The seconds at the end of a name that k3s or RKE2 gave: `etcd-snapshot-node1-1700000000.zip`.
fn stamp(path: &[u8]) -> Option<Timestamp> {
    let name = path.rsplit(|b| *b == b'/').next()?;
    let name = std::str::from_utf8(name).ok()?;
    let name = ["", ".gz", ".zst", ".zip"].iter().find_map(|end| {
        let stem = name.strip_suffix(end)?;
        stem.ends_with(|c: char| c.is_ascii_digit()).then_some(stem)
    })?;
    let (_, digits) = name.rsplit_once('-')?;
    let seconds: i64 = (digits.len() == 10).then(|| digits.parse().ok())??;
    Timestamp::from_second(seconds).ok()
}

#[cfg(test)]
mod tests;
