//! Which programs there are, and their versions.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use firedrill_core::cell::{Kit, Software, Version};
use firedrill_core::error::{Error, ErrorKind, Result};

/// A program may take this long to tell its version.
const VERSION_TIME: Duration = Duration::from_secs(10);
/// Kits of which the version is always told.
const ENGINES: [&str; 3] = ["postgres", "mariadb", "etcd"];
/// Folders outside of `PATH` in which engines are installed; `*` stands for one folder name.
pub(in crate::runtime) const USUAL: [&str; 7] = [
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/local/pgsql*/bin",
    "/opt/postgresql*/bin",
    "/usr/local/mysql/bin",
    "/usr/local/sbin",
    "/usr/sbin",
];

/// Software that was found, with each of its programs.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) software: Software,
    /// The folder of the first program.
    pub(super) folder: PathBuf,
    /// Programs that lie elsewhere, or all of them.
    pub(super) programs: BTreeMap<String, PathBuf>,
}

/// Looks for programs, and remembers versions.
pub(super) struct Finder {
    configured: BTreeMap<String, PathBuf>,
    versions: Mutex<BTreeMap<PathBuf, Option<Version>>>,
}

impl Finder {
    pub(super) fn new(configured: BTreeMap<String, PathBuf>) -> Self {
        Self { configured, versions: Mutex::default() }
    }

    /// The lowest version that will do; a folder that the config names goes first.
    pub(super) fn find(&self, kit: &Kit) -> Result<Found> {
        let missing =
            || Error::new(ErrorKind::Unavailable, format!("find programs of {kit} on this machine"));
        let Some(first) = kit.programs.first() else {
            return Err(Error::new(ErrorKind::Internal, "find programs").because("a kit names none"));
        };
        let folders = self.folders(kit);
        let mut refused = Vec::new();
        let mut fitting = Vec::new();
        for (rank, folder) in folders.iter().enumerate() {
            let Some(path) = executable(&folder.join(first)) else { continue };
            if fitting.iter().any(|(_, _, known): &(_, _, PathBuf)| *known == path) {
                continue;
            }
            let version = if asks(kit) { self.version(&path) } else { None };
            match version {
                Some(version) if kit.accepts(version) => {
                    let configured = rank == 0 && self.configured.contains_key(&kit.name);
                    fitting.push((!configured, Some(version), path));
                }
                // Where any version will do, one that is not told will do too. The first folder goes first.
                None if kit.at_least.is_none() && kit.at_most.is_none() && fitting.is_empty() => {
                    fitting.push((false, None, path));
                }
                Some(version) => refused.push(format!("{} is version {version}", path.display())),
                None => refused.push(format!("{} does not tell its version", path.display())),
            }
        }
        fitting.sort();
        for (_, version, path) in fitting {
            match complete(kit, &path, &folders) {
                Ok(programs) => {
                    let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
                    let from = folder.display().to_string();
                    let software = Software { kit: kit.name.clone(), version, from };
                    return Ok(Found { software, folder, programs });
                }
                Err(program) => refused.push(format!("`{program}` is missing beside {}", path.display())),
            }
        }
        let advice = format!(
            "install it, or name its folder in the config: `runtime: {{ process: {{ programs: {{ {}: ... }} }} }}`",
            kit.name
        );
        let error = match refused.is_empty() {
            true => missing().because(format!("there is no `{first}`")),
            false => missing().because(refused.join("; ")),
        };
        Err(error.advise(advice))
    }

    fn folders(&self, kit: &Kit) -> Vec<PathBuf> {
        let mut folders: Vec<PathBuf> = self.configured.get(&kit.name).cloned().into_iter().collect();
        folders.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
        folders.extend(USUAL.iter().flat_map(|pattern| expand(pattern)));
        let mut seen = std::collections::BTreeSet::new();
        folders.retain(|folder| folder.is_absolute() && seen.insert(folder.clone()));
        folders
    }

    fn version(&self, program: &Path) -> Option<Version> {
        let known =
            |path: &Path| self.versions.lock().unwrap_or_else(PoisonError::into_inner).get(path).copied();
        if let Some(version) = known(program) {
            return version;
        }
        let version = tell_version(program);
        self.versions.lock().unwrap_or_else(PoisonError::into_inner).insert(program.to_owned(), version);
        version
    }
}

/// Whether it matters which version it is. A check or an application of a person is not run outside of its cell.
fn asks(kit: &Kit) -> bool {
    kit.at_least.is_some() || kit.at_most.is_some() || ENGINES.contains(&kit.name.as_str())
}

