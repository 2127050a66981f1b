//! The one place where the stories call firedrill.

use std::path::Path;

use super::restic::{Access, Repository, Restic};
use super::tools::{is_root, skip};

/// True while restic stands in for firedrill's reader. Stories that restic itself cannot pass are then
/// skipped. When the reader is called below, this constant and everything that asks it go.
pub(crate) const RESTIC_STANDS_IN: bool = true;

/// What came of a restore.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// What the repository could not give back.
    pub(crate) findings: Vec<String>,
    /// Why we could not look, if we could not.
    pub(crate) error: Option<String>,
}

impl Outcome {
    /// Whether all was restored.
    pub(crate) fn is_clean(&self) -> bool {
        self.findings.is_empty() && self.error.is_none()
    }

    #[track_caller]
    pub(crate) fn expect_clean(self) {
        assert!(self.is_clean(), "the restore was not clean: {self:#?}");
    }
}

/// Restores the snapshot `id` of the repository behind `access` into the folder `into`.
pub(crate) fn restore_with_firedrill(access: &Access, id: &str, into: &Path) -> Outcome {
    let Some(restic) = Restic::newest() else {
        return Outcome { error: Some("there is no restic".to_owned()), ..Outcome::default() };
    };
    let repository = Repository { restic, access: access.clone() };
    let mut command = repository.command(["restore", "--no-lock", "--sparse", "--quiet", id, "--target"]);
    let output = command.arg(into).output().expect("restic runs");
    // firedrill withholds these; its stand-in has to be helped.
    withhold(into);
    if output.status.success() || !is_root() {
        return Outcome::default();
    }
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    Outcome { findings: Vec::new(), error: Some(text) }
}

fn withhold(root: &Path) {
    let find = |arguments: &[&str]| {
        let mut command = std::process::Command::new("find");
        command.arg(root).args(arguments).output().expect("find runs");
    };
    // Deleting changes the time of the folder, so the time is put back.
    let devices =
        "for f; do d=$(dirname \"$f\"); t=$(stat -c %.9Y \"$d\"); rm \"$f\"; touch -d @$t \"$d\"; done";
    find(&["(", "-type", "b", "-o", "-type", "c", ")", "-exec", "sh", "-c", devices, "sh", "{}", "+"]);
    find(&["-type", "f", "-perm", "/6000", "-exec", "chmod", "u-s,g-s", "{}", "+"]);
}

/// Whether a story that only firedrill passes can be told; says so when not.
pub(crate) fn can_do_better_than_restic() -> bool {
    if RESTIC_STANDS_IN {
        skip("restic still stands in for the reader");
    }
    !RESTIC_STANDS_IN
}
