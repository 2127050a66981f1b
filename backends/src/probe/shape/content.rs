//! What the first bytes of a file look like.

/// What a sample looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// It starts as a known format does.
    Known,
    /// Text in some encoding.
    Text,
    /// Every byte is as likely as any other, and nothing says why: encrypted, or packed by something
    /// unknown.
    Random,
    /// Anything else, and what is too short to tell.
    Other,
}

/// Shorter samples look like anything.
const SAMPLE_MIN: usize = 64;
/// For random bytes, the chi-squared statistic over 256 values has mean 255 and deviation 23. Text and
/// plain binary data are in the thousands.
const CHI_SQUARED_MAX: f64 = 390.0;

/// Looks at the start of a file.
pub(super) fn look(head: &[u8]) -> Look {
    if has_known_start(head) {
        Look::Known
    } else if is_text(head) {
        Look::Text
    } else if head.len() >= SAMPLE_MIN && chi_squared(head) < CHI_SQUARED_MAX {
        Look::Random
    } else {
        Look::Other
    }
}

/// Extensions whose content is text.
pub(super) fn claims_text(kind: &str) -> bool {
    const TEXT: &[&str] = &[
        "txt",
        "md",
        "json",
        "xml",
        "sql",
        "conf",
        "cfg",
        "ini",
        "yml",
        "yaml",
        "toml",
        "csv",
        "tsv",
        "html",
        "htm",
        "css",
        "js",
        "ts",
        "py",
        "sh",
        "pl",
        "rb",
        "php",
        "go",
        "rs",
        "c",
        "h",
        "cpp",
        "java",
        "properties",
        "env",
        "nfo",
        "srt",
        "svg",
        "tex",
        "rst",
        "eml",
        "ics",
        "vcf",
        "pem",
        "crt",
        "service",
        "tf",
        "lua",
        "ps1",
        "bat",
    ];
    TEXT.contains(&kind)
}

/// Extensions whose content starts in a known way.
pub(super) fn claims_start(kind: &str) -> bool {
    const KNOWN: &[&str] = &[
        "png", "jpg", "jpeg", "gif", "webp", "tif", "tiff", "pdf", "zip", "docx", "xlsx", "pptx", "odt",
        "ods", "epub", "jar", "gz", "tgz", "xz", "zst", "bz2", "7z", "rar", "sqlite", "sqlite3", "mp4",
        "m4v", "m4a", "mov", "mkv", "webm", "flac", "ogg", "avi", "wav", "doc", "xls", "ppt", "elf", "so",
        "woff", "woff2",
    ];
    KNOWN.contains(&kind)
}

/// Extensions that a mass renaming may end in without harm: packed, set aside, or a known kind.
pub(super) fn is_usual_end(kind: &str) -> bool {
    const USUAL: &[&str] = &[
        "lz4", "br", "bak", "old", "orig", "backup", "disabled", "save", "tmp", "new", "sample", "default",
        "dist", "avif", "heic", "jxl", "mjs", "cjs", "jsx", "tsx", "opus", "mp3", "map", "tar", "log",
        "deleted", "part",
    ];
    USUAL.contains(&kind) || claims_text(kind) || claims_start(kind)
}

