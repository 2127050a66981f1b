//! Digests beside a dump, of the same moment: the dump is made in the folder of the job, because both are done only
//! together.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use firedrill_core::digests::Digests;
use firedrill_core::error::{Error, ErrorKind, Result};

use super::whole::Whole;
use super::{Captured, Made, Moment, digests_beside, scratch};
use crate::digests::record::Output;

/// Where a dump and its digests are made.
pub(super) struct Beside {
    /// The dump.
    pub(super) dump: PathBuf,
    /// The digests.
    pub(super) output: Output,
    stored_as: String,
}

impl Beside {
    pub(super) fn new(stored_as: &str, moment: &Moment<'_>, captured: &Captured) -> Result<Self> {
        let folder = moment.work.join(format!("dump-{}", captured.made.len()));
        std::fs::create_dir(&folder).map_err(|e| scratch(&folder, &e))?;
        let name = Path::new(stored_as).file_name().ok_or_else(|| {
            Error::new(ErrorKind::Usage, format!("store a dump as {stored_as}"))
                .because("it is no name of a file")
        })?;
        let output = Output::new(&folder.join(digests_beside(&name.to_string_lossy())))?;
        Ok(Self { dump: folder.join(name), output, stored_as: stored_as.to_owned() })
    }

    /// Takes both into the snapshot, if the dump is whole.
    pub(super) fn keep(
        self,
        digests: &Digests,
        whole: Whole,
        moment: &Moment<'_>,
        captured: &mut Captured,
    ) -> Result<()> {
        File::open(&self.dump).and_then(|dump| io::copy(&mut whole.over(dump), &mut io::sink())).map_err(
            |e| {
                Error::new(ErrorKind::Unavailable, format!("make the dump {}", self.stored_as))
                    .because(e.to_string())
            },
        )?;
        self.output.write(digests, moment.key)?;
        captured.made.push(Made { path: self.stored_as.clone(), file: self.dump, dump: true });
        let file = self.output.path().to_owned();
        captured.made.push(Made { path: digests_beside(&self.stored_as), file, dump: false });
        Ok(())
    }
}

/// The values of the options `wanted` among `arguments`, with their names; or the first of the options `others`, of
/// which nothing is known but that they matter.
pub(super) fn options(
    arguments: &[String],
    wanted: &[&str],
    others: &[&str],
) -> std::result::Result<Vec<(String, String)>, String> {
    let mut found = Vec::new();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let (name, value) = match argument.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name, Some(value.to_owned())),
            _ if argument.starts_with("--") || !argument.is_char_boundary(2.min(argument.len())) => {
                (argument.as_str(), None)
            }
            _ if argument.starts_with('-') && argument.len() > 2 => {
                let (name, value) = argument.split_at(2);
                (name, Some(value.to_owned()))
            }
            _ => (argument.as_str(), None),
        };
        if others.contains(&name) {
            return Err(argument.clone());
        }
        if wanted.contains(&name) {
            let value = value.or_else(|| arguments.next().cloned()).ok_or_else(|| argument.clone())?;
            found.push((name.to_owned(), value));
        }
    }
    Ok(found)
}
