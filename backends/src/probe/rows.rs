//! All rows of a query by somebody else, for probes that compare a database with something beside it.

/// Columns of one row, as text; `None` is NULL.
pub(crate) type TextRow = Vec<Option<String>>;

/// Bytes that all rows together may take.
const BYTES_MAX: usize = 512 << 20;
/// More rows than this are not taken.
const ROWS_MAX: usize = 5_000_000;

/// Why there are no rows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoRows {
    /// There is no such database in the snapshot.
    Missing,
    /// It cannot answer: the schema is another one, or it is damaged.
    Refused(String),
    /// We could not ask.
    Ours(String),
}

/// Rows as they come, as many as anybody wants to hold.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    taken: Vec<TextRow>,
    bytes: usize,
}

/// There are more rows than fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMuch;

impl Rows {
    /// Takes one more.
    pub(crate) fn push(&mut self, row: TextRow) -> Result<(), TooMuch> {
        let size =
            |column: &Option<String>| column.as_ref().map_or(0, String::len) + size_of::<Option<String>>();
        let size = size_of::<TextRow>() + row.iter().map(size).sum::<usize>();
        self.bytes = self.bytes.saturating_add(size);
        if self.bytes > BYTES_MAX || self.taken.len() >= ROWS_MAX {
            return Err(TooMuch);
        }
        self.taken.push(row);
        Ok(())
    }

    /// All of them.
    pub(crate) fn into_all(self) -> Vec<TextRow> {
        self.taken
    }
}

impl From<TooMuch> for NoRows {
    fn from(_: TooMuch) -> Self {
        Self::Ours(format!("its answer is larger than {ROWS_MAX} rows or {BYTES_MAX} bytes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_bounded() {
        let mut rows = Rows::default();
        rows.push(vec![Some("a".to_owned()), None]).unwrap();
        rows.bytes = BYTES_MAX - 10;
        assert_eq!(rows.push(vec![Some("a".to_owned())]), Err(TooMuch));
        assert_eq!(rows.into_all().len(), 1, "what does not fit is not kept");
    }
}
