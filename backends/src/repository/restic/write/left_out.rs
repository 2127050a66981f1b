//! What is left out of which source.
//!
//! A source is covered by what was said about it. One that lies in another has its own word, which begins where it
//! begins: the outer one neither leaves out what the inner one wants nor wants what the inner one leaves out. What two
//! say of one and the same source is left out when both say so: rather too much is saved than too little.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use firedrill_core::error::{Error, ErrorKind, Result};

use super::exclude::Patterns;

/// A list of patterns is not longer.
const PATTERNS_MAX: u64 = 1 << 20;

/// What is left out of some sources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// The paths of these sources; none: all that are on disk.
    pub of: Vec<PathBuf>,
    /// Patterns of what is left out, as `restic backup --exclude` takes them.
    pub excludes: Vec<String>,
    /// Files with such patterns, one a line; lines that begin with `#` are remarks.
    pub exclude_files: Vec<PathBuf>,
    /// Folders that hold a file of one of these names are saved without the rest of their content.
    pub exclude_if_present: Vec<String>,
    /// The same for folders that a `CACHEDIR.TAG` calls a cache.
    pub exclude_caches: bool,
    /// Whether folders on other file systems are saved without their content.
    pub one_file_system: bool,
    /// Patterns of what may be unreadable all the same.
    pub unreadable: Vec<String>,
}

/// The same, ready to be asked.
struct Rule {
    patterns: Patterns,
    excused: Patterns,
    marks: Vec<String>,
    caches: bool,
    one_file_system: bool,
}

/// Whose word counts at some place.
#[derive(Clone, Debug)]
pub(super) enum Word {
    /// Nobody's: it is here only because a source lies below.
    Way,
    /// That of these rules; without any, all is saved.
    Of(Arc<[usize]>),
}

impl Default for Word {
    fn default() -> Self {
        Self::Of(Arc::default())
    }
}

/// All rules, and the sources on disk that they are about.
pub(super) struct Rules {
    rules: Vec<Rule>,
    sources: BTreeMap<PathBuf, Arc<[usize]>>,
}

impl Rules {
    /// Reads the lists of patterns, and says which of them is none.
    pub(super) fn of<'s>(left_out: &[LeftOut], on_disk: impl IntoIterator<Item = &'s Path>) -> Result<Self> {
        let rules = left_out.iter().map(Rule::of).collect::<Result<_>>()?;
        let about = |source: &Path| {
            let speaks = |one: &LeftOut| one.of.is_empty() || one.of.iter().any(|path| path == source);
            let word = left_out.iter().enumerate().filter(|(_, one)| speaks(one)).map(|(number, _)| number);
            (source.to_owned(), word.collect())
        };
        Ok(Self { rules, sources: on_disk.into_iter().map(about).collect() })
    }

    /// What was said about the source at `path`; nothing when there is none.
    pub(super) fn at(&self, path: &Path) -> Option<Word> {
        self.sources.get(path).map(|word| Word::Of(Arc::clone(word)))
    }

    /// The sources.
    pub(super) fn sources(&self) -> impl Iterator<Item = &Path> {
        self.sources.keys().map(PathBuf::as_path)
    }

    /// Whether a source lies below `path`.
    pub(super) fn leads(&self, path: &Path) -> bool {
        // Paths are ordered part by part: what lies below one follows it.
        let behind = (Bound::Excluded(path), Bound::Unbounded);
        self.sources.range::<Path, _>(behind).next().is_some_and(|(next, _)| next.starts_with(path))
    }

    /// Whether all to whom `word` belongs say so.
    fn all(&self, word: &Word, says: impl Fn(&Rule) -> bool) -> bool {
        match word {
            Word::Way => false,
            Word::Of(numbers) => {
                !numbers.is_empty() && numbers.iter().all(|number| self.rules.get(*number).is_some_and(&says))
            }
        }
    }

    /// Whether `path`, an absolute one, is left out.
    pub(super) fn leave_out(&self, word: &Word, path: &[u8]) -> bool {
        matches!(word, Word::Way) || self.all(word, |rule| rule.patterns.leave_out(path))
    }

    /// Whether other file systems are left out.
    pub(super) fn stay(&self, word: &Word) -> bool {
        self.all(word, |rule| rule.one_file_system)
    }

    /// Whether a folder with a tag that calls it a cache is left out.
    pub(super) fn leave_caches(&self, word: &Word) -> bool {
        self.all(word, |rule| rule.caches)
    }

    /// The first name by which a folder says that it is not to be saved, of those that it `has`.
    pub(super) fn mark(&self, word: &Word, has: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
        let of = |rule: &Rule| rule.marks.iter().map(|mark| mark.as_bytes().to_vec()).find(|mark| has(mark));
        let Word::Of(numbers) = word else { return None };
        if !self.all(word, |rule| of(rule).is_some()) {
            return None;
        }
        self.rules.get(*numbers.first()?).and_then(of)
    }

    /// Whether `path` may be unreadable.
    pub(super) fn excuse(&self, word: &Word, path: &[u8]) -> bool {
        self.all(word, |rule| rule.excused.leave_out(path))
    }
}

impl Rule {
    fn of(left_out: &LeftOut) -> Result<Self> {
        let mut excludes = left_out.excludes.clone();
        for file in &left_out.exclude_files {
            excludes.extend(read_patterns(file)?);
        }
        let parse = |texts: &[String]| {
            Patterns::parse(texts.iter().map(String::as_str)).map_err(|what| {
                Error::new(ErrorKind::Usage, "back up").because(format!("{what} is no pattern"))
            })
        };
        Ok(Self {
            patterns: parse(&excludes)?,
            excused: parse(&left_out.unreadable)?,
            marks: left_out.exclude_if_present.clone(),
            caches: left_out.exclude_caches,
            one_file_system: left_out.one_file_system,
        })
    }
}

fn read_patterns(file: &Path) -> Result<Vec<String>> {
    let failed = |error: &io::Error| {
        Error::new(ErrorKind::Usage, format!("read the patterns in {}", file.display())).from_source(error)
    };
    let mut text = String::new();
    let read = File::open(file)
        .and_then(|opened| opened.take(PATTERNS_MAX + 1).read_to_string(&mut text))
        .map_err(|error| failed(&error))?;
    if read as u64 > PATTERNS_MAX {
        return Err(failed(&io::Error::other("it is larger than 1 MiB")));
    }
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(str::to_owned).collect())
}
