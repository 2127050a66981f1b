//! One file on its way into a bucket: whole in one request, or in parts.
//!
//! A part that fails in a way that passes is sent again, and the parts before it are not. What cannot be completed is
//! given up, so that nobody pays for its parts.

use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use firedrill_core::error::Error;
use firedrill_core::watch::Watch;
use md5::Md5;
use sha2::{Digest as _, Sha256};

use super::upload::Stored;
use crate::repository::error::{Fault, Trouble};
use crate::repository::s3::objects::Objects;

/// A request that fails is made so often again, besides what the client does on its own.
const AGAIN: usize = 6;
/// The pause before the first further attempt; each is twice as long as the one before.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// No pause is longer.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How often somebody who waits looks at the watch.
const LOOK: Duration = Duration::from_millis(100);

/// Why sending failed.
pub(super) enum Sending {
    Fault(Fault),
    Error(Error),
}

impl From<Fault> for Sending {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Error> for Sending {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<io::Error> for Sending {
    fn from(error: io::Error) -> Self {
        Self::Fault(Fault::new(Trouble::Other, error.to_string()))
    }
}

/// One file on its way into a bucket.
pub(super) struct Send<'a> {
    pub(super) bucket: &'a Objects,
    pub(super) stored: &'a Stored,
    pub(super) file: File,
    pub(super) part: u64,
    pub(super) replace: bool,
    pub(super) watch: &'a Watch,
}

impl Send<'_> {
    pub(super) fn all(&self) -> Result<(), Sending> {
        let Stored { key, bytes, sha256 } = self.stored;
        match self.again(|| self.bucket.head(key)) {
            // An earlier attempt may have arrived although its answer did not.
            Ok(head) if head.size == *bytes && head.sha256 == base64_of(sha256) => return Ok(()),
            Ok(_) if self.replace => {}
            Ok(_) => {
                let text = "there is an object of this name already";
                return Err(Fault::new(Trouble::Changed, text).into());
            }
            Err(Sending::Fault(fault)) if fault.trouble == Trouble::Missing => {}
            Err(error) => return Err(error),
        }
        let etag = if *bytes <= self.part {
            let body = self.piece(0, *bytes)?;
            let md5 = hex::encode(Md5::digest(&body));
            self.again(|| self.bucket.put(key, body.clone(), sha256))?;
            md5
        } else {
            self.in_parts()?
        };
        // What could not be looked at is left there: the server took it for whole, and the next attempt looks again.
        let Some(wrong) = self.wrong(&etag)? else { return Ok(()) };
        // A half or wrong object under this name would pass for a backup.
        if let Err(fault) = self.bucket.delete(key) {
            tracing::warn!(key, "a wrong object could not be removed: {}", fault.text);
        }
        let text = format!("what is there afterwards is not what was sent: {wrong}");
        Err(Fault::new(Trouble::Other, text).into())
    }

    /// Makes a request until it is answered, or fails in a way that does not pass, or has failed often enough.
    fn again<T>(&self, request: impl Fn() -> Result<T, Fault>) -> Result<T, Sending> {
        let pauses = ExponentialBuilder::default().with_min_delay(PAUSE_MIN).with_max_delay(PAUSE_MAX);
        let mut pauses = pauses.with_max_times(AGAIN).build();
        loop {
            self.watch.check()?;
            let fault = match request() {
                Err(fault) if passes(fault.trouble) => fault,
                done => return Ok(done?),
            };
            let Some(pause) = pauses.next() else { return Err(fault.into()) };
            // What the last attempt says is clearer than that there is no time left.
            if self.watch.left().is_some_and(|left| left <= pause) {
                return Err(fault.into());
            }
            tracing::debug!(key = self.stored.key, ?pause, "trying again: {}", fault.text);
            let since = Instant::now();
            while since.elapsed() < pause {
                self.watch.check()?;
                std::thread::sleep(LOOK.min(pause));
            }
        }
    }

    fn piece(&self, offset: u64, length: u64) -> Result<Bytes, Sending> {
        use std::os::unix::fs::FileExt as _;
        let mut piece = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        self.file.read_exact_at(&mut piece, offset)?;
        Ok(piece.into())
    }

