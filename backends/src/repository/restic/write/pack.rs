//! Blobs into packs, packs into the index.

use std::num::NonZeroU32;

use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::manifest::Digest;
use rustic_core::Id;
use rustic_core::repofile::{BlobType, IndexBlob, IndexFile, IndexPack};
use serde_json::json;

use super::super::crypto::{Cipher, OVERHEAD};

/// More blobs are in no pack: their list must be readable in one go.
const BLOBS_MAX: usize = 10_000;

/// A pack that is being filled.
pub(super) struct Packing {
    content: Vec<u8>,
    blobs: Vec<IndexBlob>,
}

/// A pack as it is written.
pub(super) struct Packed {
    pub(super) content: Vec<u8>,
    pub(super) blobs: Vec<IndexBlob>,
}

impl Packing {
    pub(super) fn new() -> Self {
        Self { content: Vec::new(), blobs: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.blobs.is_empty()
    }

    pub(super) fn is_full(&self, size: usize) -> bool {
        self.content.len() >= size || self.blobs.len() >= BLOBS_MAX
    }

    /// Adds an encrypted blob; `unpacked` is the length of its content when it is compressed, and `expected` the one
    /// that the pack will have.
    pub(super) fn add(
        &mut self,
        kind: BlobType,
        digest: &Digest,
        unit: &[u8],
        unpacked: Option<NonZeroU32>,
        expected: usize,
    ) -> Result<()> {
        let length = |number: usize| {
            u32::try_from(number)
                .map_err(|_| Error::new(ErrorKind::Internal, "fill a pack").because("it is too large"))
        };
        // rustic's types are read from JSON rather than made, since not all of them can be made.
        let blob = json!({
            "id": hex::encode(digest),
            "type": if kind == BlobType::Tree { "tree" } else { "data" },
            "offset": length(self.content.len())?,
            "length": length(unit.len())?,
            "uncompressed_length": unpacked,
        });
        let blob = serde_json::from_value(blob)
            .map_err(|error| Error::new(ErrorKind::Internal, "fill a pack").from_source(&error))?;
        if self.content.is_empty() {
            // Growing by doubling would take up to twice what is needed.
            self.content.reserve(expected);
        }
        self.content.extend_from_slice(unit);
        self.blobs.push(blob);
        Ok(())
    }

    /// Closes the pack with the list of what is in it.
    pub(super) fn close(self, cipher: &Cipher) -> Result<Packed> {
        let mut header = Vec::with_capacity(self.blobs.len() * 41);
        for blob in &self.blobs {
            let tree = u8::from(blob.tpe == BlobType::Tree);
            let unpacked = blob.location.uncompressed_length;
            header.push(tree + if unpacked.is_some() { 2 } else { 0 });
            header.extend(blob.location.length.to_le_bytes());
            header.extend(unpacked.into_iter().flat_map(|length| length.get().to_le_bytes()));
            header.extend(super::super::catalog::digest(&blob.id));
        }
        let mut content = self.content;
        let header = cipher.encrypt(&header)?;
        let length = u32::try_from(header.len()).unwrap_or(u32::MAX);
        content.extend(header);
        content.extend(length.to_le_bytes());
        Ok(Packed { content, blobs: self.blobs })
    }
}

/// Packs that are not in any index yet.
#[derive(Default)]
pub(super) struct Indexing {
    packs: Vec<IndexPack>,
    blobs: usize,
}

impl Indexing {
    /// So many blobs go into one index file.
    const BLOBS_MAX: usize = 50_000;

    pub(super) fn add(&mut self, id: &Id, blobs: Vec<IndexBlob>) {
        self.blobs += blobs.len();
        self.packs.push(IndexPack { id: (*id).into(), blobs, time: None, size: None });
    }

    pub(super) fn is_full(&self) -> bool {
        self.blobs >= Self::BLOBS_MAX
    }

    /// The index file of what was added, if anything was.
    pub(super) fn take(&mut self) -> Result<Option<Vec<u8>>> {
        if self.packs.is_empty() {
            return Ok(None);
        }
        self.blobs = 0;
        let file = IndexFile { packs: std::mem::take(&mut self.packs), ..IndexFile::default() };
        let json = serde_json::to_vec(&file)
            .map_err(|error| Error::new(ErrorKind::Internal, "write an index").from_source(&error))?;
        Ok(Some(json))
    }
}

/// Bytes that a blob takes in a pack, its line in the list included.
pub(super) fn size_in_pack(unit: usize, compressed: bool) -> u64 {
    unit as u64 + if compressed { 41 } else { 37 }
}

/// Bytes that every pack takes besides its blobs.
pub(super) const PACK_OVERHEAD: u64 = OVERHEAD as u64 + 4;
