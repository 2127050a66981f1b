//! The recovery report: one HTML page that an operator opens to learn what would be lost, how long they
//! would be down, and how that is known.
//!
//! The page needs nothing but itself: no scripts, no fonts, no images from elsewhere, and a content
//! security policy that forbids them, so that a hostile file name cannot load anything even if an
//! escape were missed. It reads well on paper, on a telephone, in the dark, and to a screen reader.

mod cards;
mod drill;
mod problem;
mod view;

use std::path::PathBuf;

use askama::Template;
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::judge::Judgement;
use firedrill_core::ports::Sink;

use crate::file;
use view::Page;

/// Writes the recovery report to a file.
#[derive(Clone, Debug)]
pub struct Html {
    path: PathBuf,
}

impl Html {
    /// Writes to `path`.
    pub fn to_file(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }
}

impl Sink for Html {
    fn name(&self) -> String {
        format!("html {}", self.path.display())
    }

    fn preflight(&mut self) -> Result<()> {
        file::check("the recovery report", &self.path, file::Folder::Make)
    }

    fn finish(&mut self, judgement: &Judgement) -> Result<()> {
        file::write("the recovery report", &self.path, render(judgement)?.as_bytes())
    }
}

/// The recovery report as HTML.
pub fn render(judgement: &Judgement) -> Result<String> {
    Page::of(judgement)
        .render()
        .map_err(|e| Error::new(ErrorKind::Internal, "render the recovery report").from_source(&e))
}

#[cfg(test)]
mod tests;