    /// Uploads in parts; the ETag that the object should have.
    fn in_parts(&self) -> Result<String, Sending> {
        let Stored { key, sha256, .. } = self.stored;
        let upload = self.again(|| self.bucket.begin(key, sha256))?;
        let sent =
            self.parts(&upload).and_then(|(etags, etag)| self.complete(&upload, &etags).map(|()| etag));
        if sent.is_err()
            && let Err(fault) = self.bucket.abort(key, &upload)
        {
            tracing::warn!(key, "an upload could not be given up: {}", fault.text);
        }
        // A beginning whose answer was lost was made once more, and nobody knows the first one.
        match self.bucket.begun(key) {
            Ok(begun) => begun.iter().filter(|begun| begun.key == *key).for_each(|begun| {
                if let Err(fault) = self.bucket.abort(key, &begun.upload) {
                    tracing::warn!(key, "an upload could not be given up: {}", fault.text);
                }
            }),
            // Not every server lists them, or lets everybody list them. The next run tells.
            Err(fault) => tracing::debug!(key, "uploads cannot be listed: {}", fault.text),
        }
        sent
    }

    /// Sends all parts: what the server calls them, and the ETag that the object should have.
    fn parts(&self, upload: &str) -> Result<(Vec<String>, String), Sending> {
        let (mut sums, mut etags) = (Md5::new(), Vec::new());
        let mut offset = 0;
        while offset < self.stored.bytes {
            let body = self.piece(offset, self.part.min(self.stored.bytes - offset))?;
            offset += body.len() as u64;
            sums.update(Md5::digest(&body));
            let number = i32::try_from(etags.len() + 1).unwrap_or(i32::MAX);
            etags.push(self.again(|| self.bucket.part(&self.stored.key, upload, number, body.clone()))?);
        }
        let etag = format!("{}-{}", hex::encode(sums.finalize()), etags.len());
        Ok((etags, etag))
    }

    fn complete(&self, upload: &str, etags: &[String]) -> Result<(), Sending> {
        let Stored { key, bytes, sha256 } = self.stored;
        let Err(error) = self.again(|| self.bucket.complete(key, upload, etags, *bytes)) else {
            return Ok(());
        };
        // When the answer of the first attempt was lost, the second one finds no upload any more.
        match self.again(|| self.bucket.head(key)) {
            Ok(head) if head.size == *bytes && head.sha256 == base64_of(sha256) => Ok(()),
            _ => Err(error),
        }
    }

    /// Makes sure that the server has what was sent.
    fn wrong(&self, etag: &str) -> Result<Option<String>, Sending> {
        let head = self.again(|| self.bucket.head(&self.stored.key))?;
        if head.size != self.stored.bytes {
            return Ok(Some(format!("{} of {} bytes", head.size, self.stored.bytes)));
        }
        let seen = head.etag.as_deref().unwrap_or_default().trim_matches('"').to_ascii_lowercase();
        if seen == etag {
            return Ok(None);
        }
        // Encrypted objects, and those of some servers, have ETags that are no hashes.
        let mut hash = Sha256::new();
        let mut offset = 0;
        while offset < head.size {
            let length = u32::try_from((head.size - offset).min(8 << 20)).unwrap_or(u32::MAX);
            let etag = head.etag.as_deref();
            let piece = self.again(|| self.bucket.piece(&self.stored.key, offset, length, etag))?;
            offset += piece.len() as u64;
            hash.update(&piece);
        }
        let sum = hex::encode(hash.finalize());
        Ok((sum != self.stored.sha256).then(|| format!("SHA-256 {sum}")))
    }
}

fn passes(trouble: Trouble) -> bool {
    matches!(trouble, Trouble::Unreachable | Trouble::TimedOut | Trouble::Busy | Trouble::Unresolved)
}

fn base64_of(sha256: &str) -> Option<String> {
    hex::decode(sha256).ok().map(|bytes| STANDARD.encode(bytes))
}
