//! Rows of a database, and their files.

use std::collections::{HashMap, HashSet};
use std::io::Read as _;

use firedrill_core::config::trials::{InvariantConfig, Template};
use firedrill_core::finding::{Examination, Finding};
use firedrill_core::manifest::{Entry, display_path};
use firedrill_core::subject::Subject;
use md5::Md5;
use sha2::{Digest, Sha256};

use crate::probe::rows::{NoRows, TextRow};
use crate::probe::sqlite::rows::rows;
use crate::probe::structure;

/// The MD5 and the SHA-256 of a file, those that were asked for.
type Digests = (Option<String>, Option<String>);

/// A row and its file do not fit, or one of them is missing.
const INVARIANT: &str = "group.invariant";
/// So many examples are shown of one kind.
const EXAMPLES: usize = 5;
/// How much of a text from the database is shown.
const SHOWN_MAX: usize = 200;

/// Asks an SQLite file, and compares every row with its file. `Err` says why that was not possible.
pub(super) fn examine(
    subject: &Subject,
    invariant: &InvariantConfig,
    path: &str,
    examination: &mut Examination,
) -> Result<(), String> {
    let answer = rows(subject, &subject.meant_by(path), &invariant.query.sql);
    if answer == Err(NoRows::Missing) {
        let seen = format!("no SQLite database {path} in the snapshot");
        absent(invariant, seen, examination);
        return Ok(());
    }
    compare(subject, invariant, answer, examination)
}

/// There is nothing that could be asked.
pub(super) fn absent(invariant: &InvariantConfig, seen: String, examination: &mut Examination) {
    examination.find(finding(invariant, "a database that can be asked", seen));
}

/// Compares every row of an answer with its file. `Err` says why that was not possible.
pub(super) fn compare(
    subject: &Subject,
    invariant: &InvariantConfig,
    answer: Result<Vec<TextRow>, NoRows>,
    examination: &mut Examination,
) -> Result<(), String> {
    let templates = Templates::new(invariant)?;
    let sql = &invariant.query.sql;
    let table = match answer {
        Ok(rows) => rows,
        Err(NoRows::Ours(why)) => return Err(why),
        Err(NoRows::Missing) => return Err("the database that it asks was not loaded".to_owned()),
        Err(NoRows::Refused(why)) => {
            examination.find(finding(invariant, format!("an answer to `{}`", shown(sql)), why));
            return Ok(());
        }
    };
    let columns = table.first().map_or(0, Vec::len);
    if !table.is_empty() && templates.columns_max() > columns {
        return Err(format!(
            "the query has {columns} columns, and `{{{}}}` is used",
            templates.columns_max()
        ));
    }
    let found = table.len() as u64;
    if found < invariant.rows_min {
        let expected = format!("at least {} rows", invariant.rows_min);
        examination.find(finding(invariant, expected, format!("{found} rows")));
    }
    let mut compared = Compared::new(subject, &templates);
    for row in &table {
        subject.watch.check().map_err(|e| e.chain())?;
        compared.row(row)?;
    }
    compared.tell(invariant, found, examination);
    if let Some(folder) = &invariant.only {
        compared.orphans(folder, invariant, examination);
    }
    Ok(())
}

fn finding(invariant: &InvariantConfig, expected: impl Into<String>, seen: impl Into<String>) -> Finding {
    Finding::damage(INVARIANT, &invariant.name, expected, seen)
}

struct Templates {
    file: Template,
    md5: Option<Template>,
    sha256: Option<Template>,
}

impl Templates {
    fn new(invariant: &InvariantConfig) -> Result<Self, String> {
        let optional = |text: &Option<String>| text.as_deref().map(Template::new).transpose();
        Ok(Self {
            file: Template::new(&invariant.file)?,
            md5: optional(&invariant.md5)?,
            sha256: optional(&invariant.sha256)?,
        })
    }

    /// How many columns the query must have.
    fn columns_max(&self) -> usize {
        let all = [Some(&self.file), self.md5.as_ref(), self.sha256.as_ref()];
        all.into_iter().flatten().flat_map(Template::columns).max().map_or(0, |last| last + 1)
    }
}

/// What came of the rows so far.
struct Compared<'a> {
    subject: &'a Subject,
    templates: &'a Templates,
    files: HashMap<&'a [u8], &'a Entry>,
    /// Paths that a row stands for.
    named: HashSet<Vec<u8>>,
    fileless: u64,
    undigested: u64,
    checked: u64,
    missing: Examples,
    different: Examples,
}

/// How often something was seen, and the first few times.
#[derive(Default)]
struct Examples {
    count: u64,
    first: Vec<String>,
}

impl Examples {
    fn add(&mut self, example: impl FnOnce() -> String) {
        self.count += 1;
        if self.first.len() < EXAMPLES {
            self.first.push(example());
        }
    }

    fn told(&self) -> String {
        let more = self.count.saturating_sub(self.first.len() as u64);
        let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{}: {}{rest}", self.count, self.first.join(", "))
    }
}

