//! Canaries: small signed files that the pipeline plants in what it backs up, so that a restored copy
//! shows by itself when its data was captured, and for which target.
//!
//! The format and a recipe for planting one from a shell script are in `harness/docs/canary.md`. One
//! line of JSON:
//!
//! ```text
//! {"firedrill_canary":1,"target":"grafana","sequence":42,"time":"2026-01-02T03:04:05Z","signature":"<64 hex>"}
//! ```
//!
//! The signature is HMAC-SHA256 over `firedrill canary 1`, the target, the sequence and the time exactly
//! as written, each followed by a newline.

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::secret::Secret;

/// The name of a canary file.
pub const FILE: &str = ".firedrill-canary";
/// A longer file is not a canary.
pub const LENGTH_MAX: usize = 4096;
/// The version of the format.
const VERSION: u32 = 1;
/// What the signature covers starts with this, so that it can stand for nothing else.
const CONTEXT: &str = "firedrill canary 1";
/// What the key is derived from a repository's password with.
const KEY_CONTEXT: &str = "firedrill canary key 1";
/// The longest name of a target.
const TARGET_MAX: usize = 255;

/// Why some text is not a canary.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(String);

/// One canary. Whether it is authentic, only [`Canary::verify`] tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canary {
    target: String,
    sequence: u64,
    time: Timestamp,
    /// The time as written: the signature covers these bytes, whatever way the planter writes times.
    written: String,
    signature: [u8; 32],
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    firedrill_canary: u32,
    target: String,
    sequence: u64,
    time: String,
    signature: String,
}

impl Canary {
    /// A canary for `target`, signed with `key`. The sequence must grow with each backup.
    pub fn sign(key: &Secret, target: &str, sequence: u64, time: Timestamp) -> Result<Self, Malformed> {
        check_target(target)?;
        let written = time.to_string();
        let signature = mac(key, target, sequence, &written).finalize().into_bytes().into();
        Ok(Self { target: target.to_owned(), sequence, time, written, signature })
    }

    /// The content of the file, with its newline.
    pub fn to_line(&self) -> String {
        let line = Line {
            firedrill_canary: VERSION,
            target: self.target.clone(),
            sequence: self.sequence,
            time: self.written.clone(),
            signature: hex::encode(self.signature),
        };
        let mut text = serde_json::to_string(&line).unwrap_or_default();
        text.push('\n');
        text
    }

    /// Reads the content of a canary file. Bounded, and strict: a canary is written by a program.
    pub fn parse(content: &[u8]) -> Result<Self, Malformed> {
        let malformed = |why: &str| Malformed(why.to_owned());
        if content.len() > LENGTH_MAX {
            return Err(malformed("it is longer than any canary"));
        }
        if content.is_empty() {
            return Err(malformed("it is empty"));
        }
        let text = std::str::from_utf8(content).map_err(|_| malformed("it is not text"))?;
        let text = text.strip_suffix('\n').unwrap_or(text);
        if text.contains('\n') {
            return Err(malformed("it has more than one line"));
        }
        let line: Line = serde_json::from_str(text).map_err(|e| Malformed(e.to_string()))?;
        if line.firedrill_canary != VERSION {
            return Err(Malformed(format!(
                "it has format version {}, this firedrill reads {VERSION}",
                line.firedrill_canary
            )));
        }
        check_target(&line.target)?;
        let time = line.time.parse().map_err(|_| malformed("its time is not written as in RFC 3339"))?;
        let mut signature = [0; 32];
        hex::decode_to_slice(&line.signature, &mut signature)
            .map_err(|_| malformed("its signature is not 64 hexadecimal digits"))?;
        Ok(Self { target: line.target, sequence: line.sequence, time, written: line.time, signature })
    }

    /// Whether `key` signed this canary. Takes the same time for every wrong signature.
    pub fn verify(&self, key: &Secret) -> bool {
        mac(key, &self.target, self.sequence, &self.written).verify_slice(&self.signature).is_ok()
    }

    /// The target whose data it was planted in.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Its number; the next canary has a greater one.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// When it was planted.
    pub fn time(&self) -> Timestamp {
        self.time
    }
}

/// The key for canaries in a repository with this password, unless the pipeline has a key of its own.
///
/// Whoever can write the repository knows its password and can plant canaries; nobody else can, and no
/// further secret has to be handed out. A derived key rather than the password itself, because the
/// planter may be a script in the application's container: a leak of the key lets somebody forge
/// canaries, but not read the backups.
pub fn derive_key(repository_password: &Secret) -> Secret {
    let mut mac = keyed(repository_password);
    mac.update(KEY_CONTEXT.as_bytes());
    Secret::new(hex::encode(mac.finalize().into_bytes()))
}

fn mac(key: &Secret, target: &str, sequence: u64, written: &str) -> Hmac<Sha256> {
    let mut mac = keyed(key);
    // Targets and times hold no newline, so two different canaries never give the same bytes.
    mac.update(format!("{CONTEXT}\n{target}\n{sequence}\n{written}\n").as_bytes());
    mac
}

#[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
fn keyed(key: &Secret) -> Hmac<Sha256> {
    Hmac::new_from_slice(key.reveal().as_bytes()).expect("HMAC takes keys of any length")
}

