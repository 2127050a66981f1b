//! Rows as the client writes them as XML: the only one of its formats that tells NULL from a text.
//!
//! This is no reader of XML. The client escapes `<`, `>`, `&` and `"` in names and values and nothing else, so that
//! its own marks cannot be taken for data.

use memchr::memmem;

use crate::probe::rows::{NoRows, Rows, TextRow};

/// Reads what the client wrote.
pub(super) fn rows(output: &[u8]) -> Result<Vec<TextRow>, NoRows> {
    let broken = || NoRows::Ours("the client wrote what firedrill cannot read".to_owned());
    let mut rows = Rows::default();
    let mut rest = output;
    while let Some(at) = memmem::find(rest, b"<row>") {
        let body = rest.get(at + 5..).ok_or_else(broken)?;
        let end = memmem::find(body, b"</row>").ok_or_else(broken)?;
        let (row, after) = body.split_at(end);
        rows.push(fields(row).ok_or_else(broken)?)?;
        rest = after;
    }
    // An answer that was cut is not taken for all of it.
    if !output.is_empty() && memmem::rfind(output, b"</resultset>").is_none() {
        return Err(broken());
    }
    Ok(rows.into_all())
}

fn fields(row: &[u8]) -> Option<TextRow> {
    let mut fields = Vec::new();
    let mut rest = row;
    while let Some(at) = memmem::find(rest, b"<field name=\"") {
        let inside = rest.get(at + 13..)?;
        let name = inside.iter().position(|b| *b == b'"')?;
        let end = inside.get(name..)?.iter().position(|b| *b == b'>')? + name;
        let attributes = inside.get(name + 1..end)?;
        rest = inside.get(end + 1..)?;
        if attributes.ends_with(b"/") {
            fields.push(None);
            continue;
        }
        let length = memmem::find(rest, b"</field>")?;
        fields.push(Some(plain(rest.get(..length)?)));
        rest = rest.get(length..)?;
    }
    Some(fields)
}

fn plain(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    if !text.contains('&') {
        return text.into_owned();
    }
    // The ampersand last: what it makes is no mark any more.
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_told_from_nothing_and_from_marks() {
        let said = b"<?xml version=\"1.0\"?>\n\n<resultset statement=\"SELECT &lt;row&gt;\"\n xmlns:xsi=\"x\">\n  <row>\n\
            \t<field name=\"a\">NULL</field>\n\t<field name=\"b &lt;\" xsi:nil=\"true\" />\n\t<field name=\"c\"></field>\n\
            \t<field name=\"d\">a &lt;/field&gt;\n&amp;lt; &quot;</field>\n  </row>\n\n  <row>\n\t<field name=\"a\">2</field>\n\
            \t<field name=\"b &lt;\">3</field>\n\t<field name=\"c\">4</field>\n\t<field name=\"d\">5</field>\n  </row>\n</resultset>\n";
        let text = |text: &str| Some(text.to_owned());
        let first = vec![text("NULL"), None, text(""), text("a </field>\n&lt; \"")];
        let second = ["2", "3", "4", "5"].map(text).to_vec();
        assert_eq!(rows(said).unwrap(), [first, second]);
        for length in 0..said.len() - 13 {
            let cut = rows(&said[..length]);
            assert!(length == 0 || cut.is_err(), "{length}: {cut:?}");
        }
        let none = b"<?xml version=\"1.0\"?>\n\n<resultset statement=\"x\">\n</resultset>\n";
        assert!(rows(none).unwrap().is_empty());
    }
}
