//! The pages of a bbolt database, and a walk through everything that its root reaches.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
const PAGE_HEADER: usize = 16;
const ELEMENT: usize = 16;
const FLAG_BRANCH: u16 = 0x01;
const FLAG_LEAF: u16 = 0x02;
const BUCKET: u32 = 1;

/// Deeper trees do not occur: each level multiplies the number of pages.
const DEPTH_MAX: usize = 32;

/// One page with its overflow; a value in etcd is at most a few MiB.
const PAGE_BYTES_MAX: u64 = 64 << 20;

/// The longest key that bbolt takes.
const KEY_BYTES_MAX: usize = 32_768;

/// Why a database cannot be followed.
#[derive(Debug)]
pub(crate) enum Flaw {
    Io(io::Error),
    Wrong(String),
}

impl From<io::Error> for Flaw {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The error for what is wrong with the database.
pub(crate) fn wrong<T>(seen: impl Into<String>) -> Result<T, Flaw> {
    Err(Flaw::Wrong(seen.into()))
}

/// Whether `head` begins with a bbolt meta page.
pub(in super::super) fn is_bolt(head: &[u8]) -> bool {
    u32_at(head, 16) == Some(MAGIC)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

#[derive(Clone, Copy)]
struct Meta {
    page_size: u64,
    root: u64,
    pages: u64,
    transaction: u64,
}

fn meta(page: &[u8]) -> Option<Meta> {
    let body = page.get(PAGE_HEADER..PAGE_HEADER + 64)?;
    let sum = body
        .get(..56)?
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    let valid = u32_at(body, 0)? == MAGIC && u32_at(body, 4)? == VERSION && u64_at(body, 56)? == sum;
    let page_size = u64::from(u32_at(body, 8)?);
    (valid && page_size.is_power_of_two() && (512..=65_536).contains(&page_size)).then_some(())?;
    Some(Meta {
        page_size,
        root: u64_at(body, 16)?,
        pages: u64_at(body, 40)?,
        transaction: u64_at(body, 48)?,
    })
}

/// An opened database.
pub(crate) struct Bolt<'f> {
    file: &'f File,
    length: u64,
    meta: Meta,
}

impl<'f> Bolt<'f> {
    /// Finds the valid meta page with the higher transaction, in the first `length` bytes of `file`.
    pub(crate) fn open(file: &'f File, length: u64) -> Result<Self, Flaw> {
        let read = |at: u64| -> Result<Option<Meta>, Flaw> {
            let mut page = [0; 80];
            if at.saturating_add(80) > length {
                return Ok(None);
            }
            file.read_exact_at(&mut page, at)?;
            Ok(meta(&page))
        };
        let first = read(0)?;
        // The second stands one page further on, whatever size pages have.
        let sizes: Vec<u64> =
            first.map_or_else(|| (9..=16).map(|log| 1 << log).collect(), |meta| vec![meta.page_size]);
        let mut newest = first;
        for size in sizes {
            if let Some(second) = read(size)?.filter(|second| second.page_size == size)
                && newest.is_none_or(|first| second.transaction > first.transaction)
            {
                newest = Some(second);
            }
        }
        match newest {
            Some(meta) => Ok(Self { file, length, meta }),
            None => wrong("neither meta page fits its checksum"),
        }
    }

    /// The bytes that all pages up to the highest one take.
    pub(crate) fn bytes(&self) -> u64 {
        self.meta.pages.saturating_mul(self.meta.page_size)
    }

    /// Whether the root bucket has etcd's buckets. Damage that hides them means no here.
    pub(crate) fn is_etcd(&self) -> io::Result<bool> {
        let mut names = HashSet::new();
        let mut page = match self.page(self.meta.root) {
            Ok(page) => page,
            Err(Flaw::Io(error)) => return Err(error),
            Err(Flaw::Wrong(_)) => return Ok(false),
        };
        // The root bucket of etcd has about ten entries: one leaf. Follow a branch once all the same.
        if page.flags == FLAG_BRANCH {
            let first = u64_at(&page.bytes, PAGE_HEADER + 8).unwrap_or(0);
            page = match self.page(first) {
                Ok(page) => page,
                Err(Flaw::Io(error)) => return Err(error),
                Err(Flaw::Wrong(_)) => return Ok(false),
            };
        }
        for index in 0..page.count {
            if let Ok((_, key, _)) = leaf_element(&page.bytes, index) {
                names.insert(key.to_vec());
            }
        }
        Ok([&b"key"[..], b"meta", b"lease"].iter().all(|name| names.contains(*name)))
    }

