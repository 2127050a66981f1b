//! Damage to copies of repositories: what storage, networks and people do to backups, on purpose and
//! repeatably. Each operator proves that it took effect, says which tags it hits, and can be healed.
//!
//! Verified: after [`Operator::apply`] every touched file reads back as damaged and differs from before;
//! after [`Guard::heal`] every touched file is what it was.
//!
//! Not verified: that a damaged repository is found out. That is for those who use the operators.

mod guard;
mod operators;
mod survey;
#[cfg(test)]
mod tests;

use std::path::Path;

use anyhow::Result;
use firedrill_core::secret::Secret;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;

pub use guard::Guard;
pub use operators::catalogue;
use survey::Survey;

/// One way to damage a repository.
#[derive(Clone, Copy, Debug)]
pub struct Operator {
    name: &'static str,
    what: &'static str,
    plan: fn(&Case<'_>, &mut StdRng) -> Result<Strike>,
}

/// There is nothing in this repository that an operator could damage in its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotApplicable(pub String);

impl std::fmt::Display for NotApplicable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotApplicable {}

/// The repository at hand, and the tag whose newest snapshot the damage is aimed at.
struct Case<'a> {
    root: &'a Path,
    survey: &'a Survey,
    tag: &'a str,
}

/// What is about to be done.
struct Strike {
    /// Files relative to the repository, with their new content; `None` removes.
    changes: Vec<(std::path::PathBuf, Option<Vec<u8>>)>,
    /// Tags whose newest snapshot does not come back as it was.
    hits: std::collections::BTreeSet<String>,
}

impl Operator {
    /// A short name in kebab case, unique.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What it does, in words.
    pub fn what(&self) -> &'static str {
        self.what
    }

    /// Damages the repository at `repository`, aimed at the newest snapshot of a tag that `seed` chooses.
    /// Fails with [`NotApplicable`] when no tag offers what the operator needs.
    pub fn apply(&self, repository: &Path, password: &str, seed: u64) -> Result<Guard> {
        self.aim(repository, &Survey::of(repository, &Secret::new(password))?, seed)
    }

    /// Damages the repository at `repository`, aimed at the newest snapshot of `tag`.
    pub fn apply_to(&self, repository: &Path, password: &str, seed: u64, tag: &str) -> Result<Guard> {
        let survey = Survey::of(repository, &Secret::new(password))?;
        self.strike(repository, &survey, tag, &mut StdRng::seed_from_u64(seed))
    }

    /// Takes the first of the tags, in an order that `seed` chooses, that offers what is needed.
    fn aim(&self, repository: &Path, survey: &Survey, seed: u64) -> Result<Guard> {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut tags: Vec<_> = survey.lines.keys().collect();
        tags.shuffle(&mut rng);
        let mut last = NotApplicable("the repository has no tagged snapshot".to_owned()).into();
        for tag in tags {
            match self.strike(repository, survey, tag, &mut rng) {
                Err(error) if error.is::<NotApplicable>() => last = error,
                struck => return struck,
            }
        }
        Err(last)
    }

    fn strike(&self, root: &Path, survey: &Survey, tag: &str, rng: &mut StdRng) -> Result<Guard> {
        let strike = (self.plan)(&Case { root, survey, tag }, rng)?;
        Guard::strike(self.name, root, strike)
    }
}

/// The operator called `name`.
pub fn named(name: &str) -> Result<Operator> {
    catalogue()
        .into_iter()
        .find(|operator| operator.name == name)
        .ok_or_else(|| anyhow::anyhow!("there is no damage called {name}"))
}
