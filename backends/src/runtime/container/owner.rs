//! Labels: whose a container is, and whether its owner still lives.

use std::collections::HashMap;
use std::time::Duration;

use firedrill_core::clock::{Clock as _, SystemClock};
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};

/// The lease that a container belongs to.
pub(super) const LEASE: &str = "org.firedrill.lease";
/// When whoever finds it may remove it.
pub(super) const EXPIRES: &str = "org.firedrill.expires";
/// The process that made it.
pub(super) const OWNER: &str = "org.firedrill.owner";

/// A process, among all processes of all machines that may share a daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    /// The boot of the machine.
    boot: String,
    /// The process namespace that the number is of: there may be several that share a daemon.
    space: String,
    number: u32,
    /// In ticks since the boot; numbers are used again.
    started: u64,
}

impl Owner {
    /// This process.
    pub(super) fn this() -> Self {
        let number = std::process::id();
        Self { boot: boot(), space: space(), number, started: started(number).unwrap_or(0) }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let mut next = || parts.next().filter(|part| !part.is_empty());
        let (boot, space) = (next()?.to_owned(), next()?.to_owned());
        Some(Self { boot, space, number: next()?.parse().ok()?, started: next()?.parse().ok()? })
    }

    /// Whether it ended; `None` when that cannot be seen from here.
    fn ended(&self) -> Option<bool> {
        if self.boot != boot() || self.space != space() {
            return None;
        }
        Some(started(self.number) != Some(self.started))
    }
}

/// `boot:namespace:number:start`.
impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}:{}", self.boot, self.space, self.number, self.started)
    }
}

/// The labels of what this process makes for `lease`.
pub(super) fn labels(lease: &str, lifetime: Duration) -> [(&'static str, String); 3] {
    let lifetime = SignedDuration::try_from(lifetime).unwrap_or(SignedDuration::MAX);
    let expires = SystemClock.now().saturating_add(lifetime).unwrap_or(Timestamp::MAX);
    [(LEASE, lease.to_owned()), (EXPIRES, expires.to_string()), (OWNER, Owner::this().to_string())]
}

/// Whether something with these labels is nobody's any more. What has not all of them is not ours to judge.
pub(super) fn abandoned(labels: &HashMap<String, String>) -> bool {
    let (Some(_), Some(expires), Some(owner)) = (labels.get(LEASE), labels.get(EXPIRES), labels.get(OWNER))
    else {
        return false;
    };
    let expired = expires.parse::<Timestamp>().is_ok_and(|expires| expires < SystemClock.now());
    expired || Owner::parse(owner).and_then(|owner| owner.ended()) == Some(true)
}

/// A name for a container that no other process gives to one, whichever of those that share the daemon.
pub(super) fn name() -> String {
    let digest = hex::encode(Sha256::digest(Owner::this().to_string()));
    format!("firedrill-{}-{}", digest.get(..12).unwrap_or_default(), super::unique())
}

fn boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

fn space() -> String {
    let link = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    link.to_string_lossy().chars().filter(char::is_ascii_digit).collect()
}

/// When a process started, if there is one of that number.
fn started(number: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{number}/stat")).ok()?;
    // The name in brackets may hold anything.
    let mut rest = stat.rsplit_once(')')?.1.split_whitespace();
    let state = rest.next()?;
    (!matches!(state, "Z" | "X")).then(|| rest.nth(18)?.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(owner: &Owner, lifetime: Duration) -> HashMap<String, String> {
        let mut labels: HashMap<_, _> =
            labels("l", lifetime).into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        labels.insert(OWNER.to_owned(), owner.to_string());
        labels
    }

    #[test]
    fn only_what_expired_or_has_a_dead_owner_is_abandoned() {
        let hour = Duration::from_secs(3600);
        let this = Owner::this();
        assert_eq!(Owner::parse(&this.to_string()), Some(this.clone()));
        assert!(!abandoned(&of(&this, hour)));
        assert!(!abandoned(&of(&Owner { boot: "other machine".into(), ..this.clone() }, hour)));
        assert!(!abandoned(&of(&Owner { space: "1".into(), ..this.clone() }, hour)));
        assert!(abandoned(&of(&Owner { started: this.started - 1, ..this.clone() }, hour)));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        std::thread::sleep(Duration::from_millis(100));
        let dead = Owner { number: child.id(), ..this.clone() };
        assert!(abandoned(&of(&dead, hour)), "a zombie holds nothing");
        child.wait().unwrap();
        let mut expired = of(&this, hour);
        expired.insert(EXPIRES.to_owned(), "2020-01-01T00:00:00Z".to_owned());
        assert!(abandoned(&expired));
        for label in [LEASE, EXPIRES, OWNER] {
            let mut some = of(&dead, hour);
            some.remove(label);
            assert!(!abandoned(&some), "without {label} it is not ours");
        }
        let mut unreadable = of(&dead, hour);
        unreadable.insert(OWNER.to_owned(), "what".to_owned());
        assert!(!abandoned(&unreadable));
    }
}
