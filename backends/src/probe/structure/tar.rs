//! tar archives, in one pass and in bounded memory.
//!
//! *Verified*: the checksum of every header; every member is as long as its header says; the archive
//! ends with zero blocks. Members are recognised and checked in their turn; a pg_dump archive in tar
//! format has every data file of its table of contents.
//!
//! *Not verified*: the bytes of members, which tar gives no checksum.
//!
//! The parser is our own: the `tar` crate keeps long names in memory without a bound, and takes the end
//! of a cut file at a member boundary for the end of the archive, which is the very fault to be found.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Read};

use firedrill_core::manifest::display_path;

use super::Format;
use super::claim::Claim;
use super::context::Context;
use super::input::Input;
use super::inspect::{self, Item};
use super::pg::{self, Toc};
use crate::probe::bases::Named;

const BLOCK: usize = 512;

/// Longest extended header that is kept; longer ones are skipped.
const EXTENSION_MAX: u64 = 1 << 20;

/// Members whose names are remembered for the sake of pg_dump archives.
const NAMES_MAX: usize = 200_000;

/// Whether `head` begins with a tar header.
pub(super) fn is_header(head: &[u8]) -> bool {
    let Some(block) = head.first_chunk::<BLOCK>() else { return false };
    let named = block.first().is_some_and(|byte| *byte != 0);
    named && (block.get(257..262) == Some(b"ustar") || has_checksum(block))
}

/// Checks the archive in `input`.
pub(super) fn check(
    context: &Context<'_>,
    item: &Item,
    input: &mut Input<'_>,
    depth: usize,
) -> io::Result<()> {
    Archive {
        context,
        item,
        depth,
        members: 0,
        next: Extension::default(),
        names: HashSet::new(),
        toc: None,
        tables: BTreeMap::new(),
    }
    .read(input)
}

/// What an extended header says about the member after it.
#[derive(Default)]
struct Extension {
    path: Option<Vec<u8>>,
    size: Option<u64>,
}

struct Archive<'a> {
    context: &'a Context<'a>,
    item: &'a Item,
    depth: usize,
    members: u64,
    next: Extension,
    names: HashSet<Vec<u8>>,
    toc: Option<(Vec<u8>, Toc)>,
    /// Rows per table of the pg_dump archive that this tar is.
    tables: BTreeMap<String, u64>,
}

