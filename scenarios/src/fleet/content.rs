//! Content that looks like what applications write, and is well-formed where a reader would care.

use std::io::Write as _;
use std::sync::LazyLock;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};

const WORDS: &[&str] = &[
    "alert", "amber", "archive", "band", "cable", "canvas", "channel", "copper", "delta", "ember", "episode",
    "fallow", "granite", "harbour", "invoice", "journal", "kernel", "ledger", "lumen", "meadow", "nickel",
    "orbit", "panel", "quartz", "receipt", "season", "signal", "timber", "umbra", "vector", "willow",
    "zenith",
];

/// `length` bytes that do not compress and that no other call gives. All but the first are cut from one
/// pool: a generator for every byte would take most of the time of a debug build.
pub(super) fn noise(rng: &mut StdRng, length: usize) -> Vec<u8> {
    static POOL: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let mut pool = vec![0; 1 << 18];
        StdRng::seed_from_u64(0).fill_bytes(&mut pool);
        pool
    });
    let mut bytes = vec![0; length.min(16)];
    rng.fill_bytes(&mut bytes);
    while bytes.len() < length {
        let from = rng.random_range(0..POOL.len() / 2);
        let rest = POOL.get(from..).unwrap_or_default();
        bytes.extend_from_slice(rest.get(..length - bytes.len()).unwrap_or(rest));
    }
    bytes
}

/// One word.
pub(super) fn word(rng: &mut StdRng) -> &'static str {
    WORDS.get(rng.random_range(0..WORDS.len())).copied().unwrap_or("word")
}

/// A few words.
pub(super) fn title(rng: &mut StdRng) -> String {
    let words: Vec<_> = (0..rng.random_range(2..5)).map(|_| word(rng)).collect();
    words.join(" ")
}

/// About `length` bytes of lines.
pub(super) fn text(rng: &mut StdRng, length: usize) -> Vec<u8> {
    let mut text = String::with_capacity(length + 64);
    while text.len() < length {
        text.push_str(word(rng));
        text.push(if rng.random_ratio(1, 9) { '\n' } else { ' ' });
    }
    text.push('\n');
    text.into_bytes()
}

/// A valid JSON document of about `length` bytes.
pub(super) fn json(rng: &mut StdRng, length: usize) -> Vec<u8> {
    let mut text = String::from("{\n");
    let mut number = 0;
    while text.len() < length {
        text.push_str(&format!("  \"{}{number}\": {},\n", word(rng), rng.random_range(0..100_000)));
        number += 1;
    }
    text.push_str(&format!("  \"name\": \"{}\"\n}}\n", title(rng)));
    text.into_bytes()
}

/// A valid grey PNG of about `length` bytes that does not compress.
pub(super) fn png(rng: &mut StdRng, length: usize) -> Vec<u8> {
    const WIDTH: usize = 64;
    let height = (length / (WIDTH + 1)).max(1);
    let mut rows = noise(rng, (WIDTH + 1) * height);
    // Each row starts with the number of its filter; 0 is none.
    rows.chunks_mut(WIDTH + 1).filter_map(|row| row.first_mut()).for_each(|filter| *filter = 0);
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::none());
    let data = zlib.write_all(&rows).and_then(|()| zlib.finish()).unwrap_or_default();

    let mut header = Vec::new();
    header.extend_from_slice(&(WIDTH as u32).to_be_bytes());
    header.extend_from_slice(&(height as u32).to_be_bytes());
    header.extend_from_slice(&[8, 0, 0, 0, 0]);
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, body) in [(b"IHDR", header.as_slice()), (b"IDAT", &data), (b"IEND", &[])] {
        png.extend_from_slice(&(body.len() as u32).to_be_bytes());
        let start = png.len();
        png.extend_from_slice(kind);
        png.extend_from_slice(body);
        let sum = crc32fast::hash(png.get(start..).unwrap_or_default());
        png.extend_from_slice(&sum.to_be_bytes());
    }
    png
}

/// A valid PDF of one page and about `length` bytes, most of which do not compress.
pub(super) fn pdf(rng: &mut StdRng, length: usize) -> Vec<u8> {
    let page = format!("BT /F1 12 Tf 72 720 Td ({}) Tj ET", title(rng));
    let objects: [Vec<u8>; 5] = [
        b"<< /Type /Catalog /Pages 2 0 R >>".to_vec(),
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_vec(),
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R >>".to_vec(),
        stream(page.as_bytes()),
        stream(&noise(rng, length)),
    ];
    let mut pdf = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n".to_vec();
    let mut offsets = Vec::new();
    for (number, body) in objects.iter().enumerate() {
        offsets.push(pdf.len());
        pdf.extend_from_slice(format!("{} 0 obj\n", number + 1).as_bytes());
        pdf.extend_from_slice(body);
        pdf.extend_from_slice(b"\nendobj\n");
    }
    let table = pdf.len();
    pdf.extend_from_slice(format!("xref\n0 {}\n0000000000 65535 f \n", offsets.len() + 1).as_bytes());
    for offset in &offsets {
        pdf.extend_from_slice(format!("{offset:010} 00000 n \n").as_bytes());
    }
    let trailer =
        format!("trailer\n<< /Size {} /Root 1 0 R >>\nstartxref\n{table}\n%%EOF\n", offsets.len() + 1);
    pdf.extend_from_slice(trailer.as_bytes());
    pdf
}

/// `content` gzipped, without name and time.
pub(super) fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).and_then(|()| encoder.finish()).unwrap_or_default()
}

fn stream(body: &[u8]) -> Vec<u8> {
    let mut object = format!("<< /Length {} >>\nstream\n", body.len()).into_bytes();
    object.extend_from_slice(body);
    object.extend_from_slice(b"\nendstream");
    object
}
