//! Directory format: the data of each entry is a file beside `toc.dat`.

use std::collections::{BTreeMap, HashSet};
use std::io;

use firedrill_core::subject::Subject;

use super::super::context::Context;
use super::super::input::Input;
use super::super::inspect::Item;
use super::super::{Format, codec, scan};
use super::{Table, Toc, data, remember};

/// Checks the files that `toc`, which is `item`, lists.
pub(in super::super) fn check(
    context: &Context<'_>,
    subject: &Subject,
    item: &Item,
    toc: &Toc,
) -> io::Result<()> {
    let cut = item.name.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let folder = item.name.get(..cut).unwrap_or_default();
    let siblings: HashSet<&[u8]> =
        subject.manifest.files().filter_map(|entry| entry.path.strip_prefix(folder)).collect();
    toc.report_missing(context, &item.location, |name| siblings.contains(name));
    let mut tables = BTreeMap::new();
    for entry in &toc.with_data {
        context.proceed()?;
        let names = [(&b""[..], None), (b".gz", Some(Format::Gzip)), (b".zst", Some(Format::Zstd))];
        for (ending, format) in names {
            let name = [entry.file.as_slice(), ending].concat();
            if siblings.contains(name.as_slice()) {
                let path = [folder, &name].concat();
                let rows = file(context, subject, entry, &path, format);
                if entry.is_table {
                    tables.insert(entry.name.clone(), rows.unwrap_or(0));
                }
                break;
            }
        }
        if siblings.contains([entry.file.as_slice(), b".lz4"].concat().as_slice()) {
            context.leave_out("data that pg_dump compressed with lz4");
        }
    }
    remember(context, item, tables);
    Ok(())
}

fn file(
    context: &Context<'_>,
    subject: &Subject,
    entry: &Table,
    path: &[u8],
    format: Option<Format>,
) -> io::Result<u64> {
    let location = firedrill_core::manifest::display_path(path);
    let file = match scan::open(&subject.root, path) {
        Ok(Some(file)) => file,
        // The tree probe tells of files that are not there.
        Ok(None) => return Ok(0),
        Err(error) => {
            context.interrupt(format!("failed to open {location}: {error}"));
            return Ok(0);
        }
    };
    let input = Input::file(context, file, &location);
    let mut input = match format {
        Some(format) => codec::decoder(context, format, input, &location)?,
        None => input,
    };
    let rows = data::check(context, &location, entry, &mut input)?;
    input.drain()?;
    Ok(rows)
}