impl Archive<'_> {
    fn read(mut self, input: &mut Input<'_>) -> io::Result<()> {
        let mut lone_zero_block = false;
        loop {
            let at = input.offset();
            let mut block = [0; BLOCK];
            match input.read_full(&mut block)? {
                BLOCK => {}
                // The second zero block is padding; GNU tar notes its absence and goes on.
                0 if lone_zero_block => break,
                n => {
                    self.truncated(at + n as u64, "in place of a header or the end of the archive");
                    return Ok(());
                }
            }
            if block.iter().all(|byte| *byte == 0) {
                if lone_zero_block {
                    break;
                }
                lone_zero_block = true;
                continue;
            }
            lone_zero_block = false;
            if !has_checksum(&block) {
                self.bad_header(at, "a header whose checksum does not fit");
                return Ok(());
            }
            if !self.member(input, &block, at)? {
                return Ok(());
            }
        }
        self.behind_the_end(input)?;
        self.finish();
        Ok(())
    }

    /// Reads one member; false when the archive cannot be followed any further.
    fn member(&mut self, input: &mut Input<'_>, block: &[u8; BLOCK], at: u64) -> io::Result<bool> {
        let kind = block.get(156).copied().unwrap_or(0);
        let Some(header_size) = number(block.get(124..136).unwrap_or_default()) else {
            self.bad_header(at, "a header without a size");
            return Ok(false);
        };
        if matches!(kind, b'x' | b'g' | b'L') {
            return self.extension(input, kind, header_size, at);
        }
        let extension = std::mem::take(&mut self.next);
        let name = extension.path.unwrap_or_else(|| header_name(block));
        // These kinds have no content, whatever their size field says.
        let size = match kind {
            b'1'..=b'6' => 0,
            _ => extension.size.unwrap_or(header_size),
        };
        if kind == b'S' && !skip_sparse_map(input, block)? {
            self.truncated(input.offset(), "inside a sparse map");
            return Ok(false);
        }
        if kind != b'K' {
            self.members += 1;
        }
        let regular = matches!(kind, b'0' | 0 | b'7');
        let whole = self.content(input, &name, size, regular)? && skip_padding(input, size)?;
        if !whole {
            self.truncated(input.offset(), &format!("inside {}", display_path(&name)));
        }
        Ok(whole)
    }

    fn extension(&mut self, input: &mut Input<'_>, kind: u8, size: u64, at: u64) -> io::Result<bool> {
        let mut body = vec![0; usize::try_from(size.min(EXTENSION_MAX)).unwrap_or(0)];
        let read = input.read_full(&mut body)? as u64;
        let rest = size.saturating_sub(read);
        if read < size.min(EXTENSION_MAX) || input.skip(rest)? < rest || !skip_padding(input, size)? {
            self.truncated(input.offset(), "inside an extended header");
            return Ok(false);
        }
        match kind {
            b'L' => self.next.path = Some(body.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()),
            b'x' => match pax(&body) {
                Some(found) => self.next = found,
                None if size > EXTENSION_MAX => {}
                None => {
                    self.bad_header(at, "an extended header that cannot be read");
                    return Ok(false);
                }
            },
            _ => {}
        }
        Ok(true)
    }

    /// Reads the content of one member and checks it; false when it is cut.
    fn content(&mut self, input: &mut Input<'_>, name: &[u8], size: u64, regular: bool) -> io::Result<bool> {
        let claims = Claim::of(Named::alone(name)).is_some_and(|claim| claim.dump);
        let mut window = Window { input, left: size };
        if regular && (size > 0 || claims) {
            let item = self.item.member(name);
            self.look_inside(&item, &mut window);
        }
        let left = window.left;
        if self.names.len() < NAMES_MAX {
            self.names.insert(name.to_vec());
        }
        Ok(input.skip(left)? == left)
    }

    fn look_inside(&mut self, item: &Item, window: &mut Window<'_, '_>) {
        let context = self.context;
        let (folder, base) = split(&item.name);
        let mut part = Input::part(context, &mut *window, &item.location);
        // What goes wrong inside is recorded there; the archive itself goes on behind the member.
        if base == b"toc.dat" && part.peek(5).is_ok_and(|head| head == b"PGDMP") {
            if let Ok(Some(toc)) = pg::check(context, item, &mut part) {
                self.toc = Some((folder.to_vec(), toc));
            }
            return;
        }
        let toc = self.toc.as_ref().filter(|(at, _)| at == folder).map(|(_, toc)| toc);
        if toc.is_some() && base == b"restore.sql" {
            // A by-product without data, made of the table of contents.
            return;
        }
        match toc.and_then(|toc| toc.table_of(base)) {
            Some(table) => {
                if let Ok(rows) = pg::data::check(context, &item.location, table, &mut part) {
                    self.tables.insert(table.name.clone(), rows);
                }
            }
            None => {
                let _recorded = inspect::stream(context, item, part, self.depth + 1);
            }
        }
    }

    fn behind_the_end(&self, input: &mut Input<'_>) -> io::Result<()> {
        let at = input.offset();
        let mut bytes = [0; 4096];
        loop {
            let n = input.read_full(&mut bytes)?;
            if n == 0 {
                return Ok(());
            }
            if bytes.get(..n).is_some_and(|read| read.iter().any(|byte| *byte != 0)) {
                self.context.anomaly(
                    "tar.trailing",
                    &self.item.location,
                    "nothing but padding behind the end of the archive",
                    format!("other content behind byte {at}: tar stops before it"),
                );
                return Ok(());
            }
        }
    }

    fn finish(self) {
        let at = &self.item.location;
        if self.members == 0 {
            if Claim::of(self.item.named()).is_some_and(|claim| claim.layers.contains(&Format::Tar)) {
                self.context.anomaly(
                    "tar.empty",
                    at,
                    "an archive of something",
                    "an archive without members",
                );
            }
            return;
        }
        self.context.note(format!("{at}: tar archive, {} members", self.members));
        if let Some((folder, toc)) = &self.toc
            && self.names.len() < NAMES_MAX
        {
            if !self.tables.is_empty() {
                pg::remember(self.context, self.item, self.tables);
            }
            toc.report_missing(self.context, at, |file| {
                self.names.contains(&[folder.as_slice(), file].concat())
            });
        }
    }

    fn truncated(&self, at: u64, place: &str) {
        self.context.damage(
            "tar.truncated",
            &self.item.location,
            "an archive that ends with zero blocks",
            format!("it ends at byte {at}, {place}, after {} members", self.members),
        );
    }

    fn bad_header(&self, at: u64, seen: &str) {
        self.context.damage(
            "tar.header",
            &self.item.location,
            "readable headers throughout",
            format!("{seen} at byte {at}, after {} members", self.members),
        );
    }
}

