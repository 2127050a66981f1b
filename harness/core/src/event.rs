//! Timestamped facts of a run. A closed enum without any display policy: sinks decide what to show.

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::finding::{Examination, Finding};
use crate::plan::{DrillName, Plan};
use crate::snapshot::CopyName;

/// The timed parts of a drill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Making the scratch place. Not part of the recovery time: in a real disaster the place to
    /// restore to is another question.
    Provision,
    /// Finding the snapshot and reading what it holds.
    Locate,
    /// Reading, decrypting and decompressing its content.
    Fetch,
    /// Writing it.
    Write,
    /// Making an empty engine and starting it, or starting it on the restored data.
    Start,
    /// Loading dumps into it.
    Load,
    /// From there to the first good answer to a question about the data.
    Answer,
    /// Asking it everything else.
    Verify,
    /// Examining what came back, without engines.
    Examine,
}

impl Phase {
    /// All phases, in order.
    pub const ALL: [Self; 9] = [
        Self::Provision,
        Self::Locate,
        Self::Fetch,
        Self::Write,
        Self::Start,
        Self::Load,
        Self::Answer,
        Self::Verify,
        Self::Examine,
    ];

    /// Phases that have to pass until restored data answers a question.
    pub const UNTIL_ANSWER: [Self; 6] =
        [Self::Locate, Self::Fetch, Self::Write, Self::Start, Self::Load, Self::Answer];

    /// The phase in one lower-case word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Provision => "provision",
            Self::Locate => "locate",
            Self::Fetch => "fetch",
            Self::Write => "write",
            Self::Start => "start",
            Self::Load => "load",
            Self::Answer => "answer",
            Self::Verify => "verify",
            Self::Examine => "examine",
        }
    }
}

/// What is known of a copy once it is open.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CopyFacts {
    /// The kind of repository, for example `restic`.
    pub kind: String,
    /// The id that the repository gives itself.
    pub repository: String,
    /// The format version.
    pub version: u32,
    /// Snapshots that could be read.
    pub snapshots: u64,
    /// Seconds it took to open the repository and list it.
    pub seconds: f64,
    /// Worth knowing, without weight: objects that are no backups, for example.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// One deliberate damage of the negative control.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Injected {
    /// What was done, in words.
    pub what: String,
    /// The code of the finding that must come of it.
    pub expected_code: String,
    /// The location that the finding must name.
    pub location: String,
}

/// One fact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// The first line of each run.
    RunStarted {
        /// The id of the run.
        run: String,
        /// The version of firedrill.
        version: String,
        /// The command that repeats this run, without secrets.
        command: String,
        /// The plan.
        plan: Box<Plan>,
    },
    /// A copy was opened and listed.
    CopyOpened {
        /// The copy.
        copy: CopyName,
        /// What is known of it.
        facts: CopyFacts,
    },
    /// Something is wrong with a copy as a whole.
    CopyFinding {
        /// The copy.
        copy: CopyName,
        /// What.
        finding: Finding,
    },
    /// A copy could not be read.
    CopyError {
        /// The copy.
        copy: CopyName,
        /// Why.
        error: Error,
    },
    /// A drill starts.
    DrillStarted {
        /// The drill.
        drill: DrillName,
    },
    /// A phase of a drill ended.
    PhaseFinished {
        /// The drill.
        drill: DrillName,
        /// The phase.
        phase: Phase,
        /// How long it took.
        seconds: f64,
    },
    /// The restore of a drill ended; whatever could be restored is in scratch.
    Restored {
        /// The drill.
        drill: DrillName,
        /// Regular files written completely.
        files: u64,
        /// Bytes of content written.
        bytes: u64,
        /// Bytes read from the repository for it.
        bytes_read: u64,
        /// What was not made in scratch on purpose, in words (devices, setuid bits).
        withheld: Vec<String>,
        /// What the repository could not give back.
        findings: Vec<Finding>,
        /// How many further findings were not kept.
        findings_omitted: u64,
    },
    /// The probes that recognised something in the restored data and will examine it.
    Recognised {
        /// The drill.
        drill: DrillName,
        /// Names of probes.
        probes: Vec<String>,
    },
    /// One probe is done.
    Examined {
        /// The drill.
        drill: DrillName,
        /// What it found.
        examination: Examination,
    },
    /// The negative control was damaged on purpose.
    ControlDamaged {
        /// The control drill.
        drill: DrillName,
        /// Each damage.
        injected: Vec<Injected>,
    },
    /// Something kept firedrill from finishing a drill.
    DrillError {
        /// The drill.
        drill: DrillName,
        /// What.
        error: Error,
    },
    /// A drill ended, whichever way.
    DrillFinished {
        /// The drill.
        drill: DrillName,
        /// Where the restored data was kept, when that was asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kept: Option<String>,
    },
    /// The run was told to stop.
    Interrupted {
        /// By whom or what.
        reason: String,
    },
    /// The last line of each complete run.
    RunFinished {
        /// Seconds since it started.
        seconds: f64,
    },
}