    fn page(&self, id: u64) -> Result<Page, Flaw> {
        let size = self.meta.page_size;
        let Some(at) = id.checked_mul(size).filter(|_| id >= 2 && id < self.meta.pages) else {
            return wrong(format!("a reference to page {id}, of {}", self.meta.pages));
        };
        let mut header = [0; PAGE_HEADER];
        if at.saturating_add(size) > self.length {
            return wrong(format!("page {id} lies behind the end of the file"));
        }
        self.file.read_exact_at(&mut header, at)?;
        let overflow = u64::from(u32_at(&header, 12).unwrap_or(0));
        let bytes = (overflow + 1).saturating_mul(size);
        if u64_at(&header, 0) != Some(id) || bytes > PAGE_BYTES_MAX || at.saturating_add(bytes) > self.length
        {
            return wrong(format!("a header that does not fit page {id}"));
        }
        let mut content = vec![0; usize::try_from(bytes).unwrap_or(0)];
        self.file.read_exact_at(&mut content, at)?;
        Ok(Page {
            id,
            flags: u16_at(&header, 8).unwrap_or(0),
            count: u16_at(&header, 10).unwrap_or(0),
            overflow,
            bytes: content,
        })
    }
}

struct Page {
    id: u64,
    flags: u16,
    count: u16,
    overflow: u64,
    bytes: Vec<u8>,
}

/// Flags, key and value of one element of a leaf.
fn leaf_element(page: &[u8], index: u16) -> Result<(u32, &[u8], &[u8]), Flaw> {
    let element = PAGE_HEADER + usize::from(index) * ELEMENT;
    let find = || {
        let position = usize::try_from(u32_at(page, element + 4)?).ok()?;
        let key_size = usize::try_from(u32_at(page, element + 8)?).ok()?;
        let value_size = usize::try_from(u32_at(page, element + 12)?).ok()?;
        let key = element.checked_add(position)?;
        let value = key.checked_add(key_size)?;
        let flags = u32_at(page, element)?;
        Some((flags, page.get(key..value)?, page.get(value..value.checked_add(value_size)?)?))
    };
    find().ok_or_else(|| Flaw::Wrong(format!("element {index} of a leaf lies outside its page")))
}

fn branch_child(page: &[u8], index: u16) -> Result<u64, Flaw> {
    let element = PAGE_HEADER + usize::from(index) * ELEMENT;
    let find = || {
        let position = usize::try_from(u32_at(page, element)?).ok()?;
        let key_size = usize::try_from(u32_at(page, element + 4)?).ok()?;
        let key = element.checked_add(position)?;
        page.get(key..key.checked_add(key_size)?)?;
        u64_at(page, element + 8)
    };
    find().ok_or_else(|| Flaw::Wrong(format!("element {index} of a branch lies outside its page")))
}

/// Is shown every entry of every bucket, in key order.
pub(crate) trait Visit {
    /// A bucket at the top.
    fn bucket(&mut self, _name: &[u8]) {}

    /// An entry of the bucket of this name.
    fn entry(&mut self, bucket: &[u8], key: &[u8], value: &[u8]) -> Result<(), Flaw>;
}

/// Shows `visit` every entry that the root of `bolt` reaches. Asks `proceed` at each page. The pages of `bolt` have
/// to fit into its file.
pub(crate) fn walk(
    bolt: &Bolt<'_>,
    proceed: &dyn Fn() -> io::Result<()>,
    visit: &mut dyn Visit,
) -> Result<(), Flaw> {
    let words = usize::try_from(bolt.meta.pages / 64 + 1).unwrap_or(0);
    Walk { proceed, bolt, seen: vec![0; words], visit }.node(bolt.meta.root, b"", 0, &mut None)
}

/// Walks every page that the root reaches.
struct Walk<'w> {
    proceed: &'w dyn Fn() -> io::Result<()>,
    bolt: &'w Bolt<'w>,
    /// One bit per page.
    seen: Vec<u64>,
    visit: &'w mut dyn Visit,
}

