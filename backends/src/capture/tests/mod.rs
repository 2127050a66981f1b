//! Captures of real servers, and of programs that misbehave.

mod databases;
mod jobs;
mod programs;
mod sqlite;
mod whole;

use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use firedrill_core::config::jobs::{CaptureConfig, CommandCapture};
use firedrill_core::error::Result;
use firedrill_core::secret::Secret;
use firedrill_core::watch::Watch;
use jiff::Timestamp;

use super::{Captured, Moment, Stream};
use crate::repository::access::Environment;

/// Nothing here takes so long, however busy the machine is.
const LONG: Duration = Duration::from_secs(300);

/// Where and when a test captures.
struct Place {
    work: tempfile::TempDir,
    environment: Environment,
    watch: Watch,
}

impl Place {
    fn new() -> Self {
        Self {
            work: tempfile::tempdir().unwrap(),
            environment: Environment::default(),
            watch: Watch::unlimited().within(Some(LONG)),
        }
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.environment = self.environment.with(name, value);
        self
    }

    fn path(&self) -> &Path {
        self.work.path()
    }

    fn capture(&self, one: CaptureConfig) -> Result<Captured> {
        let key = Secret::new("a key");
        let moment = Moment {
            target: "shop",
            now: Timestamp::constant(1_770_000_000, 0),
            work: self.path(),
            key: Some(&key),
            watch: &self.watch,
            environment: &self.environment,
        };
        super::capture(&[one], &moment)
    }

    /// The only stream of a capture, to its end.
    fn read(&self, one: CaptureConfig) -> std::result::Result<Vec<u8>, String> {
        let mut captured = self.capture(one).map_err(|error| error.chain())?;
        assert_eq!(captured.streams.len(), 1);
        let canaries: Vec<_> = captured.canaries.iter().map(|canary| canary.path.as_str()).collect();
        assert_eq!(canaries, ["/backup/.firedrill-canary"]);
        read(captured.streams.remove(0))
    }

    /// What a shell writes.
    fn shell(&self, script: &str) -> std::result::Result<Vec<u8>, String> {
        self.read(command(&["sh", "-c", script]))
    }
}

fn read(stream: Stream) -> std::result::Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut stream = (stream.open)().map_err(|error| error.chain())?;
    stream.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    // Whoever asks once more must not hear anything else.
    assert_eq!(stream.read(&mut [0; 8]).ok(), Some(0));
    Ok(bytes)
}

fn command(run: &[&str]) -> CaptureConfig {
    let command = CommandCapture {
        run: run.iter().map(|word| (*word).to_owned()).collect(),
        stored_as: "/backup/x".to_owned(),
        bytes_min: None,
    };
    CaptureConfig { command: Some(command), ..CaptureConfig::default() }
}
