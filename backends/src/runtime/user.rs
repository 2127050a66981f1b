//! The user that programs of a cell run as.

use rustix::process::geteuid;

/// Unless the config names a user, each cell has one of its own, from this number on: limits on processes count all
/// processes of a user.
const USERS: u32 = 1_900_000_000;

/// A user that no other cell of this machine has, unless thousands are open.
pub(super) fn unused() -> u32 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let cell = NEXT.fetch_add(1, Ordering::Relaxed) & 0x1ff;
    USERS + (((std::process::id() & 0x7fff) << 9) | cell)
}

/// Whether we may give files to others.
pub(super) fn root() -> bool {
    geteuid().is_root()
}

/// The user and the group of programs in containers. Unless we are root we cannot give them files of their own, and
/// they run as the same user as we do.
pub(super) fn for_containers() -> (u32, u32) {
    match root() {
        true => {
            let user = unused();
            (user, user)
        }
        false => (geteuid().as_raw(), rustix::process::getegid().as_raw()),
    }
}

/// What `/etc/passwd` and `/etc/group` hold in a cell of `user`: some servers do not start as a user without a name.
pub(super) fn names(user: u32, group: u32) -> (String, String) {
    (
        format!(
            "root:x:0:0::/:/bin/sh\ncell:x:{user}:{group}::/cell:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n"
        ),
        format!("root:x:0:\ncell:x:{group}:\nnogroup:x:65534:\n"),
    )
}
