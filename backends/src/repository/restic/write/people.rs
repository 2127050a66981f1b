//! Names of users, groups and this host.

use std::collections::HashMap;
use std::io::Read as _;

/// No list of accounts is longer.
const BYTES_MAX: u64 = 16 << 20;

/// Who runs this, for locks and snapshots.
#[derive(Clone, Debug)]
pub(super) struct Myself {
    pub(super) host: String,
    pub(super) user: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// Names by number. As in a restic without C libraries, only the local lists are asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Accounts {
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
}

impl Accounts {
    pub(super) fn load() -> Self {
        Self { users: read("/etc/passwd"), groups: read("/etc/group") }
    }

    pub(super) fn user(&self, id: u32) -> String {
        self.users.get(&id).cloned().unwrap_or_default()
    }

    pub(super) fn group(&self, id: u32) -> String {
        self.groups.get(&id).cloned().unwrap_or_default()
    }

    pub(super) fn myself(&self) -> Myself {
        let uid = rustix::process::geteuid().as_raw();
        Myself {
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            user: self.user(uid),
            uid,
            gid: rustix::process::getegid().as_raw(),
        }
    }
}

/// Names by number from lines such as `name:x:number:…`. Without the file there are no names, which is no fault.
fn read(path: &str) -> HashMap<u32, String> {
    let mut text = String::new();
    let Ok(file) = std::fs::File::open(path) else { return HashMap::new() };
    if file.take(BYTES_MAX).read_to_string(&mut text).is_err() {
        return HashMap::new();
    }
    let mut names = HashMap::new();
    for line in text.lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(Ok(id))) = (fields.next(), fields.nth(1).map(str::parse)) {
            names.entry(id).or_insert_with(|| name.to_owned());
        }
    }
    names
}
