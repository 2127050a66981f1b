//! The inside of a repository, for tests that forge what a repository holds: files that are encrypted and
//! named as they should be, and say something else than they should.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aes256ctr_poly1305aes::aead::AeadInPlace as _;
use aes256ctr_poly1305aes::{Aes256CtrPoly1305Aes, Key};
use anyhow::{Context as _, Result, anyhow};
use rustic_backend::LocalBackend;
use rustic_core::repofile::{IndexFile, KeyFile, MasterKey};
use rustic_core::{Credentials, Repository, RepositoryBackends, RepositoryOptions};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// Bytes of the initialisation vector in front of an encrypted unit, and of the code at its end.
const SEAL: usize = 16;

/// The master key of a repository.
pub(crate) struct Vault {
    repository: PathBuf,
    master: MasterKey,
}

impl Vault {
    /// Opens the repository by the first of its keys.
    pub(crate) fn open(repository: &Path, password: &str) -> Result<Self> {
        let path = files(&repository.join("keys"))?.into_iter().next().context("there is no key file")?;
        let key: KeyFile = serde_json::from_slice(&fs::read(path)?)?;
        let plain = unseal(&password_cipher(&key, password)?, &key.data)?;
        Ok(Self { repository: repository.to_owned(), master: serde_json::from_slice(&plain)? })
    }

    /// Replaces all keys by one whose password costs next to nothing. Deriving a real one takes a second
    /// on purpose, and these tests open repositories some hundred times.
    pub(crate) fn cheapen(&self, password: &str) -> Result<()> {
        let mut key: KeyFile = serde_json::from_value(serde_json::json!({
            "kdf": "scrypt", "N": 1024, "r": 8, "p": 1, "hostname": "host", "username": "user",
            "created": "2026-01-02T03:04:05Z", "salt": "A".repeat(86) + "==", "data": "",
        }))?;
        key.data = seal(&password_cipher(&key, password)?, &serde_json::to_vec(&self.master)?)?;
        self.replace_keys(&serde_json::to_vec(&key)?)
    }

    /// Replaces all keys by the file `content`, under its right name.
    pub(crate) fn replace_keys(&self, content: &[u8]) -> Result<()> {
        for old in files(&self.repository.join("keys"))? {
            fs::remove_file(old)?;
        }
        self.put("keys", content).map(drop)
    }

    /// Writes `content` as it is under the name that fits it. Returns the path.
    pub(crate) fn put(&self, folder: &str, content: &[u8]) -> Result<PathBuf> {
        let path = self.repository.join(folder).join(hex::encode(Sha256::digest(content)));
        fs::write(&path, content)?;
        Ok(path)
    }

    /// Encrypts `value` as JSON and writes it under the name that fits. Returns the path.
    pub(crate) fn put_sealed(&self, folder: &str, value: &Value) -> Result<PathBuf> {
        self.put(folder, &self.seal(&serde_json::to_vec(value)?)?)
    }

    /// `plain`, encrypted.
    pub(crate) fn seal(&self, plain: &[u8]) -> Result<Vec<u8>> {
        seal(&self.cipher(), plain)
    }

    /// All index files, as JSON.
    pub(crate) fn indexes(&self) -> Result<Vec<(PathBuf, Value)>> {
        let text = self.repository.to_str().context("a path in UTF-8")?;
        let backends = RepositoryBackends::new(Arc::new(LocalBackend::new(text, [])?), None);
        let repository = Repository::new(&RepositoryOptions::default(), &backends)?
            .open(&Credentials::Masterkey(self.master.clone()))?;
        let mut indexes = Vec::new();
        for file in repository.stream_files::<IndexFile>()? {
            let (id, file) = file?;
            let path = self.repository.join("index").join(id.to_hex().as_str());
            indexes.push((path, serde_json::to_value(&file)?));
        }
        Ok(indexes)
    }

    fn cipher(&self) -> Aes256CtrPoly1305Aes {
        cipher(&self.master.encrypt, &self.master.mac.k, &self.master.mac.r)
    }
}

/// All files in `folder`, sorted.
pub(crate) fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        found.push(entry?.path());
    }
    found.sort();
    Ok(found)
}

fn password_cipher(key: &KeyFile, password: &str) -> Result<Aes256CtrPoly1305Aes> {
    let (encrypt, k, r) = key.kdf_key(&password)?.to_keys();
    Ok(cipher(&encrypt, &k, &r))
}

fn cipher(encrypt: &[u8], k: &[u8], r: &[u8]) -> Aes256CtrPoly1305Aes {
    let mut key = Key::default();
    key.copy_from_slice(&[encrypt, k, r].concat());
    Aes256CtrPoly1305Aes::new(&key)
}

fn seal(cipher: &Aes256CtrPoly1305Aes, plain: &[u8]) -> Result<Vec<u8>> {
    // Not random, so that the same content is the same file each time.
    let iv = &Sha256::digest(plain)[..SEAL];
    let mut unit = [iv, plain].concat();
    let code = cipher
        .encrypt_in_place_detached(iv.into(), &[], &mut unit[SEAL..])
        .map_err(|_| anyhow!("cannot encrypt"))?;
    unit.extend_from_slice(&code);
    Ok(unit)
}

fn unseal(cipher: &Aes256CtrPoly1305Aes, unit: &[u8]) -> Result<Vec<u8>> {
    let (iv, rest) = unit.split_at_checked(SEAL).context("too short")?;
    let (text, code) = rest.split_at_checked(rest.len().saturating_sub(SEAL)).context("too short")?;
    let mut plain = text.to_vec();
    cipher
        .decrypt_in_place_detached(iv.into(), &[], &mut plain, code.into())
        .map_err(|_| anyhow!("cannot decrypt"))?;
    Ok(plain)
}
