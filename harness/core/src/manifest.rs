//! What a snapshot says it holds, entry by entry, without any of the content.

use jiff::Timestamp;

/// The SHA-256 of a chunk's plain content.
pub type Digest = [u8; 32];

/// One stored piece of a file's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// SHA-256 of the plain content; in restic, the blob id.
    pub digest: Digest,
    /// Length of the plain content in bytes.
    pub length: u32,
}

/// What kind of thing an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file; its chunks are `Manifest::chunks(entry)`.
    File,
    /// A directory.
    Directory,
    /// A symbolic link with its target, as bytes.
    Symlink(Vec<u8>),
    /// A named pipe.
    Fifo,
    /// A socket. Never restored: it means nothing without its server.
    Socket,
    /// A block or character device. Never made in scratch.
    Device,
}

/// One extended attribute. ACLs are the attributes `system.posix_acl_access` and `..._default`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// Its name, with the name space.
    pub name: String,
    /// Its value.
    pub value: Vec<u8>,
}

/// One entry of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Path below the root of the restore, as bytes, `/`-separated, never absolute, without `.` or `..`.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Size in bytes, for files.
    pub size: u64,
    /// Unix permission bits including setuid, setgid and sticky (`0o7777`); `None` when the snapshot
    /// does not record them.
    pub mode: Option<u32>,
    /// Numeric owner.
    pub uid: Option<u32>,
    /// Numeric group.
    pub gid: Option<u32>,
    /// Modification time.
    pub mtime: Option<Timestamp>,
    /// Extended attributes.
    pub attributes: Vec<Attribute>,
    /// Entries with the same non-zero number are one inode (hard links).
    pub link_group: u64,
    /// The error that the backup program recorded while it read this entry.
    pub read_error: Option<String>,
    chunks: (usize, usize),
}

impl Entry {
    /// The path for people: invalid UTF-8 is replaced, control characters are escaped.
    pub fn display(&self) -> String {
        display_path(&self.path)
    }

    /// Whether this is a regular file.
    pub fn is_file(&self) -> bool {
        self.kind == Kind::File
    }

    /// The last component of the path.
    pub fn name(&self) -> &[u8] {
        self.path.rsplit(|b| *b == b'/').next().unwrap_or(&self.path)
    }
}

/// `path` for people: invalid UTF-8 is replaced, control characters are escaped.
pub fn display_path(path: &[u8]) -> String {
    let mut shown = String::with_capacity(path.len());
    for c in String::from_utf8_lossy(path).chars() {
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// All entries of a snapshot, parents before children.
#[derive(Clone, Debug, Default)]
pub struct Manifest {
    entries: Vec<Entry>,
    chunks: Vec<Chunk>,
    incomplete: bool,
}

/// The fields of an entry other than its chunks, for [`Manifest::push`].
#[derive(Clone, Debug)]
pub struct NewEntry {
    /// See [`Entry::path`].
    pub path: Vec<u8>,
    /// See [`Entry::kind`].
    pub kind: Kind,
    /// See [`Entry::size`].
    pub size: u64,
    /// See [`Entry::mode`].
    pub mode: Option<u32>,
    /// See [`Entry::uid`].
    pub uid: Option<u32>,
    /// See [`Entry::gid`].
    pub gid: Option<u32>,
    /// See [`Entry::mtime`].
    pub mtime: Option<Timestamp>,
    /// See [`Entry::attributes`].
    pub attributes: Vec<Attribute>,
    /// See [`Entry::link_group`].
    pub link_group: u64,
    /// See [`Entry::read_error`].
    pub read_error: Option<String>,
}

impl NewEntry {
    /// An entry with nothing but a path and a kind.
    pub fn bare(path: impl Into<Vec<u8>>, kind: Kind) -> Self {
        Self {
            path: path.into(),
            kind,
            size: 0,
            mode: None,
            uid: None,
            gid: None,
            mtime: None,
            attributes: Vec::new(),
            link_group: 0,
            read_error: None,
        }
    }
}

impl Manifest {
    /// Appends an entry with its chunks.
    pub fn push(&mut self, entry: NewEntry, chunks: impl IntoIterator<Item = Chunk>) {
        let start = self.chunks.len();
        self.chunks.extend(chunks);
        self.entries.push(Entry {
            path: entry.path,
            kind: entry.kind,
            size: entry.size,
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            mtime: entry.mtime,
            attributes: entry.attributes,
            link_group: entry.link_group,
            read_error: entry.read_error,
            chunks: (start, self.chunks.len()),
        });
    }

    /// Appends everything of `other` below `folder`, which becomes an entry of its own.
    pub fn append_below(&mut self, folder: &str, other: &Self) {
        self.push(NewEntry::bare(folder, Kind::Directory), []);
        // The same number means another inode in another snapshot.
        let mut next = self.entries.iter().map(|e| e.link_group).max().unwrap_or(0);
        let mut groups = std::collections::HashMap::new();
        for entry in &other.entries {
            let link_group = match entry.link_group {
                0 => 0,
                group => *groups.entry(group).or_insert_with(|| {
                    next = next.saturating_add(1);
                    next
                }),
            };
            let new = NewEntry {
                path: [folder.as_bytes(), b"/", &entry.path].concat(),
                kind: entry.kind.clone(),
                size: entry.size,
                mode: entry.mode,
                uid: entry.uid,
                gid: entry.gid,
                mtime: entry.mtime,
                attributes: entry.attributes.clone(),
                link_group,
                read_error: entry.read_error.clone(),
            };
            self.push(new, other.chunks(entry).iter().copied());
        }
        self.incomplete |= other.incomplete;
    }

    /// Says that the snapshot holds more than could be read.
    pub fn mark_incomplete(&mut self) {
        self.incomplete = true;
    }

    /// Whether everything that the snapshot holds is here. Where it is not, that has been found already,
    /// and what is missing here says nothing about what was backed up.
    pub fn is_complete(&self) -> bool {
        !self.incomplete
    }

    /// All entries, parents before children.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The chunks of `entry`, in file order. Empty for anything but a file.
    pub fn chunks(&self, entry: &Entry) -> &[Chunk] {
        self.chunks.get(entry.chunks.0..entry.chunks.1).unwrap_or_default()
    }

    /// Regular files.
    pub fn files(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|e| e.is_file())
    }

    /// Sum of the sizes of all regular files, hard links counted once each.
    pub fn bytes(&self) -> u64 {
        // Sizes come from the snapshot, and a hostile one can claim anything.
        self.files().fold(0, |sum, e| sum.saturating_add(e.size))
    }

    /// Whether two files have the same stored content.
    pub fn same_content(&self, own: &Entry, other: &Self, theirs: &Entry) -> bool {
        own.size == theirs.size && self.chunks(own) == other.chunks(theirs)
    }
}

/// Whether an extended attribute is never set in scratch: a file capability gives a program of the
/// backup power over this machine.
pub fn is_withheld(attribute: &str) -> bool {
    attribute == "security.capability"
}