/// The content of one member.
struct Window<'i, 'a> {
    input: &'i mut Input<'a>,
    left: u64,
}

impl Read for Window<'_, '_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let room = into.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let n = self.input.read(into.get_mut(..room).unwrap_or_default())?;
        self.left -= n as u64;
        Ok(n)
    }
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let cut = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    path.split_at(cut)
}

fn skip_padding(input: &mut Input<'_>, size: u64) -> io::Result<bool> {
    let padding = size.wrapping_neg() % BLOCK as u64;
    Ok(input.skip(padding)? == padding)
}

fn skip_sparse_map(input: &mut Input<'_>, block: &[u8; BLOCK]) -> io::Result<bool> {
    let mut extended = block.get(482).is_some_and(|flag| *flag != 0);
    while extended {
        let Some(more) = input.array::<BLOCK>()? else { return Ok(false) };
        extended = more.get(504).is_some_and(|flag| *flag != 0);
    }
    Ok(true)
}

/// The sum of all bytes with the checksum field taken as spaces; some old writers summed signed bytes.
fn has_checksum(block: &[u8; BLOCK]) -> bool {
    let Some(stored) = number(block.get(148..156).unwrap_or_default()) else { return false };
    let (mut plain, mut signed) = (0_i64, 0_i64);
    for (place, &byte) in block.iter().enumerate() {
        let byte = if (148..156).contains(&place) { b' ' } else { byte };
        plain += i64::from(byte);
        signed += i64::from(byte.cast_signed());
    }
    i64::try_from(stored).is_ok_and(|stored| stored == plain || stored == signed)
}

/// An octal number, or GNU's binary form for large ones.
fn number(field: &[u8]) -> Option<u64> {
    if let Some((&first, rest)) = field.split_first()
        && first == 0x80
    {
        let (high, low) = rest.split_at_checked(rest.len().checked_sub(8)?)?;
        return high
            .iter()
            .all(|byte| *byte == 0)
            .then(|| u64::from_be_bytes(low.try_into().unwrap_or([0; 8])));
    }
    let text = std::str::from_utf8(field).ok()?;
    let digits = text.trim_matches(|c| c == ' ' || c == '\0');
    if digits.is_empty() {
        return Some(0);
    }
    u64::from_str_radix(digits, 8).ok()
}

fn header_name(block: &[u8; BLOCK]) -> Vec<u8> {
    let text = |range| {
        let field: &[u8] = block.get::<std::ops::Range<usize>>(range).unwrap_or_default();
        field.split(|byte| *byte == 0).next().unwrap_or_default()
    };
    let (name, prefix) = (text(0..100), text(345..500));
    if block.get(257..263) == Some(b"ustar\0") && !prefix.is_empty() {
        return [prefix, b"/", name].concat();
    }
    name.to_vec()
}

/// The records `LENGTH KEY=VALUE\n` of a pax header.
fn pax(mut body: &[u8]) -> Option<Extension> {
    let mut found = Extension::default();
    while !body.is_empty() {
        let space = body.iter().position(|byte| *byte == b' ')?;
        let length: usize = std::str::from_utf8(body.get(..space)?).ok()?.parse().ok()?;
        let record = body.get(space + 1..length.checked_sub(1)?)?;
        let equals = record.iter().position(|byte| *byte == b'=')?;
        let (key, value) = (record.get(..equals)?, record.get(equals + 1..)?);
        match key {
            b"path" => found.path = Some(value.to_vec()),
            b"size" => found.size = Some(std::str::from_utf8(value).ok()?.parse().ok()?),
            _ => {}
        }
        body = body.get(length..)?;
    }
    Some(found)
}
