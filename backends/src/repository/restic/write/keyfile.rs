//! Key files of new repositories.
//!
//! rustic_core makes its own with parameters that need 128 MiB whenever somebody opens the repository, which is more
//! than all the rest of a backup. restic takes 32 MiB and makes up for it in time, and so do we.

use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::secret::Secret;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use rustic_core::repofile::{KeyFile, MasterKey};

use super::super::crypto::Cipher;
use super::people::Myself;

/// scrypt's cost. OWASP's Password Storage Cheat Sheet asks for `2^15, 8, 3` or more.
const N: u32 = 1 << 15;
/// scrypt's block size.
const R: u32 = 8;
/// scrypt's passes, one after another.
const P: u32 = 4;
/// Bytes of salt, as many as restic takes.
const SALT: usize = 64;

/// A key file that opens `master` with `password`.
pub(super) fn seal(master: &MasterKey, password: &Secret, me: &Myself, now: Timestamp) -> Result<Vec<u8>> {
    let failed = || Error::new(ErrorKind::Internal, "make a key");
    let mut salt = vec![0; SALT];
    aws_lc_rs::rand::fill(&mut salt).map_err(|_| failed().because("there are no random numbers"))?;
    let mut file = KeyFile {
        hostname: Some(me.host.clone()),
        username: Some(me.user.clone()),
        created: Some(now.to_zoned(TimeZone::UTC)),
        kdf: "scrypt".to_owned(),
        n: N,
        r: R,
        p: P,
        data: Vec::new(),
        salt,
    };
    let (encrypt, k, r) =
        file.kdf_key(&password.reveal()).map_err(|error| failed().from_source(&*error))?.to_keys();
    let cipher = Cipher::new(&encrypt, &k, &r).ok_or_else(|| failed().because("the cipher refused it"))?;
    let json = |error| failed().from_source(&error);
    file.data = cipher.encrypt(&serde_json::to_vec(master).map_err(json)?)?;
    serde_json::to_vec(&file).map_err(json)
}
