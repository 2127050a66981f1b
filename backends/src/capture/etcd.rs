//! etcd by etcdctl, and by k3s; with what a restore on a new machine needs besides.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use firedrill_core::config::jobs::{EtcdCapture, FilesCapture};
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::secret::Secret;
use sha2::{Digest as _, Sha256};

use super::process::{Output, Program};
use super::{Captured, Made, Moment, folder, join, scratch};

/// Where k3s keeps the token of its server, below its data folder.
const TOKEN: &str = "server/token";
/// A database of etcd is a number of these, and its hash comes behind.
const PAGE: u64 = 512;
const HASH: u64 = 32;
/// How much is read at a time.
const PIECE: usize = 1 << 20;
/// How a zip archive begins, and how its last record does (APPNOTE.TXT, 4.3.7 and 4.3.16), which is not longer than this.
const PACKED: &[u8] = b"PK\x03\x04";
const PACKED_END: &[u8] = b"PK\x05\x06";
const PACKED_END_MAX: u64 = 22 + 65_535;
/// A member that is up answers within this time.
const ANSWER: Duration = Duration::from_secs(30);

pub(super) fn capture(config: &EtcdCapture, moment: &Moment<'_>, captured: &mut Captured) -> Result<()> {
    let file = match &config.k3s {
        Some(data) => k3s(data, moment, captured)?,
        None => etcdctl(config, moment, captured)?,
    };
    whole(&file)?;
    captured.made.push(Made { path: config.stored_as.clone(), file, dump: true });
    if let Some(data) = &config.k3s {
        // Without the token of its server nobody can use the snapshot on a new machine.
        let token = data.join(TOKEN);
        let useless = |why: &dyn std::fmt::Display| {
            Error::new(ErrorKind::Unavailable, format!("read the server token {}", token.display()))
                .because(why.to_string())
                .advise("without it nobody can use the snapshot on a new machine")
        };
        match std::fs::metadata(&token) {
            Err(e) => return Err(useless(&e)),
            Ok(meta) if meta.len() == 0 => return Err(useless(&"it is empty")),
            Ok(_) => {}
        }
        captured.made.push(Made {
            path: join(&folder(&config.stored_as), "token"),
            file: token,
            dump: false,
        });
    }
    if let Some(pki) = &config.pki {
        captured
            .files
            .push(FilesCapture { paths: vec![pki.display().to_string()], ..FilesCapture::default() });
    }
    Ok(())
}

/// A snapshot that a member sends ends with the SHA-256 of all before it, in 32 bytes behind pages of 512 (etcd,
/// `server/etcdserver/api/v3rpc/maintenance.go`). k3s may pack it (`--etcd-snapshot-compress`): of the archive the end
/// is looked for.
fn whole(file: &Path) -> Result<()> {
    let mut reading = File::open(file).map_err(|e| scratch(file, &e))?;
    let length = reading.metadata().map_err(|e| scratch(file, &e))?.len();
    let mut head = Vec::new();
    (&mut reading).take(PACKED.len() as u64).read_to_end(&mut head).map_err(|e| scratch(file, &e))?;
    let cut = |why: &str| Err(failed().because(format!("the snapshot is cut short: {why}")));
    if head == PACKED {
        let tail = length.min(PACKED_END_MAX);
        let mut end = Vec::new();
        reading.seek(SeekFrom::Start(length - tail)).map_err(|e| scratch(file, &e))?;
        reading.take(tail).read_to_end(&mut end).map_err(|e| scratch(file, &e))?;
        let has_end = end.windows(PACKED_END.len()).any(|window| window == PACKED_END);
        return if has_end { Ok(()) } else { cut("the archive has no end") };
    }
    if length <= HASH || length % PAGE != HASH {
        return cut(&format!("it has {length} bytes, and no hash at its end"));
    }
    reading.rewind().map_err(|e| scratch(file, &e))?;
    let mut hash = Sha256::new();
    let mut piece = vec![0; PIECE];
    let mut left = length - HASH;
    while left > 0 {
        let part = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let part = piece.get_mut(..part).unwrap_or_default();
        reading.read_exact(part).map_err(|e| scratch(file, &e))?;
        hash.update(&*part);
        left -= part.len() as u64;
    }
    let mut written = Vec::new();
    reading.read_to_end(&mut written).map_err(|e| scratch(file, &e))?;
    match written == hash.finalize().as_slice() {
        true => Ok(()),
        false => cut("it does not fit the hash at its end"),
    }
}

fn failed() -> Error {
    Error::new(ErrorKind::Unavailable, "take a snapshot of etcd")
}

fn etcdctl(config: &EtcdCapture, moment: &Moment<'_>, captured: &Captured) -> Result<PathBuf> {
    let file = moment.work.join(format!("etcd-{}.db", captured.made.len()));
    let mut last = None;
    let endpoints = if config.endpoints.is_empty() {
        vec!["127.0.0.1:2379".to_owned()]
    } else {
        config.endpoints.clone()
    };
    // A snapshot is taken from one member; another is asked when it does not answer. etcdctl itself would wait for
    // ever for a member that is down.
    for endpoint in endpoints {
        let mut command = vec!["etcdctl".to_owned(), format!("--endpoints={endpoint}")];
        let path = |path: &PathBuf| path.display().to_string();
        command.extend(config.ca_cert.iter().map(|file| format!("--cacert={}", path(file))));
        command.extend(config.cert.iter().map(|file| format!("--cert={}", path(file))));
        command.extend(config.key.iter().map(|file| format!("--key={}", path(file))));
        let ask = |words: &[&str], limit: Option<Duration>| {
            let words = words.iter().map(|word| (*word).to_owned());
            let command = command.iter().cloned().chain(words).collect();
            let program = Program::new(command).with("ETCDCTL_API", Some(Secret::new("3")));
            Output::run(program, &moment.watch.within(limit))
        };
        let asked = ask(&["endpoint", "status"], Some(ANSWER))
            .and_then(|()| ask(&["snapshot", "save", &path(&file)], None));
        match asked {
            Ok(()) => return Ok(file),
            Err(error) => last = Some(error.because(format!("the member at {endpoint}"))),
        }
        moment.watch.check()?;
        let _ = std::fs::remove_file(&file);
    }
    Err(last.unwrap_or_else(failed))
}

/// k3s names its snapshot after the node and the time, so it gets a folder in which there is nothing else.
fn k3s(data: &Path, moment: &Moment<'_>, captured: &Captured) -> Result<PathBuf> {
    let place = moment.work.join(format!("k3s-{}", captured.made.len()));
    std::fs::create_dir(&place).map_err(|e| scratch(&place, &e))?;
    let command = ["k3s", "etcd-snapshot", "save", "--data-dir"].map(str::to_owned).to_vec();
    let rest = [data.display().to_string(), "--dir".to_owned(), place.display().to_string()];
    Output::run(Program::new(command.into_iter().chain(rest).collect()), moment.watch)?;
    let files = std::fs::read_dir(&place).map_err(|e| scratch(&place, &e))?;
    let files: Vec<PathBuf> =
        files.filter_map(|file| Some(file.ok()?.path())).filter(|path| path.is_file()).collect();
    match files.as_slice() {
        [file] => Ok(file.clone()),
        [] => Err(failed().because("k3s ended well and left no file")),
        several => Err(failed().because(format!("k3s left {} files", several.len()))),
    }
}
