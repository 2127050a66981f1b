//! `firedrill config`.

use std::path::Path;

use firedrill_core::config;
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::verdict::Exit;

use crate::args::{ConfigArgs, ConfigCommand};

pub(crate) fn config(args: &ConfigArgs) -> Result<Exit> {
    match &args.command {
        ConfigCommand::Schema => {
            let text = serde_json::to_string_pretty(&config::schema())
                .map_err(|e| Error::new(ErrorKind::Internal, "print the schema").from_source(&e))?;
            crate::print(&format!("{text}\n"));
            Ok(Exit::Verified)
        }
        ConfigCommand::Check { file } => {
            let text = config::read(file)?;
            match config::load(&text, &file.display().to_string()) {
                Ok(mut loaded) => {
                    files_are_there(&mut loaded.config, file)?;
                    if !loaded.warnings.is_empty() {
                        crate::print(&format!("{}\n", loaded.warnings));
                    }
                    let (copies, targets) = (loaded.config.copies.len(), loaded.config.targets.len());
                    crate::print(&format!("{}: valid, {copies} copies, {targets} targets\n", file.display()));
                    Ok(Exit::Verified)
                }
                Err(problems) => {
                    crate::print(&format!("{problems}\n"));
                    Ok(Exit::Usage)
                }
            }
        }
    }
}

/// Finds the files that a config names beside it. All that are missing are told at once.
pub(crate) fn files_are_there(config: &mut config::Config, file: &Path) -> Result<()> {
    let missing = config.find_files(file.parent().unwrap_or(Path::new("")));
    if missing.is_empty() {
        return Ok(());
    }
    let told: Vec<_> = missing
        .iter()
        .map(|m| format!("the check `{}` needs {}, and there is no such file", m.check, m.path.display()))
        .collect();
    Err(Error::new(ErrorKind::Usage, format!("use the config {}", file.display()))
        .because(told.join("; "))
        .advise("paths of `files` are relative to the folder of the config"))
}
