//! `firedrill config`.

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
                Ok(loaded) => {
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