fn check_target(target: &str) -> Result<(), Malformed> {
    if target.is_empty() || target.len() > TARGET_MAX || target.chars().any(char::is_control) {
        return Err(Malformed(format!(
            "its target is not a name of 1 to {TARGET_MAX} bytes without control characters"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DOCUMENT: &str = include_str!("../../docs/canary.md");

    fn key() -> Secret {
        derive_key(&Secret::new("correct horse battery staple"))
    }

    fn sample() -> Canary {
        Canary::sign(&key(), "grafana", 42, "2026-01-02T03:04:05Z".parse().unwrap()).unwrap()
    }

    #[test]
    fn the_documented_example_is_real() {
        assert!(DOCUMENT.contains(sample().to_line().trim_end()), "expected {}", sample().to_line());
        assert!(DOCUMENT.contains(key().reveal()), "expected {}", key().reveal());
        let line = DOCUMENT.lines().find(|l| l.starts_with("{\"firedrill_canary\"")).unwrap();
        assert!(Canary::parse(line.as_bytes()).unwrap().verify(&key()));
    }

    /// Runs the shell recipe of the document as it stands there.
    #[test]
    fn the_documented_shell_recipe_plants_a_good_canary() {
        let recipe = DOCUMENT.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let ran = std::process::Command::new("sh")
            .arg("-euc")
            .arg(recipe)
            .env("RESTIC_PASSWORD", "correct horse battery staple")
            .env("TARGET", "grafana")
            .env("DATA", folder.path())
            .output()
            .unwrap();
        if !std::process::Command::new("openssl").arg("version").output().is_ok_and(|o| o.status.success()) {
            firedrill_testing::skip("openssl is not installed, the shell recipe was not tried");
            return;
        }
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        let canary = Canary::parse(&std::fs::read(folder.path().join(FILE)).unwrap()).unwrap();
        assert!(canary.verify(&key()));
        assert_eq!(canary.target(), "grafana");
        assert!(canary.sequence() > 1_700_000_000);
    }

    #[test]
    fn a_canary_survives_the_way_through_its_file() {
        let back = Canary::parse(sample().to_line().as_bytes()).unwrap();
        assert_eq!(back, sample());
        assert!(back.verify(&key()));
        assert!(!back.verify(&derive_key(&Secret::new("another password"))));
        assert!(!back.verify(&Secret::new("")));
    }

    #[test]
    fn any_other_way_to_write_the_time_is_covered_as_written() {
        let text = "2026-01-02T05:04:05.5+02:00";
        let signature = hex::encode(mac(&key(), "a", 1, text).finalize().into_bytes());
        let line = format!(
            r#"{{"firedrill_canary":1,"target":"a","sequence":1,"time":"{text}","signature":"{signature}"}}"#
        );
        let canary = Canary::parse(line.as_bytes()).unwrap();
        assert!(canary.verify(&key()));
        assert_eq!(canary.time(), "2026-01-02T03:04:05.5Z".parse().unwrap());
    }

    #[test]
    fn what_is_not_a_canary_is_refused_with_a_reason() {
        let line = sample().to_line();
        let refused = |content: &str| Canary::parse(content.as_bytes()).unwrap_err().to_string();
        assert!(refused("").contains("empty"));
        assert!(refused(&" ".repeat(LENGTH_MAX + 1)).contains("longer"));
        assert!(refused(&format!("{line}{line}")).contains("more than one line"));
        assert!(refused(&line.replace("canary\":1", "canary\":2")).contains("version 2"));
        assert!(refused(&line.replace("grafana", "")).contains("target"));
        assert!(refused(&line.replace("grafana", "gra\\nfana")).contains("target"));
        assert!(refused(&line.replace("2026-01-02T", "yesterday ")).contains("RFC 3339"));
        assert!(refused(&line.replace("\"}", "0\"}")).contains("64"));
        assert!(refused(&line.replace('}', ",\"x\":1}")).contains("unknown field"));
        assert!(Canary::sign(&key(), "a\nb", 1, Timestamp::UNIX_EPOCH).is_err());
    }

    proptest! {
        #[test]
        fn no_changed_canary_verifies(
            target in "[a-z\"\\\\ é]{1,20}", sequence: u64, seconds in 0i64..4_000_000_000,
            other in "[a-z]{1,20}", step in 1u64..,
        ) {
            let time = Timestamp::from_second(seconds).unwrap();
            let canary = Canary::sign(&key(), &target, sequence, time).unwrap();
            let back = Canary::parse(canary.to_line().as_bytes()).unwrap();
            prop_assert_eq!(&back, &canary);
            prop_assert!(back.verify(&key()));
            let changed = Canary { sequence: sequence.wrapping_add(step), ..canary.clone() };
            prop_assert!(!changed.verify(&key()));
            if other != target {
                let renamed = Canary { target: other, ..canary.clone() };
                prop_assert!(!renamed.verify(&key()));
            }
            let moved = Canary { written: Timestamp::from_second(seconds + 1).unwrap().to_string(), ..canary };
            prop_assert!(!moved.verify(&key()));
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..5000)) {
            let _ = Canary::parse(&bytes);
        }
    }
}
