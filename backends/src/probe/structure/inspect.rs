//! From content to the check of its format, layer by layer.

use std::fs::File;
use std::io;

use firedrill_core::manifest::{Entry, display_path};
use firedrill_core::subject::Subject;

use super::claim::Claim;
use super::context::{Context, reported};
use super::input::Input;
use super::sniff::{Content, HEAD, Problem, error_text, problem, sniff};
use super::{Format, codec, etcd, pg, scan, sql, tar, xbstream, zip};
use crate::probe::bases::Named;

/// How many layers are followed inwards: `all.tar.gz` with `app.sql.gz` in it has four.
const DEPTH_MAX: usize = 4;

/// What is looked at: a file, or something inside one.
pub(super) struct Item {
    /// Where, for people.
    pub(super) location: String,
    /// The path whose name may make a claim.
    pub(super) name: Vec<u8>,
    /// How much of the name only leads to what was backed up.
    pub(super) lead: usize,
}

impl Item {
    /// What lies inside an archive, under `name`.
    pub(super) fn member(&self, name: &[u8]) -> Self {
        let location = format!("{}!/{}", self.location, display_path(name));
        Self { location, name: name.to_vec(), lead: Named::alone(name).lead }
    }

    pub(super) fn named(&self) -> Named<'_> {
        Named { path: &self.name, lead: self.lead }
    }
}

/// Examines one restored file.
pub(super) fn file(context: &Context<'_>, subject: &Subject, entry: &Entry, lead: usize) {
    let item = Item { location: entry.display(), name: entry.path.clone(), lead };
    context.begin_file(item.named());
    let file = match scan::open(&subject.root, &entry.path) {
        Ok(Some(file)) => file,
        // The tree probe tells of files that are not there.
        Ok(None) => return context.note(format!("{} is not there as a regular file", item.location)),
        Err(error) => return context.interrupt(format!("failed to open {}: {error}", item.location)),
    };
    // Whatever went wrong has been recorded where it went wrong.
    let _recorded = whole_file(context, subject, &item, file);
    context.end_file();
}

fn whole_file<'a>(context: &'a Context<'a>, subject: &Subject, item: &Item, file: File) -> io::Result<()> {
    let second = file.try_clone().map_err(|error| {
        context.interrupt(format!("failed to read {}: {error}", item.location));
        reported()
    })?;
    let mut input = Input::file(context, file, &item.location);
    match recognise(context, item, &mut input)? {
        Content::Is(Format::Zip) => zip::check(context, item, second),
        Content::Is(Format::EtcdSnapshot) | Content::Bolt => etcd::check(context, item, &second),
        Content::Is(Format::PgArchive) => match pg::check(context, item, &mut input)? {
            Some(toc) => pg::directory::check(context, subject, item, &toc),
            None => Ok(()),
        },
        Content::Is(format) => dispatch(context, item, format, input, 0),
        Content::Unknown => Ok(()),
    }
}

/// Examines content inside another layer, and reads it to its end whatever is wrong in it, so that the
/// layer beneath is checked to its own end as well.
pub(super) fn stream<'a>(
    context: &'a Context<'a>,
    item: &Item,
    mut input: Input<'a>,
    depth: usize,
) -> io::Result<()> {
    let content = recognise(context, item, &mut input)?;
    if depth >= DEPTH_MAX && content != Content::Unknown {
        context.leave_out(format!("content nested more than {DEPTH_MAX} layers deep"));
    } else {
        // What went wrong inside has been recorded there, and does not keep us from reading on.
        let _recorded = inside(context, item, content, &mut input, depth);
    }
    input.drain().map(drop)
}

fn inside(
    context: &Context<'_>,
    item: &Item,
    content: Content,
    input: &mut Input<'_>,
    depth: usize,
) -> io::Result<()> {
    if let Content::Is(format) = content
        && !Format::CONTAINERS.contains(&format)
    {
        context.saw_a_dump();
        context.leave_out(format.not_verified());
    }
    match content {
        Content::Unknown => Ok(()),
        Content::Is(Format::EtcdSnapshot) | Content::Bolt => etcd::check_stream(context, item, input),
        Content::Is(Format::Zip) => {
            context.leave_out("zip archives inside other archives");
            Ok(())
        }
        Content::Is(Format::PgArchive) => {
            if pg::check(context, item, input)?.is_some() {
                context.damage(
                    "pg_archive.data_missing",
                    &item.location,
                    "a table of contents beside its data files",
                    "a table of contents alone",
                );
            }
            Ok(())
        }
        Content::Is(format) => {
            context.note(format!("{} holds {}", item.location, format.title()));
            dispatch(context, item, format, Input::part(context, input, &item.location), depth)
        }
    }
}