impl<'a> Compared<'a> {
    fn new(subject: &'a Subject, templates: &'a Templates) -> Self {
        Self {
            subject,
            templates,
            files: subject.manifest.files().map(|entry| (entry.path.as_slice(), entry)).collect(),
            named: HashSet::new(),
            fileless: 0,
            undigested: 0,
            checked: 0,
            missing: Examples::default(),
            different: Examples::default(),
        }
    }

    fn row(&mut self, row: &TextRow) -> Result<(), String> {
        let Some(path) = self.templates.file.fill(row) else {
            self.fileless += 1;
            return Ok(());
        };
        self.checked += 1;
        // What a row says is no path of ours: it is only compared with those of the snapshot.
        let meant = self.subject.meant_by(&path);
        let entry = meant.iter().find_map(|path| self.files.get(path.as_slice()).copied());
        let Some(entry) = entry else {
            self.missing.add(|| shown(&path));
            return Ok(());
        };
        self.named.insert(entry.path.clone());
        let wanted = |template: &Option<Template>| template.as_ref().map(|template| template.fill(row));
        let (md5, sha256) = (wanted(&self.templates.md5), wanted(&self.templates.sha256));
        if md5 == Some(None) || sha256 == Some(None) {
            self.undigested += 1;
        }
        let (md5, sha256) = (md5.flatten(), sha256.flatten());
        if md5.is_none() && sha256.is_none() {
            return Ok(());
        }
        let Some(digests) = self.digests(entry, md5.is_some(), sha256.is_some())? else {
            self.missing.add(|| format!("{} (it is in the snapshot, and was not restored)", shown(&path)));
            return Ok(());
        };
        for (wanted, seen) in [(md5, digests.0), (sha256, digests.1)] {
            if let (Some(wanted), Some(seen)) = (wanted, seen)
                && !wanted.trim().eq_ignore_ascii_case(&seen)
            {
                self.different.add(|| format!("{} is {seen}, not {}", shown(&path), shown(&wanted)));
                break;
            }
        }
        Ok(())
    }

    /// The digests of a restored file; `None` when there is no such file. `Err` when it cannot be read.
    fn digests(&self, entry: &Entry, md5: bool, sha256: bool) -> Result<Option<Digests>, String> {
        let failed = |e: std::io::Error| format!("failed to read {}: {e}", entry.display());
        let Some(mut file) = structure::open(&self.subject.root, &entry.path).map_err(failed)? else {
            return Ok(None);
        };
        let (mut one, mut other) = (md5.then(Md5::new), sha256.then(Sha256::new));
        let mut buffer = vec![0; 256 << 10];
        loop {
            self.subject.watch.check().map_err(|e| e.chain())?;
            let n = match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(failed(e)),
            };
            let piece = buffer.get(..n).unwrap_or_default();
            if let Some(hash) = &mut one {
                hash.update(piece);
            }
            if let Some(hash) = &mut other {
                hash.update(piece);
            }
        }
        Ok(Some((
            one.map(|hash| hex::encode(hash.finalize())),
            other.map(|hash| hex::encode(hash.finalize())),
        )))
    }

    fn tell(&mut self, invariant: &InvariantConfig, rows: u64, examination: &mut Examination) {
        examination.checked = examination.checked.saturating_add(self.checked);
        let name = &invariant.name;
        examination.notes.push(format!("{name}: {} of {rows} rows have a file to look at", self.checked));
        if self.checked == 0 && rows > 0 {
            examination.interrupt(format!("the invariant `{name}`: no row names a file"));
        }
        if self.undigested > 0 {
            let text = format!("{name}: the content of {} files, whose row has no digest", self.undigested);
            examination.not_verified.push(text);
        }
        if self.missing.count > 0 {
            let expected = format!("a file for each of {} rows", self.checked);
            examination.find(finding(
                invariant,
                expected,
                format!("rows without a file: {}", self.missing.told()),
            ));
        }
        if self.different.count > 0 {
            let seen = format!("files that are different: {}", self.different.told());
            examination.find(finding(invariant, "the content that the rows promise", seen));
        }
    }

    /// Files below `folder` that no row names.
    fn orphans(&self, folder: &str, invariant: &InvariantConfig, examination: &mut Examination) {
        let folders: Vec<Vec<u8>> =
            self.subject.meant_by(folder).into_iter().map(|path| [path.as_slice(), b"/"].concat()).collect();
        let mut orphans = Examples::default();
        let mut files = 0_u64;
        for entry in self.subject.manifest.files() {
            if folders.iter().any(|folder| entry.path.starts_with(folder)) {
                files += 1;
                if !self.named.contains(&entry.path) {
                    orphans.add(|| shown(&entry.display()));
                }
            }
        }
        examination.checked = examination.checked.saturating_add(files);
        if orphans.count > 0 {
            let expected = format!("a row for each of {files} files below {folder}");
            let seen = format!("files without a row: {}", orphans.told());
            // Nothing is lost with a row too few but the knowledge of a file.
            examination.find(Finding::anomaly(INVARIANT, &invariant.name, expected, seen));
        }
    }
}

/// The beginning of a text that somebody else wrote, on one line.
fn shown(text: &str) -> String {
    let mut short = display_path(text.as_bytes());
    if short.len() > SHOWN_MAX {
        short.truncate(short.floor_char_boundary(SHOWN_MAX));
        short.push('…');
    }
    short
}
