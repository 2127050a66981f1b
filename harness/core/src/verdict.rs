//! Verdicts and exit codes. Only [`crate::judge`] makes a verdict.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a drill, a copy or a run proved. Failed beats Inconclusive beats Verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Everything that was planned was examined, and nothing is wrong.
    Verified,
    /// Nothing wrong was found, but something that had to be examined was not.
    Inconclusive,
    /// The backup is bad.
    Failed,
}

impl Verdict {
    /// All verdicts, best first.
    pub const ALL: [Self; 3] = [Self::Verified, Self::Inconclusive, Self::Failed];

    /// The worse of two.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        self.max(other)
    }

    /// The verdict in one lower-case word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Inconclusive => "inconclusive",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// The exit code of the command. Where several apply, the one that is listed first here wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// 70: firedrill itself broke.
    Internal,
    /// 64: the arguments or the config are wrong; nothing was done.
    Usage,
    /// 1: a backup failed.
    Failed,
    /// 2: something is inconclusive.
    Inconclusive,
    /// 4: nothing was selected.
    NothingSelected,
    /// 3: an objective was missed.
    ObjectiveMissed,
    /// 5: everything is well, but a sink did not take the result.
    SinkFailed,
    /// 0: all verified.
    Verified,
}

impl Exit {
    /// All exits, the one that wins first.
    pub const PRECEDENCE: [Self; 8] = [
        Self::Internal,
        Self::Usage,
        Self::Failed,
        Self::Inconclusive,
        Self::NothingSelected,
        Self::ObjectiveMissed,
        Self::SinkFailed,
        Self::Verified,
    ];

    /// The process exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Verified => 0,
            Self::Failed => 1,
            Self::Inconclusive => 2,
            Self::ObjectiveMissed => 3,
            Self::NothingSelected => 4,
            Self::SinkFailed => 5,
            Self::Usage => 64,
            Self::Internal => 70,
        }
    }

    /// Whichever of the two wins.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        let rank = |exit| Self::PRECEDENCE.iter().position(|e| *e == exit);
        if rank(self) <= rank(other) { self } else { other }
    }
}

#[cfg(test)]
mod tests {
    use super::{Exit, Verdict};

    #[test]
    fn failed_beats_inconclusive_beats_verified() {
        assert_eq!(Verdict::Verified.and(Verdict::Inconclusive), Verdict::Inconclusive);
        assert_eq!(Verdict::Failed.and(Verdict::Inconclusive), Verdict::Failed);
    }

    #[test]
    fn the_precedence_of_exit_codes_is_fixed() {
        assert_eq!(Exit::PRECEDENCE.map(Exit::code), [70, 64, 1, 2, 4, 3, 5, 0]);
        for (i, winner) in Exit::PRECEDENCE.iter().enumerate() {
            for loser in &Exit::PRECEDENCE[i..] {
                assert_eq!(winner.or(*loser), *winner);
                assert_eq!(loser.or(*winner), *winner);
            }
        }
    }
}
