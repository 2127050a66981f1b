//! The server token of k3s and RKE2, and whether it opens the bootstrap data in a snapshot.
//!
//! A new server gets the cluster's authorities from etcd, below `/bootstrap/` and the beginning of the SHA-256 of
//! the token's password. They are encrypted with that password: without the token the snapshot is of no use.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::pbkdf2;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use firedrill_core::config::settings::Demand;
use firedrill_core::finding::Finding;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::beside::{Beside, Small};
use super::content::Content;

const ITERATIONS: NonZeroU32 = NonZeroU32::new(4096).unwrap();
const NONCE: usize = 12;
/// Tokens that are tried; each one costs a key derivation only when its name fits.
const CANDIDATES_MAX: usize = 200;
const TOKEN_MAX: usize = 1024;

/// A token that was found.
struct Candidate<'b> {
    path: &'b str,
    password: String,
    /// Whether it is the token of a server by its place or form, so that it ought to fit.
    certain: bool,
}

/// What opening the bootstrap data with one password showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opened {
    /// There is none for this password.
    NoKey,
    /// There is, and it cannot be decrypted or understood.
    Broken(&'static str),
    Yes,
}

/// Whether the snapshot at `at` can be used with a token that was backed up with it. The configuration for
/// encryption at rest that is in the bootstrap data is returned as well.
pub(super) fn examine(
    at: &str,
    content: &Content,
    beside: &Beside,
    demand: Demand,
) -> (Option<Finding>, Option<String>) {
    if content.bootstrap.values().all(Vec::is_empty) {
        let seen = "bootstrap data that is empty: it was saved before the first server was ready";
        return (Some(Finding::anomaly("etcd.bootstrap", at, "the authorities of the cluster", seen)), None);
    }
    // Very old servers used no password at all; a later one takes any token then.
    let legacy = Candidate { path: at, password: String::new(), certain: false };
    let candidates = candidates(&beside.files);
    let mut broken = None;
    for candidate in std::iter::once(&legacy).chain(&candidates) {
        match open(&content.bootstrap, &candidate.password) {
            (Opened::Yes, encryption) => return (None, encryption),
            (Opened::Broken(why), _) => broken = broken.or(Some((candidate.path, why))),
            (Opened::NoKey, _) => {}
        }
    }
    let finding = match (broken, candidates.iter().find(|c| c.certain)) {
        (Some((path, why)), _) => Finding::damage(
            "etcd.bootstrap",
            at,
            format!("bootstrap data that the token in {path} opens"),
            why,
        ),
        (None, Some(wrong)) => Finding::damage(
            "etcd.token",
            wrong.path,
            format!("the server token that opens the bootstrap data in {at}"),
            "another token: a new server cannot use the snapshot with it",
        ),
        (None, None) => missing(at, demand),
    };
    (Some(finding), None)
}

fn missing(at: &str, demand: Demand) -> Finding {
    let expected = "the server token beside the snapshot: back up `server/token` of the data folder \
                    (/var/lib/rancher/k3s/server/token, for RKE2 /var/lib/rancher/rke2/server/token)";
    let seen = "no token: a new server cannot read the authorities of the cluster in the snapshot";
    match demand {
        Demand::Required => Finding::damage("etcd.token", at, expected, seen),
        Demand::Optional => Finding::gap("etcd.token", at, expected, seen),
    }
}

fn candidates(files: &[Small]) -> Vec<Candidate<'_>> {
    let mut candidates = Vec::new();
    for file in files {
        let Some(text) = file.text() else { continue };
        let name = file.name().to_ascii_lowercase();
        if name.contains("token") {
            let of_server = file.folder().ends_with("server") && name == "token";
            candidates.extend(text.lines().take(4).filter_map(|line| candidate(&file.path, line, of_server)));
        } else {
            let named =
                text.lines().filter_map(configured).filter_map(|line| candidate(&file.path, line, true));
            candidates.extend(named.take(4));
        }
        if candidates.len() >= CANDIDATES_MAX {
            break;
        }
    }
    // The token file of a server says most about what ought to fit.
    candidates.sort_by_key(|candidate| !candidate.certain);
    candidates
}

/// The value of `token: ...` in a configuration, or of `K3S_TOKEN=...` in an environment file.
fn configured(line: &str) -> Option<&str> {
    let line = line.trim();
    let line = line.strip_prefix("export ").or(line.strip_prefix("Environment=")).unwrap_or(line);
    let line = line.trim_matches(['"', '\'']);
    let value = ["token:", "K3S_TOKEN=", "RKE2_TOKEN="].iter().find_map(|name| line.strip_prefix(name))?;
    let value = value.trim().trim_matches(['"', '\'']);
    (!value.is_empty()).then_some(value)
}

fn candidate<'b>(path: &'b str, line: &str, of_server: bool) -> Option<Candidate<'b>> {
    let token = line.trim();
    let plain = !token.is_empty() && token.len() <= TOKEN_MAX && !token.contains(char::is_whitespace);
    plain.then_some(())?;
    let (user, password) = normalised(token);
    let certain = of_server && user != Some("node") || user == Some("server");
    Some(Candidate { path, password: password.to_owned(), certain })
}

