//! Archives of `pg_dump -Fc`, `-Fd` and `-Ft`.
//!
//! *Verified*: header and table of contents can be read to their end; each entry that has data is there
//! with all of it, decompressed, up to the `\.` line that closes a table; nothing is left over. A cut
//! archive keeps its table of contents, which stands in front: `pg_restore -l` works on it.
//!
//! *Not verified*: the definitions in the table of contents, which carry no checksum; data that is
//! compressed with lz4, of which only the framing is read. The time in the header is local time without
//! a zone and is only noted.

pub(super) mod data;
pub(super) mod directory;
mod toc;

use std::collections::BTreeMap;
use std::io;

use super::claim::names_a_schema;
use super::context::Context;
use super::history::Dump;
use super::input::Input;
use super::inspect::Item;
pub(super) use toc::{Archive, Codec, Flaw, Table, Toc};

/// Checks the archive in `input`. Of the formats that keep data in files of its own, only the table of
/// contents is read, and returned.
pub(super) fn check(context: &Context<'_>, item: &Item, input: &mut Input<'_>) -> io::Result<Option<Toc>> {
    let at = &item.location;
    let mut archive = Archive::new(input);
    let toc = match archive.read_toc() {
        Ok(toc) => toc,
        Err(flaw) => {
            flaw.report(context, at, "a readable header and table of contents")?;
            return Ok(None);
        }
    };
    toc.describe(context, at);
    if toc.tables_with_data() == 0 && !names_a_schema(&item.name) {
        context.anomaly(
            "pg_archive.no_data",
            at,
            "data of at least one table",
            format!("{} entries, none of which is the data of a table", toc.entries),
        );
    }
    if !toc.custom {
        if archive.input.drain()? > 0 {
            context.damage("pg_archive.toc", at, "nothing behind the table of contents", "more bytes");
        }
        return Ok(Some(toc));
    }
    let mut tables = BTreeMap::new();
    match data::walk(context, item, &toc, &mut archive, &mut tables) {
        Ok(()) => remember(context, item, tables),
        Err(flaw) => flaw.report(context, at, "the data of every entry, to its end")?,
    }
    Ok(None)
}

/// Keeps what the archive holds for the next drill.
pub(super) fn remember(context: &Context<'_>, item: &Item, tables: BTreeMap<String, u64>) {
    let rows = tables.values().sum();
    context.note(format!("{}: data of {} tables, {rows} rows", item.location, tables.len()));
    context.facts().saw_dump(Dump { path: item.name.clone(), tables, rows, complete: true });
}
