//! Decrypts and decompresses. Encrypted unit: `IV (16) ‖ ciphertext ‖ MAC (16)`, AES-256-CTR with
//! Poly1305-AES; compression is zstd.

use std::io::Read;

use aes256ctr_poly1305aes::aead::AeadInPlace;
use aes256ctr_poly1305aes::{Aes256CtrPoly1305Aes, Key};
use firedrill_core::error::{Error, ErrorKind, Result as Attempt};

/// Bytes that encryption adds.
pub(super) const OVERHEAD: u32 = 32;
const IV: usize = 16;
const MAC: usize = 16;

/// Decrypts and decompresses with one repository's master key.
#[derive(Clone)]
pub(super) struct Cipher(Aes256CtrPoly1305Aes);

impl Cipher {
    /// From the three parts of a master key; `None` when one has the wrong length.
    pub(super) fn new(encrypt: &[u8], k: &[u8], r: &[u8]) -> Option<Self> {
        if encrypt.len() != 32 || k.len() != 16 || r.len() != 16 {
            return None;
        }
        let mut key = Key::default();
        key[..32].copy_from_slice(encrypt);
        key[32..48].copy_from_slice(k);
        key[48..].copy_from_slice(r);
        Some(Self(Aes256CtrPoly1305Aes::new(&key)))
    }

    /// The plain content of an encrypted unit, or why there is none.
    pub(super) fn decrypt(&self, unit: &[u8]) -> Result<Vec<u8>, String> {
        if unit.len() < IV + MAC {
            return Err(format!("{} bytes, too few for an encrypted unit", unit.len()));
        }
        let (iv, rest) = unit.split_at(IV);
        let (text, mac) = rest.split_at(rest.len() - MAC);
        let mut plain = text.to_vec();
        self.0
            .decrypt_in_place_detached(iv.into(), &[], &mut plain, mac.into())
            .map_err(|_| "the authentication code does not fit (MAC mismatch)".to_owned())?;
        Ok(plain)
    }

    /// The encrypted unit of a plain content.
    pub(super) fn encrypt(&self, plain: &[u8]) -> Attempt<Vec<u8>> {
        let mut unit = Vec::new();
        self.encrypt_to(plain, &mut unit)?;
        Ok(unit)
    }

    /// The same, in place of what is in `unit`, whose memory is used again.
    pub(super) fn encrypt_to(&self, plain: &[u8], unit: &mut Vec<u8>) -> Attempt<()> {
        let failed = |why: &str| Error::new(ErrorKind::Internal, "encrypt").because(why);
        unit.clear();
        unit.reserve(plain.len() + OVERHEAD as usize);
        unit.resize(IV, 0);
        unit.extend_from_slice(plain);
        let (iv, text) = unit.split_at_mut(IV);
        // restic takes an initialisation vector of zeros for a sign of a broken generator.
        aws_lc_rs::rand::fill(iv).map_err(|_| failed("there are no random numbers"))?;
        let mac = self
            .0
            .encrypt_in_place_detached((&*iv).into(), &[], text)
            .map_err(|_| failed("the cipher refused the content"))?;
        unit.extend_from_slice(&mac);
        Ok(())
    }
}

/// Decompresses `packed`, of which at most `limit` bytes may come.
pub(super) fn decompress(packed: &[u8], limit: u64) -> Result<Vec<u8>, String> {
    let mut plain = Vec::new();
    let broken = |e: std::io::Error| format!("zstd data is broken: {e}");
    // One byte more than allowed tells "exactly the limit" from "more than the limit".
    zstd::Decoder::new(packed)
        .map_err(broken)?
        .take(limit.saturating_add(1))
        .read_to_end(&mut plain)
        .map_err(broken)?;
    if plain.len() as u64 > limit {
        return Err(format!("zstd data unpacks to more than {limit} bytes"));
    }
    Ok(plain)
}

/// The JSON inside a decrypted index or snapshot file: raw in format 1, marked with the byte 2 and
/// compressed in format 2.
pub(super) fn unpack(plain: Vec<u8>, limit: u64) -> Result<Vec<u8>, String> {
    match plain.first() {
        Some(b'{' | b'[') => Ok(plain),
        Some(2) => decompress(&plain[1..], limit),
        Some(other) => Err(format!("unknown encoding {other}")),
        None => Err("no content".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Cipher, decompress, unpack};

    #[test]
    fn short_and_foreign_units_are_refused_without_panic() {
        let cipher = Cipher::new(&[1; 32], &[2; 16], &[3; 16]).unwrap();
        for length in 0..80 {
            assert!(cipher.decrypt(&vec![0; length]).is_err());
        }
        assert!(Cipher::new(&[1; 31], &[2; 16], &[3; 16]).is_none());
    }

    #[test]
    fn a_bomb_is_stopped_at_the_limit() {
        let packed = zstd::encode_all(&vec![0; 10 << 20][..], 3).unwrap();
        assert!(decompress(&packed, 1 << 20).unwrap_err().contains("more than"));
        assert_eq!(decompress(&packed, 10 << 20).unwrap().len(), 10 << 20);
        assert!(unpack(vec![7], 10).is_err());
        assert!(unpack(vec![], 10).is_err());
    }
}
