//! Checksums that a server keeps of an object.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::Md5;
use sha2::{Digest as _, Sha256};

/// A checksum of the whole content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sum {
    /// In base64.
    Sha256(String),
    /// Of the big-endian number, in base64.
    Crc32(String),
    /// In hexadecimal digits: an ETag.
    Md5(String),
}

/// Computes what was promised, while the content passes by.
pub(super) struct Sums {
    promised: Vec<Sum>,
    sha256: Option<Sha256>,
    crc32: Option<crc32fast::Hasher>,
    md5: Option<Md5>,
}

impl Sums {
    pub(super) fn new(promised: &[Sum]) -> Self {
        let wants = |kind: fn(&Sum) -> bool| promised.iter().any(kind);
        Self {
            sha256: wants(|s| matches!(s, Sum::Sha256(_))).then(Sha256::new),
            crc32: wants(|s| matches!(s, Sum::Crc32(_))).then(crc32fast::Hasher::new),
            md5: wants(|s| matches!(s, Sum::Md5(_))).then(Md5::new),
            promised: promised.to_vec(),
        }
    }

    pub(super) fn update(&mut self, content: &[u8]) {
        if let Some(sha256) = &mut self.sha256 {
            sha256.update(content);
        }
        if let Some(crc32) = &mut self.crc32 {
            crc32.update(content);
        }
        if let Some(md5) = &mut self.md5 {
            md5.update(content);
        }
    }

    /// The first promise that is not kept: what was expected, and what was seen.
    pub(super) fn broken(self) -> Option<(String, String)> {
        let sha256 = self.sha256.map(|s| STANDARD.encode(s.finalize()));
        let crc32 = self.crc32.map(|c| STANDARD.encode(c.finalize().to_be_bytes()));
        let md5 = self.md5.map(|m| hex::encode(m.finalize()));
        self.promised.into_iter().find_map(|sum| {
            let (name, expected, seen) = match sum {
                Sum::Sha256(expected) => ("SHA-256", expected, sha256.clone()?),
                Sum::Crc32(expected) => ("CRC-32", expected, crc32.clone()?),
                Sum::Md5(expected) => ("MD5", expected, md5.clone()?),
            };
            (expected != seen).then(|| {
                (
                    format!("content with the {name} {expected} that the server keeps"),
                    format!("{name} {seen}"),
                )
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_s3() {
        let promised = [
            Sum::Sha256("LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=".to_owned()),
            Sum::Crc32("NhCmhg==".to_owned()),
            Sum::Md5("5d41402abc4b2a76b9719d911017c592".to_owned()),
        ];
        let sums = |content: &[u8]| {
            let mut sums = Sums::new(&promised);
            content.iter().for_each(|byte| sums.update(&[*byte]));
            sums.broken()
        };
        assert_eq!(sums(b"hello"), None);
        assert!(sums(b"hallo").is_some_and(|(expected, _)| expected.contains("SHA-256")));
        assert_eq!(Sums::new(&[]).broken(), None);
    }
}