/// Each program of `kit`, beside the first one or in another folder. `Err` names one that is nowhere.
fn complete(
    kit: &Kit,
    first: &Path,
    folders: &[PathBuf],
) -> std::result::Result<BTreeMap<String, PathBuf>, String> {
    let beside = first.parent().map(Path::to_owned);
    let find = |program: &String| {
        let mut places = beside.iter().chain(folders);
        let path = places.find_map(|folder| executable(&folder.join(program)));
        path.map(|path| (program.clone(), path)).ok_or_else(|| program.clone())
    };
    kit.programs.iter().map(find).collect()
}

/// The program at `path`, by its real name: links such as Debian's alternatives may not be there inside.
fn executable(path: &Path) -> Option<PathBuf> {
    let path = path.canonicalize().ok()?;
    let meta = std::fs::metadata(&path).ok()?;
    (meta.is_file() && meta.permissions().mode() & 0o111 != 0).then_some(path)
}

fn expand(pattern: &str) -> Vec<PathBuf> {
    let Some((before, after)) = pattern.split_once('*') else { return vec![PathBuf::from(pattern)] };
    let (parent, start) = before.rsplit_once('/').unwrap_or(("", before));
    let Ok(entries) = std::fs::read_dir(if parent.is_empty() { "/" } else { parent }) else {
        return Vec::new();
    };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut folders: Vec<_> = names
        .filter(|name| name.starts_with(start))
        .map(|name| PathBuf::from(format!("{parent}/{name}{after}")))
        .filter(|folder| folder.is_dir())
        .collect();
    folders.sort();
    folders
}

/// Installed software is trusted as far as to be asked for its version, without our environment.
fn tell_version(program: &Path) -> Option<Version> {
    let mut child = Command::new(program)
        .arg("--version")
        .env_clear()
        .env("LC_ALL", "C")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    // Read on a thread of its own: what it started may keep the pipe open for ever.
    let (said, stdout) = (mpsc::channel(), child.stdout.take()?);
    std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = std::io::Read::read_to_end(&mut std::io::Read::take(stdout, 4096), &mut text);
        let _ = said.0.send(text);
    });
    let deadline = Instant::now() + VERSION_TIME;
    let text = said.1.recv_timeout(VERSION_TIME).ok();
    while text.is_some() && Instant::now() < deadline {
        if child.try_wait().ok()?.is_some() {
            return String::from_utf8_lossy(&text.unwrap_or_default()).parse().ok();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn install(folder: &Path, program: &str, says: &str) {
        std::fs::create_dir_all(folder).unwrap();
        let path = folder.join(program);
        std::fs::write(&path, format!("#!/bin/sh\necho {says}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn kit(at_least: Option<Version>, programs: &[&str]) -> Kit {
        let programs = programs.iter().map(|p| (*p).to_owned()).collect();
        Kit { name: "odd".into(), at_least, at_most: None, programs }
    }

    #[test]
    fn versions_and_missing_programs_are_told() {
        let place = tempfile::tempdir().unwrap();
        let bin = place.path().join("bin");
        install(&bin, "odd-server", "odd 9.2");
        install(&bin, "odd-client", "odd 9.2");
        let finder = Finder::new(BTreeMap::from([("odd".to_owned(), bin.clone())]));
        let found = finder.find(&kit(Some(Version::new(9, 0)), &["odd-server", "odd-client"])).unwrap();
        assert_eq!(found.software.version, Some(Version::new(9, 2)));
        assert_eq!(found.folder, bin.canonicalize().unwrap());
        let error = finder.find(&kit(Some(Version::new(10, 0)), &["odd-server"])).unwrap_err().chain();
        assert!(error.contains("is version 9.2") && error.contains("programs: { odd:"), "{error}");
        install(&bin, "odd-mute", "nothing");
        assert_eq!(finder.find(&kit(None, &["odd-mute"])).unwrap().software.version, None);
        assert!(finder.find(&kit(Some(Version::new(1, 0)), &["odd-mute"])).is_err());
        let error = finder.find(&kit(None, &["odd-server", "odd-dump"])).unwrap_err().chain();
        assert!(error.contains("`odd-dump` is missing"), "{error}");
        let error = finder.find(&kit(None, &["no-such-server"])).unwrap_err().chain();
        assert!(error.contains("there is no `no-such-server`"), "{error}");
    }
}
