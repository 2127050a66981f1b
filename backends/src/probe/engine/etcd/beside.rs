//! Small files beside a snapshot that a recovery needs: tokens, certificates, keys, configurations.
//!
//! What they hold never leaves this folder of code: findings name files, and say what does not fit.

use std::fs::File;
use std::io::{self, Read};

use firedrill_core::subject::Subject;

use crate::probe::names;
use crate::probe::structure;

/// Larger files are none of these.
const FILE_MAX: u64 = 256 << 10;
/// At most this many are read.
const FILES_MAX: usize = 4000;
/// Larger archives are not looked into.
const ARCHIVE_MAX: u64 = 64 << 20;
/// Bytes that an archive may unpack to.
const UNPACKED_MAX: u64 = 256 << 20;

/// One small file.
pub(super) struct Small {
    /// Its path in the snapshot; for a member of an archive, the path of that, `!/` and its own.
    pub(super) path: String,
    pub(super) content: Vec<u8>,
}

impl Small {
    /// The last part of the path.
    pub(super) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// The path without the last part.
    pub(super) fn folder(&self) -> &str {
        self.path.rsplit_once('/').map_or("", |(folder, _)| folder)
    }

    /// The content as text.
    pub(super) fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.content).ok()
    }
}

/// All small files that may matter.
#[derive(Default)]
pub(super) struct Beside {
    pub(super) files: Vec<Small>,
    /// Why some could not be read.
    pub(super) unreadable: Option<String>,
}

impl Beside {
    /// Reads them.
    pub(super) fn collect(subject: &Subject) -> Self {
        let mut beside = Self::default();
        for entry in subject.manifest.files() {
            if subject.watch.check().is_err() || beside.files.len() >= FILES_MAX {
                beside.unreadable.get_or_insert_with(|| "there was no time to read all files".to_owned());
                break;
            }
            let path = entry.display();
            let outcome = if entry.size <= FILE_MAX && matters(&path) {
                beside.small(subject, &entry.path, path)
            } else if entry.size <= ARCHIVE_MAX && is_archive(&path) {
                beside.archive(subject, &entry.path, &path)
            } else {
                Ok(())
            };
            if let Err(error) = outcome {
                beside
                    .unreadable
                    .get_or_insert_with(|| format!("failed to read {}: {error}", entry.display()));
            }
        }
        beside
    }

    fn small(&mut self, subject: &Subject, path: &[u8], shown: String) -> io::Result<()> {
        let Some(file) = structure::open(&subject.root, path)? else { return Ok(()) };
        let mut content = Vec::new();
        file.take(FILE_MAX).read_to_end(&mut content)?;
        self.files.push(Small { path: shown, content });
        Ok(())
    }

    /// Members of an archive; what is wrong with the archive itself, the probe of its structure tells.
    fn archive(&mut self, subject: &Subject, path: &[u8], shown: &str) -> io::Result<()> {
        let Some(mut file) = structure::open(&subject.root, path)? else { return Ok(()) };
        let mut head = [0; 2];
        let zipped = file.read(&mut head)? == 2 && head == [0x1f, 0x8b];
        io::Seek::rewind(&mut file)?;
        let reader: Box<dyn Read> =
            if zipped { Box::new(flate2::read::MultiGzDecoder::new(file)) } else { Box::new(plain(file)) };
        let mut archive = tar::Archive::new(reader.take(UNPACKED_MAX));
        let Ok(entries) = archive.entries() else { return Ok(()) };
        for entry in entries {
            let Ok(mut entry) = entry else { break };
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let name = name.trim_start_matches("./").trim_start_matches('/');
            let wanted = entry.header().entry_type().is_file() && entry.size() <= FILE_MAX && matters(name);
            if !wanted || self.files.len() >= FILES_MAX {
                continue;
            }
            let mut content = Vec::new();
            if entry.read_to_end(&mut content).is_err() {
                break;
            }
            let path = firedrill_core::manifest::display_path(format!("{shown}!/{name}").as_bytes());
            self.files.push(Small { path, content });
        }
        Ok(())
    }
}

fn plain(file: File) -> impl Read {
    io::BufReader::new(file)
}

fn is_archive(path: &str) -> bool {
    let name = names::last(path.as_bytes()).to_ascii_lowercase();
    [&b".tar"[..], b".tar.gz", b".tgz"].iter().any(|end| name.ends_with(end))
        && ["pki", "etcd", "k3s", "rke2", "kube", "token", "cert"]
            .iter()
            .any(|word| String::from_utf8_lossy(&name).contains(word))
}

/// Whether a name is that of a token, a certificate, a key or a configuration.
fn matters(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    let name = lower.rsplit('/').next().unwrap_or(&lower);
    let program = ["k3s", "rke2", "rancher"].iter().any(|word| lower.contains(word));
    name.contains("token")
        || matches!(
            name,
            "ca.crt" | "ca.key" | "front-proxy-ca.crt" | "front-proxy-ca.key" | "sa.key" | "sa.pub"
        )
        || name.contains("encryption")
        || name.contains("encrypt")
        || name == "enc.yaml"
        || (program && (name.ends_with(".yaml") || name.ends_with(".env") || name.ends_with(".service")))
}
