//! Writes xbstream, the format of `mariadb-backup --stream=xbstream`.

const MAGIC: &[u8] = b"XBSTCK01";

/// The longest payload of one chunk.
const PAYLOAD_MAX: usize = 1 << 20;

/// A stream in the making.
#[derive(Default)]
pub(super) struct Writer {
    stream: Vec<u8>,
}

impl Writer {
    /// Adds a whole file.
    pub(super) fn file(&mut self, path: &str, content: &[u8]) {
        let mut offset = 0_u64;
        for payload in content.chunks(PAYLOAD_MAX) {
            self.head(b'P', path);
            self.stream.extend_from_slice(&(payload.len() as u64).to_le_bytes());
            self.stream.extend_from_slice(&offset.to_le_bytes());
            self.stream.extend_from_slice(&crc32fast::hash(payload).to_le_bytes());
            self.stream.extend_from_slice(payload);
            offset += payload.len() as u64;
        }
        self.head(b'E', path);
    }

    /// The finished stream. The format has no trailer.
    pub(super) fn finish(self) -> Vec<u8> {
        self.stream
    }

    fn head(&mut self, kind: u8, path: &str) {
        self.stream.extend_from_slice(MAGIC);
        self.stream.extend_from_slice(&[0, kind]);
        self.stream.extend_from_slice(&(path.len() as u32).to_le_bytes());
        self.stream.extend_from_slice(path.as_bytes());
    }
}
