//! `firedrill config`.

use std::path::Path;

use firedrill_core::config;
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::pipeline::spec::JobSpec;
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
                    let jobs = JobSpec::all(&loaded.config).len();
                    let jobs = if jobs > 0 { format!(", {jobs} jobs") } else { String::new() };
                    crate::print(&format!(
                        "{}: valid, {copies} copies, {targets} targets{jobs}\n",
                        file.display()
                    ));
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

/// Reads a config that must be valid; warnings are told.
pub(crate) fn load(file: &Path) -> Result<config::Config> {
    let text = config::read(file)?;
    match config::load(&text, &file.display().to_string()) {
        Ok(mut loaded) => {
            files_are_there(&mut loaded.config, file)?;
            if !loaded.warnings.is_empty() {
                crate::note(loaded.warnings.to_string());
            }
            Ok(loaded.config)
        }
        Err(problems) => {
            crate::note(problems.to_string());
            Err(problems.as_error())
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