fn dispatch<'a>(
    context: &'a Context<'a>,
    item: &Item,
    format: Format,
    mut input: Input<'a>,
    depth: usize,
) -> io::Result<()> {
    match format {
        Format::Gzip | Format::Zstd | Format::Xz => codec::check(context, item, format, input, depth),
        Format::Tar => tar::check(context, item, &mut input, depth),
        Format::SqlDump => sql::check(context, item, &mut input),
        Format::Xbstream => xbstream::check(context, item, &mut input),
        Format::Zip | Format::PgArchive | Format::EtcdSnapshot => Ok(()),
    }
}

/// Looks at the beginning, files a finding when a name promised something else, and says what to check.
fn recognise(context: &Context<'_>, item: &Item, input: &mut Input<'_>) -> io::Result<Content> {
    let head = input.peek(HEAD)?;
    let whole = head.len() < HEAD;
    let content = identify(item.named(), head, whole);
    let Some(claim) = Claim::of(item.named()) else { return Ok(content) };
    match content {
        Content::Unknown => {
            if let Some(problem) = problem(&claim, head, whole) {
                report(context, item, &claim, problem, head);
            }
        }
        Content::Is(format) => {
            if let Some(outer) = claim.outer().filter(|outer| claim.dump && contradicts(*outer, format)) {
                context.anomaly(
                    &format!("{}.format", outer.name()),
                    &item.location,
                    format!("{}, as the name says", outer.title()),
                    format!("{}: the usual way to restore it will not work", format.title()),
                );
            }
        }
        Content::Bolt => {}
    }
    Ok(content)
}

/// What content is, with the help of the name where the bytes alone cannot tell.
pub(super) fn identify(name: Named<'_>, head: &[u8], whole: bool) -> Content {
    let content = sniff(head, whole);
    let outer = Claim::of(name).and_then(|claim| claim.outer());
    match (content, outer) {
        (Content::Bolt, Some(Format::EtcdSnapshot)) => Content::Is(Format::EtcdSnapshot),
        // An empty tar archive is nothing but zeros, and so is a tar whose beginning was lost.
        (Content::Unknown, Some(Format::Tar)) if head.len() >= 512 && head.iter().all(|byte| *byte == 0) => {
            Content::Is(Format::Tar)
        }
        _ => content,
    }
}

/// Whether a name that ends like `outer` is wrong about content in `format`. `pg_dump -Fc` into a file
/// called `.sql` and a plain dump called `.dump` are habits, not faults.
fn contradicts(outer: Format, format: Format) -> bool {
    outer != format && !matches!(outer, Format::SqlDump | Format::PgArchive)
}

fn report(context: &Context<'_>, item: &Item, claim: &Claim, problem: Problem, head: &[u8]) {
    let Some(outer) = claim.outer() else { return };
    let at = &item.location;
    let expected = format!("{}, as the name says", outer.title());
    let code = |what: &str| format!("{}.{what}", outer.name());
    match problem {
        Problem::Empty => context.damage(&code("empty"), at, expected, "no content at all"),
        Problem::Stub => {
            context.damage(&code("truncated"), at, expected, format!("its first {} bytes only", head.len()));
        }
        Problem::ErrorText => {
            let text = error_text(head).unwrap_or_default();
            context.damage(&code("error_text"), at, expected, format!("the message of a tool: {text}"));
        }
        Problem::Random => context.anomaly(
            "structure.unrecognised",
            at,
            expected,
            "content that looks encrypted: nothing in it can be recognised",
        ),
        Problem::NoStatement => {
            context.damage(&code("no_statement"), at, expected, "text without any SQL statement");
        }
        Problem::Mismatch => context.damage(&code("format"), at, expected, "content in no known format"),
        Problem::OddMismatch => context.anomaly(&code("format"), at, expected, "content in no known format"),
    }
}