fn has_known_start(head: &[u8]) -> bool {
    const STARTS: &[&[u8]] = &[
        b"\x1f\x8b",
        b"PK\x03\x04",
        b"PK\x05\x06",
        b"PK\x07\x08",
        b"\xff\xd8\xff",
        b"\x89PNG",
        b"GIF8",
        b"RIFF",
        b"\x1a\x45\xdf\xa3",
        b"ID3",
        b"\xff\xfb",
        b"\xff\xf3",
        b"\xff\xf2",
        b"\xff\xf1",
        b"\xff\xf9",
        b"OggS",
        b"fLaC",
        b"\x28\xb5\x2f\xfd",
        b"\xfd7zXZ\x00",
        b"BZh",
        b"7z\xbc\xaf\x27\x1c",
        b"%PDF",
        b"Rar!",
        b"\x04\x22\x4d\x18",
        b"SQLite format 3\x00",
        b"PGDMP",
        b"XBSTCK01",
        b"\x7fELF",
        b"\xca\xfe\xba\xbe",
        b"wOFF",
        b"wOF2",
        b"\x00\x01\x00\x00\x00",
        b"OTTO",
        b"Salted__",
        b"age-encryption.org",
        b"\x00GITCRYPT",
        b"LUKS\xba\xbe",
        b"PACK",
        b"\xfftOc",
        b"DIRC",
        b"MSCF",
        b"!<arch>",
        b"\xed\xab\xee\xdb",
        b"hsqs",
        b"II*\x00",
        b"MM\x00*",
        b"8BPS",
        b"\x00\x00\x00\x0cjP",
        b"\x00asm",
        b"PAR1",
        b"LZIP",
        b"\x89LZO",
        b"\xd0\xcf\x11\xe0",
        b"MZ",
        b"\x03\xd9\xa2\x9a",
        b"BM",
        b"\xde\x12\x04\x95",
        b"\x95\x04\x12\xde",
        b"FLV\x01",
        b"\x00\x00\x01\x00",
        b"\x30\x26\xb2\x75",
        b"\x00\x00\x01\xba",
        b"\x00\x00\x01\xb3",
        b"BORG_SEG",
        b"REDIS0",
        b"<!DOCTYPE",
        b"\x85\x01",
        b"\x85\x02",
        b"\x84\x8c",
        b"\x8c\x0d\x04",
    ];
    let zlib = matches!(head, [0x78, second, ..] if (0x7800 + u32::from(*second)).is_multiple_of(31));
    // 188-byte packets of a transport stream, the type box of MP4 and HEIC, bbolt's second word, tar.
    let transport = head.first() == Some(&0x47) && head.get(188) == Some(&0x47);
    let boxed = head
        .get(4..8)
        .is_some_and(|t| matches!(t, b"ftyp" | b"moov" | b"mdat" | b"wide" | b"free" | b"skip"));
    let bolt = head.get(16..20) == Some(b"\xed\xda\x0c\xed");
    let tar = head.get(257..262) == Some(b"ustar");
    zlib || transport || boxed || bolt || tar || STARTS.iter().any(|start| head.starts_with(start))
}

fn is_text(head: &[u8]) -> bool {
    if head.is_empty() {
        return true;
    }
    if head.starts_with(b"\xff\xfe") || head.starts_with(b"\xfe\xff") {
        return true;
    }
    let length = head.len();
    let control = head
        .iter()
        .filter(|b| (**b < 0x20 && !matches!(b, b'\t' | b'\n' | b'\r' | 0x0c | 0x1b)) || **b == 0x7f);
    let control = control.count();
    let valid = match std::str::from_utf8(head) {
        Ok(_) => true,
        // A sample may end within a character.
        Err(e) => e.error_len().is_none(),
    };
    let high = head.iter().filter(|b| **b >= 0x80).count();
    control * 50 <= length && (valid || high * 4 <= length)
}

fn chi_squared(sample: &[u8]) -> f64 {
    let mut counts = [0u32; 256];
    for byte in sample {
        counts[usize::from(*byte)] += 1;
    }
    let expected = sample.len() as f64 / 256.0;
    counts.iter().map(|n| (f64::from(*n) - expected).powi(2) / expected).sum()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::probe::fleet::{noise, prose};

    #[test]
    fn random_bytes_are_told_from_everything_else() {
        for seed in 0..300 {
            for length in [128, 512, 4096, 65_536] {
                let seen = look(&noise(seed, length));
                assert!(matches!(seen, Look::Random | Look::Known), "seed {seed}, {length} bytes: {seen:?}");
            }
            assert_eq!(look(&prose(seed, 700)), Look::Text);
            assert_eq!(look(hex::encode(noise(seed, 100)).as_bytes()), Look::Text);
        }
        let records: Vec<u8> = (0u32..4000).flat_map(|n| (n * 37).to_le_bytes()).collect();
        assert_eq!(look(&records), Look::Other);
        assert_eq!(look(&[0; 4096]), Look::Other);
        assert_eq!(look(b""), Look::Text);
        assert_eq!(
            look(&"Gr\u{fc}\u{df}e aus K\u{f6}ln ".repeat(20).chars().map(|c| c as u8).collect::<Vec<_>>()),
            Look::Text
        );
    }

    #[test]
    fn packed_content_is_known_by_its_start() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(&prose(1, 9000)).unwrap();
        assert_eq!(look(&gzip.finish().unwrap()), Look::Known);
        assert_eq!(look(&zstd::bulk::compress(&prose(1, 9000), 3).unwrap()), Look::Known);
        for start in [&b"\x89PNG"[..], b"\x00\x00\x00\x18ftyp", b"\x78\x9c"] {
            assert_eq!(look(&[start, &noise(3, 4000)].concat()), Look::Known);
        }
    }

    #[test]
    fn random_bytes_seldom_start_in_a_known_way() {
        let known = (0..2000).filter(|seed| look(&noise(*seed, 256)) == Look::Known).count();
        assert!(known < 10, "{known} of 2000");
    }
}
