//! Content against the digests of chunks, in bounded memory whatever length a chunk claims.

use std::os::fd::BorrowedFd;

use firedrill_core::manifest::{Chunk, Digest as ChunkDigest};
use rustix::io::{Errno, read, retry_on_intr};
use sha2::{Digest, Sha256};

/// How much is read at a time.
pub(super) const BUFFER: usize = 256 * 1024;

/// What a file's content turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Every chunk has its digest.
    Same,
    /// A chunk has another one.
    Differs { number: usize, offset: u64, expected: ChunkDigest, seen: ChunkDigest },
    /// The file ends inside a chunk.
    Short { offset: u64 },
    /// `proceed` said no.
    Stopped,
}

/// Reads the file from its start and compares it with `chunks`. Asks `proceed` before each read.
pub(super) fn compare(
    file: BorrowedFd<'_>,
    chunks: &[Chunk],
    buffer: &mut [u8],
    mut proceed: impl FnMut() -> bool,
) -> Result<Content, Errno> {
    let (mut start, mut end, mut offset) = (0, 0, 0);
    for (number, chunk) in chunks.iter().enumerate() {
        let mut hasher = Sha256::new();
        let mut left = u64::from(chunk.length);
        while left > 0 {
            if start == end {
                if !proceed() {
                    return Ok(Content::Stopped);
                }
                end = retry_on_intr(|| read(file, &mut *buffer))?;
                start = 0;
                if end == 0 {
                    return Ok(Content::Short { offset: offset + u64::from(chunk.length) - left });
                }
            }
            let some = (end - start).min(usize::try_from(left).unwrap_or(usize::MAX));
            hasher.update(buffer.get(start..start + some).unwrap_or_default());
            start += some;
            left -= some as u64;
        }
        let seen: ChunkDigest = hasher.finalize().into();
        if seen != chunk.digest {
            return Ok(Content::Differs { number, offset, expected: chunk.digest, seen });
        }
        offset += u64::from(chunk.length);
    }
    Ok(Content::Same)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek, Write};
    use std::os::fd::AsFd;

    fn chunk(content: &[u8]) -> Chunk {
        Chunk { digest: Sha256::digest(content).into(), length: u32::try_from(content.len()).unwrap() }
    }

    fn compared(content: &[u8], chunks: &[Chunk], buffer: usize) -> Content {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file.rewind().unwrap();
        compare(file.as_fd(), chunks, &mut vec![0; buffer], || true).unwrap()
    }

    #[test]
    fn chunks_and_buffers_need_not_line_up() {
        let content: Vec<u8> = (0..10_000_u32).map(|n| (n % 251) as u8).collect();
        let chunks: Vec<_> = content.chunks(777).map(chunk).collect();
        for buffer in [1, 7, 776, 777, 778, 4096, 20_000] {
            assert_eq!(compared(&content, &chunks, buffer), Content::Same, "{buffer}");
        }
    }

    #[test]
    fn a_flipped_byte_is_located() {
        let mut content = vec![7; 3000];
        let chunks: Vec<_> = content.chunks(1000).map(chunk).collect();
        content[1999] ^= 1;
        assert!(matches!(compared(&content, &chunks, 64), Content::Differs { number: 1, offset: 1000, .. }));
    }

    #[test]
    fn a_chunk_may_claim_more_than_there_is() {
        let claimed = Chunk { digest: [0; 32], length: u32::MAX };
        assert_eq!(compared(b"short", &[claimed], 4096), Content::Short { offset: 5 });
    }
}