/// A bucket inside a leaf that has pages of its own.
struct Nested {
    name: Vec<u8>,
    root: u64,
}

impl Walk<'_> {
    /// Walks one page and what it refers to, depth first, in key order. The recursion is bounded by
    /// `DEPTH_MAX`, the work by the number of pages, none of which is entered twice; a page is let go
    /// before the next one is read.
    fn node(&mut self, id: u64, bucket: &[u8], depth: usize, last: &mut Option<Vec<u8>>) -> Result<(), Flaw> {
        (self.proceed)()?;
        if depth > DEPTH_MAX {
            return wrong("a page tree without an end");
        }
        let page = self.bolt.page(id)?;
        for used in id..=id.saturating_add(page.overflow) {
            self.enter(used)?;
        }
        match page.flags {
            FLAG_LEAF => {
                let nested = self.leaf(&page.bytes, page.count, bucket, last)?;
                drop(page);
                for inner in nested {
                    self.node(inner.root, &inner.name, depth + 1, &mut None)?;
                }
                Ok(())
            }
            FLAG_BRANCH if page.count > 0 => {
                let children: Result<Vec<u64>, Flaw> =
                    (0..page.count).map(|index| branch_child(&page.bytes, index)).collect();
                drop(page);
                children?.into_iter().try_for_each(|child| self.node(child, bucket, depth + 1, last))
            }
            flags => wrong(format!("page {} with flags {flags:#x} in the tree", page.id)),
        }
    }

    fn enter(&mut self, page: u64) -> Result<(), Flaw> {
        let word = usize::try_from(page / 64).ok().and_then(|word| self.seen.get_mut(word));
        match word {
            Some(word) if *word & (1 << (page % 64)) == 0 => {
                *word |= 1 << (page % 64);
                Ok(())
            }
            Some(_) => wrong(format!("page {page} is used twice")),
            None => wrong(format!("a reference to page {page}, of {}", self.bolt.meta.pages)),
        }
    }

    /// Looks at the elements of a leaf; returns the buckets that have pages of their own.
    fn leaf(
        &mut self,
        page: &[u8],
        count: u16,
        bucket: &[u8],
        last: &mut Option<Vec<u8>>,
    ) -> Result<Vec<Nested>, Flaw> {
        let mut nested = Vec::new();
        for index in 0..count {
            let (flags, key, value) = leaf_element(page, index)?;
            if key.len() > KEY_BYTES_MAX || last.as_deref().is_some_and(|last| last >= key) {
                return wrong(format!("keys out of order in bucket {:?}", String::from_utf8_lossy(bucket)));
            }
            *last = Some(key.to_vec());
            if flags & BUCKET != 0 {
                match u64_at(value, 0) {
                    Some(0) => self.inline(key, value.get(16..).unwrap_or_default())?,
                    Some(root) => nested.push(Nested { name: key.to_vec(), root }),
                    None => return wrong("a bucket without a header"),
                }
                if bucket.is_empty() {
                    self.visit.bucket(key);
                }
            } else {
                self.visit.entry(bucket, key, value)?;
            }
        }
        Ok(nested)
    }

    /// A small bucket stands as a page inside the value. It has no buckets in it.
    fn inline(&mut self, bucket: &[u8], page: &[u8]) -> Result<(), Flaw> {
        let (Some(FLAG_LEAF), Some(count)) = (u16_at(page, 8), u16_at(page, 10)) else {
            return wrong("an inline bucket that is no leaf");
        };
        for index in 0..count {
            let (flags, key, value) = leaf_element(page, index)?;
            if flags & BUCKET != 0 {
                return wrong("a bucket inside an inline bucket");
            }
            self.visit.entry(bucket, key, value)?;
        }
        Ok(())
    }
}
