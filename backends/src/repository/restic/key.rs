//! Finds the master key. Key files are plain JSON that anybody with write access can plant, so the cost
//! they ask for is bounded before it is paid.

use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::finding::Finding;
use firedrill_core::secret::Secret;
use firedrill_core::watch::Watch;
use rustic_core::FileType;
use rustic_core::repofile::KeyFile;

use super::crypto::Cipher;
use super::store::{Content, Store};
use crate::repository::guard::name;

/// scrypt needs `128 · N · r` bytes; restic takes 32 MiB mostly, rustic 128 MiB.
const SCRYPT_MEMORY_MAX: u64 = 1 << 30;
/// scrypt's time grows with `N · r · p`; restic and rustic stay below 2^20.
const SCRYPT_COST_MAX: u64 = 1 << 24;
/// More keys than this are not tried.
const KEYS_MAX: usize = 64;

/// What came of looking for the key.
pub(super) struct Unlocked {
    /// The cipher, unless no key file can be used at all.
    pub(super) cipher: Option<Cipher>,
    /// What is wrong with the key files.
    pub(super) findings: Vec<Finding>,
}

/// Tries `password` on every key file.
pub(super) fn unlock(store: &Store, password: &Secret, watch: &Watch) -> Result<Unlocked> {
    let files = store.list(FileType::Key)?;
    if files.len() > KEYS_MAX {
        return Err(Error::new(ErrorKind::Unavailable, "find the key of the repository")
            .because(format!("it has {} key files, more than {KEYS_MAX}", files.len())));
    }
    let mut findings = Vec::new();
    let mut good = Vec::new();
    let mut damaged = Vec::new();
    for (id, size) in &files {
        watch.check()?;
        let (bytes, group) = match store.read_named(FileType::Key, id, *size)? {
            Content::Good(bytes) => (bytes, &mut good),
            // A key that was removed a moment ago opens nothing and harms nothing.
            Content::Gone => continue,
            Content::Damaged(seen, bytes) => {
                findings.push(Finding::damage(
                    "repository.key",
                    name(FileType::Key, id),
                    "content that fits its name",
                    seen,
                ));
                (bytes, &mut damaged)
            }
        };
        match parse(&bytes) {
            Ok(key) => group.push(key),
            Err(why) => {
                findings.push(Finding::damage(
                    "repository.key",
                    name(FileType::Key, id),
                    "a usable key file",
                    why,
                ));
            }
        }
    }
    if files.is_empty() {
        findings.push(Finding::damage(
            "repository.key",
            "keys/",
            "at least one key file",
            "none: nobody can open this repository",
        ));
    }
    // A damaged key file is the last resort: if it still opens, the rest of the repository can be judged.
    for key in good.into_iter().chain(damaged) {
        watch.check()?;
        if let Some(cipher) = try_key(&key, password) {
            return Ok(Unlocked { cipher: Some(cipher), findings });
        }
    }
    if !findings.is_empty() {
        // The key that the password fits may be the one that is damaged.
        return Ok(Unlocked { cipher: None, findings });
    }
    Err(Error::new(ErrorKind::WrongPassword, "open the repository")
        .because(match files.len() {
            1 => "the password does not fit its key".to_owned(),
            n => format!("the password fits none of its {n} keys"),
        })
        .advise("check RESTIC_PASSWORD, --password-file or --password-command; a password that was changed leaves old copies unreadable"))
}

pub(super) fn parse(bytes: &[u8]) -> Result<KeyFile, String> {
    let key: KeyFile = serde_json::from_slice(bytes).map_err(|e| format!("not a key file: {e}"))?;
    if key.kdf != "scrypt" {
        return Err("an unknown key derivation".to_owned());
    }
    let (n, r, p) = (u64::from(key.n), u64::from(key.r), u64::from(key.p));
    if !n.is_power_of_two() || n < 2 || r == 0 || p == 0 {
        return Err(format!("impossible scrypt parameters N={n} r={r} p={p}"));
    }
    let memory = n.saturating_mul(r).saturating_mul(128);
    let cost = n.saturating_mul(r).saturating_mul(p);
    if memory > SCRYPT_MEMORY_MAX || cost > SCRYPT_COST_MAX {
        return Err(format!(
            "hostile scrypt parameters N={n} r={r} p={p}: they would need {memory} bytes of memory"
        ));
    }
    Ok(key)
}

fn try_key(key: &KeyFile, password: &Secret) -> Option<Cipher> {
    let (encrypt, k, r) = key.kdf_key(&password.reveal()).ok()?.to_keys();
    let plain = Cipher::new(&encrypt, &k, &r)?.decrypt(&key.data).ok()?;
    let master: rustic_core::repofile::MasterKey = serde_json::from_slice(&plain).ok()?;
    Cipher::new(&master.encrypt, &master.mac.k, &master.mac.r)
}