/// User and password of a token: `K10<hash of the authority>::user:password`, the same without a user, or the bare
/// password.
fn normalised(token: &str) -> (Option<&str>, &str) {
    let full = token.strip_prefix("K10").and_then(|rest| rest.split_once("::"));
    match full {
        Some((hash, rest)) if hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => {
            match rest.split_once(':') {
                Some((user, password)) => (Some(user), password),
                None => (None, rest),
            }
        }
        _ => (None, token),
    }
}

/// Opens the bootstrap data that belongs to `password`, if there is some. Also returns the configuration for
/// encryption at rest in it.
fn open(bootstrap: &BTreeMap<String, Vec<u8>>, password: &str) -> (Opened, Option<String>) {
    let name: String = hex::encode(Sha256::digest(password)).chars().take(12).collect();
    let Some(value) = bootstrap.get(&name).filter(|value| !value.is_empty()) else {
        return (Opened::NoKey, None);
    };
    let Some(plain) = decrypt(value, password) else {
        return (Opened::Broken("it belongs to the token, and the token does not decrypt it"), None);
    };
    let Ok(Value::Object(fields)) = serde_json::from_slice::<Value>(&plain) else {
        return (Opened::Broken("it decrypts to something that is no bootstrap data"), None);
    };
    let content = |name: &str| {
        let field = fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name))?.1;
        STANDARD.decode(field.get("Content")?.as_str()?).ok().filter(|content| !content.is_empty())
    };
    if content("ServerCA").is_none() || content("ServerCAKey").is_none() {
        return (Opened::Broken("it holds no authority for servers"), None);
    }
    let encryption = content("EncryptionConfig").and_then(|content| String::from_utf8(content).ok());
    (Opened::Yes, encryption)
}

/// `<salt>:<base64 of nonce and ciphertext>`, with a key derived from the password.
fn decrypt(value: &[u8], password: &str) -> Option<Vec<u8>> {
    let (salt, sealed) = std::str::from_utf8(value).ok()?.split_once(':')?;
    let sealed = STANDARD.decode(sealed.trim()).ok()?;
    let (nonce, sealed) = sealed.split_at_checked(NONCE)?;
    let mut key = [0; 32];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA1, ITERATIONS, salt.as_bytes(), password.as_bytes(), &mut key);
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).ok()?);
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut plain = sealed.to_vec();
    let length = key.open_in_place(nonce, Aad::empty(), &mut plain).ok()?.len();
    plain.truncate(length);
    Some(plain)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What k3s writes for `plain` and `password`.
    pub(in super::super) fn seal(plain: &[u8], password: &str) -> (String, Vec<u8>) {
        let salt = "0011223344556677";
        let mut key = [0; 32];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA1, ITERATIONS, salt.as_bytes(), password.as_bytes(), &mut key);
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).unwrap());
        let mut sealed = plain.to_vec();
        let nonce = [7; NONCE];
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut sealed).unwrap();
        let value = format!("{salt}:{}", STANDARD.encode([&nonce[..], &sealed].concat()));
        let name: String = hex::encode(Sha256::digest(password)).chars().take(12).collect();
        (name, value.into_bytes())
    }

    #[test]
    fn tokens_have_several_forms() {
        let hash = "ab".repeat(32);
        assert_eq!(normalised(&format!("K10{hash}::server:pass:word")), (Some("server"), "pass:word"));
        assert_eq!(
            normalised(&format!("K10{hash}::abcdef.0123456789abcdef")),
            (None, "abcdef.0123456789abcdef")
        );
        assert_eq!(normalised("K10sworld"), (None, "K10sworld"));
        assert_eq!(configured("token: \"abc\""), Some("abc"));
        assert_eq!(configured("Environment=\"K3S_TOKEN=abc\""), Some("abc"));
        assert_eq!(configured("agent-token: abc"), None);
        let node = format!("K10{hash}::node:x");
        assert!(!candidate("server/token", &node, true).unwrap().certain);
    }

    #[test]
    fn what_another_implementation_sealed_opens() {
        // Sealed with Python: hashlib.pbkdf2_hmac and AES-GCM of its cryptography package.
        let value = b"c0ffee0123456789:AAECAwQFBgcICQoLsghVNlemqE8FyYmdPMPe+dXRAJQZJJE=";
        assert_eq!(decrypt(value, "secret").as_deref(), Some(&br#"{"a":1}"#[..]));
        assert_eq!(decrypt(value, "other"), None);
        for end in 0..value.len() {
            assert_eq!(decrypt(&value[..end], "secret"), None);
        }
        let (name, value) = seal(b"{}", "secret");
        assert_eq!(name, "2bb80d537b1d");
        assert_eq!(decrypt(&value, "secret").as_deref(), Some(&b"{}"[..]));
    }
}
