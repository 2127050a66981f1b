//! What is backed up, and where it stands in the snapshot.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use firedrill_core::error::{Error, ErrorKind, Result};

use super::node::Node;

/// Opens a stream. Called once, in the order of the sources.
pub type Opener = Box<dyn FnOnce() -> io::Result<Box<dyn Read + Send>> + Send>;

/// One thing to back up.
pub enum Source {
    /// A file or folder.
    Path {
        /// Where it is.
        path: PathBuf,
        /// Where it stands in the snapshot, if elsewhere.
        as_path: Option<PathBuf>,
    },
    /// A file that is on no disk, such as the output of a dump. It has ended well when reading ends without an
    /// error: a reader that knows that its program failed says so at the end instead of ending.
    Stream {
        /// Where it stands in the snapshot.
        path: PathBuf,
        /// Opens it. A later source may depend on what an earlier one read.
        open: Opener,
    },
    /// A small file that is on no disk, and stands only where nothing else does.
    Spare {
        /// Where it stands in the snapshot.
        path: PathBuf,
        /// What is in it.
        content: Vec<u8>,
    },
}

impl Source {
    /// A file or folder.
    pub fn path(path: impl Into<PathBuf>) -> Self {
        Self::Path { path: path.into(), as_path: None }
    }

    /// A stream that stands at `path` in the snapshot.
    pub fn stream<R: Read + Send + 'static>(
        path: impl Into<PathBuf>,
        open: impl FnOnce() -> io::Result<R> + Send + 'static,
    ) -> Self {
        let open = move || open().map(|reader| Box::new(reader) as Box<dyn Read + Send>);
        Self::Stream { path: path.into(), open: Box::new(open) }
    }

    /// A small file that is made here.
    pub fn bytes(path: impl Into<PathBuf>, content: Vec<u8>) -> Self {
        Self::stream(path, move || Ok(io::Cursor::new(content)))
    }

    /// Where it stands in the snapshot.
    pub(super) fn place(&self) -> &Path {
        match self {
            Self::Path { path, as_path } => as_path.as_deref().unwrap_or(path),
            Self::Stream { path, .. } | Self::Spare { path, .. } => path,
        }
    }

    /// Whether it is on disk where it stands in the snapshot.
    pub(super) fn is_in_place(&self) -> bool {
        matches!(self, Self::Path { as_path: None, .. })
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path { path, as_path } => write!(f, "Path({path:?} as {as_path:?})"),
            Self::Stream { path, .. } => write!(f, "Stream({path:?})"),
            Self::Spare { path, .. } => write!(f, "Spare({path:?})"),
        }
    }
}

/// What stands at one place of the snapshot.
pub(super) enum Place {
    /// A folder that leads to sources; with the folder on disk that it is, if it is one.
    Folder(Folder),
    /// A file or folder on disk.
    Disk(PathBuf),
    /// A file or folder from elsewhere on disk, which somebody put there for this snapshot: patterns of what is left
    /// out are about the folders that they were written for, and not about this one.
    Copy(PathBuf),
    /// A stream, saved already.
    Made(Box<Node>),
    /// The same, which gives way to anything else.
    Spare(Box<Node>),
}

/// What stands in folders on disk besides what is in them, or instead of it: by folder, then by name.
#[derive(Default)]
pub(super) struct Beside(pub(super) BTreeMap<PathBuf, BTreeMap<Vec<u8>, Place>>);

impl Beside {
    /// Puts `place` at `path`, whose folder is one on disk.
    pub(super) fn put(&mut self, path: &Path, place: Place) -> Result<()> {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(taken(path));
        };
        let folder = self.0.entry(folder.to_owned()).or_default();
        match (folder.get(name.as_bytes()), &place) {
            (Some(Place::Spare(_)) | None, _) => drop(folder.insert(name.as_bytes().to_vec(), place)),
            (Some(_), Place::Spare(_)) => {}
            (Some(_), _) => return Err(taken(path)),
        }
        Ok(())
    }
}

fn taken(path: &Path) -> Error {
    Error::new(ErrorKind::Usage, format!("back up {}", path.display()))
        .because("another source stands at the same place in the snapshot")
}

/// Places by name, in the order of trees.
#[derive(Default)]
pub(super) struct Folder {
    pub(super) on_disk: Option<PathBuf>,
    pub(super) children: BTreeMap<Vec<u8>, Place>,
}

