//! Everything that the snapshot lists came back, and nothing else.
//!
//! *Verified*
//! - Every entry exists with its type; nothing exists that the snapshot does not list.
//! - Regular files: size, and all content, read back from scratch and compared with the digests of the
//!   snapshot's chunks.
//! - Permission bits, owner and group, modification time, extended attributes with ACLs, targets of
//!   symbolic links, and which files share one inode.
//! - The snapshot's own list: sizes that its chunks do not add up to, names that no file can have, entries
//!   listed twice or below something that is no directory, entries that the backup program could not read.
//!
//! *Not verified*
//! - Access and change times.
//! - Sockets and devices, and the privileges that scratch withholds on purpose (setuid and setgid bits of
//!   files, file capabilities).
//! - Hard links of anything but regular files.
//! - Whether the snapshot held the right content in the first place: that is for the other probes.
//!
//! Where metadata differs, the probe first sets what the snapshot says on a fresh file in scratch. Only if
//! that works is the difference a finding; otherwise it is a limit of where we run, not of the backup.

mod content;
mod disk;
mod index;
mod look;
mod metadata;
mod tally;
#[cfg(test)]
mod tests;
mod trial;
mod walk;

use firedrill_core::finding::Examination;
use firedrill_core::ports::Probe;
use firedrill_core::subject::Subject;

/// Compares restored data with the list in the snapshot, entry by entry.
#[derive(Clone, Copy, Debug, Default)]
pub struct TreeProbe;

impl Probe for TreeProbe {
    fn name(&self) -> &'static str {
        "tree"
    }

    fn recognises(&self, _subject: &Subject) -> bool {
        true
    }

    fn examine(&self, subject: &Subject) -> Examination {
        let mut examination = Examination::new(self.name(), "entries");
        match walk::compare(subject) {
            Ok(tally) => tally.settle(&subject.drill.probes.tree, &mut examination),
            Err(reason) => examination.interrupt(reason),
        }
        examination
    }
}