/// An absolute path without `.` and `..`, part by part.
pub(super) fn parts(path: &Path) -> Result<Vec<Vec<u8>>> {
    let failed = |why: &str| {
        Error::new(ErrorKind::Usage, format!("back up {}", path.display())).because(why.to_owned())
    };
    if !path.is_absolute() {
        return Err(failed("the path is not absolute"));
    }
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => parts.push(name.as_bytes().to_vec()),
            Component::ParentDir => return Err(failed("the path has `..` in it")),
            _ => {}
        }
    }
    Ok(parts)
}

impl Folder {
    /// Puts `place` at `path`. What lies in a folder that is saved anyway is not saved twice; what is made for such a
    /// folder is kept in `beside`.
    pub(super) fn put(&mut self, path: &Path, place: Place, beside: &mut Beside) -> Result<()> {
        let parts = parts(path)?;
        let on_disk = matches!(place, Place::Disk(_));
        let Some((name, above)) = parts.split_last() else {
            return Err(taken(path));
        };
        let mut folder = self;
        let mut here = PathBuf::from("/");
        for part in above {
            here.push(std::ffi::OsStr::from_bytes(part));
            let child = folder.children.entry(part.clone()).or_insert_with(|| Place::Folder(Self::default()));
            match child {
                Place::Folder(inner) => {
                    if on_disk && inner.on_disk.is_none() {
                        inner.on_disk = Some(here.clone());
                    }
                    folder = inner;
                }
                Place::Disk(root) if *root == here => {
                    return if on_disk { Ok(()) } else { beside.put(path, place) };
                }
                Place::Disk(_) | Place::Copy(_) | Place::Made(_) | Place::Spare(_) => {
                    return Err(taken(path));
                }
            }
        }
        match (folder.children.get(name), &place) {
            (None | Some(Place::Spare(_)), _) => {}
            (Some(_), Place::Spare(_)) => return Ok(()),
            (Some(Place::Disk(a)), Place::Disk(b)) if a == b => return Ok(()),
            (Some(Place::Folder(inner)), Place::Disk(root)) if inner.is_part_of(root) => {}
            _ => return Err(taken(path)),
        }
        folder.children.insert(name.clone(), place);
        Ok(())
    }

    /// Whether everything in here is in `root` on disk, too.
    fn is_part_of(&self, root: &Path) -> bool {
        self.children.values().all(|place| match place {
            Place::Folder(inner) => inner.is_part_of(root),
            Place::Disk(path) => path.starts_with(root),
            Place::Copy(_) | Place::Made(_) | Place::Spare(_) => false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Beside, Folder, Place, parts};
    use std::path::{Path, PathBuf};

    fn put(folder: &mut Folder, path: &str) -> bool {
        folder.put(Path::new(path), Place::Disk(PathBuf::from(path)), &mut Beside::default()).is_ok()
    }

    #[test]
    fn sources_inside_of_others_are_saved_once() {
        let mut folder = Folder::default();
        for path in ["/srv/a/b", "/srv/a", "/srv/a/c", "/srv/a"] {
            assert!(put(&mut folder, path), "{path}");
        }
        let Some(Place::Folder(srv)) = folder.children.get(&b"srv"[..]) else { panic!("no folder") };
        assert_eq!(srv.on_disk.as_deref(), Some(Path::new("/srv")));
        assert!(matches!(srv.children.get(&b"a"[..]), Some(Place::Disk(_))));
    }

    #[test]
    fn two_things_at_one_place_are_refused() {
        let mut folder = Folder::default();
        assert!(put(&mut folder, "/srv/a"));
        let mut other = |path: &str, beside: &mut Beside| {
            folder.put(Path::new(path), Place::Copy(PathBuf::from("/other")), beside).is_ok()
        };
        let mut beside = Beside::default();
        assert!(!other("/srv/a", &mut beside) && !other("/srv", &mut beside));
        // What is made for a folder on disk stands in it, once.
        assert!(other("/srv/a/b/x", &mut beside) && !other("/srv/a/b/x", &mut beside));
        assert_eq!(beside.0.keys().collect::<Vec<_>>(), [Path::new("/srv/a/b")]);
        assert!(other("/made/x", &mut beside) && !other("/made/x/y", &mut beside));
    }

    #[test]
    fn paths_are_plain() {
        assert!(parts(Path::new("a/b")).is_err() && parts(Path::new("/a/../b")).is_err());
        assert_eq!(parts(Path::new("//a/./b/")).unwrap(), [b"a".to_vec(), b"b".to_vec()]);
    }
}
