//! The snapshot's flat list of entries as a tree that can be looked up directory by directory.

use std::collections::HashMap;

use firedrill_core::manifest::{Entry, Kind, Manifest};

/// No file system that we restore to takes longer names.
const NAME_MAX: usize = 255;

/// A directory, by the position of its entry; the root has none.
pub(super) type Directory = Option<usize>;

/// Which entries live in which directory.
pub(super) struct Index<'m> {
    entries: &'m [Entry],
    /// `(directory, entry)`, sorted by directory, then by name.
    children: Vec<(Directory, usize)>,
    /// Entries that cannot be part of any tree, with the reason.
    pub(super) defects: Vec<(usize, &'static str)>,
    /// Entries whose names are fine elsewhere and too long here.
    pub(super) too_long: Vec<usize>,
    /// Entries below defective ones.
    pub(super) lost: u64,
}

enum Place {
    Directory(usize),
    Other,
    Defective,
}

impl<'m> Index<'m> {
    pub(super) fn of(manifest: &'m Manifest) -> Self {
        let entries = manifest.entries();
        let mut index = Self {
            entries,
            children: Vec::with_capacity(entries.len()),
            defects: Vec::new(),
            too_long: Vec::new(),
            lost: 0,
        };
        let mut places: HashMap<&[u8], Place> = HashMap::with_capacity(entries.len());
        for (position, entry) in entries.iter().enumerate() {
            let place = index.place(position, entry, &places);
            // What was listed first stays; an impossible second entry must not take its children away.
            places.entry(&entry.path).or_insert(place);
        }
        index.children.sort_by(|a, b| {
            let name = |(_, entry): &(_, usize)| entries.get(*entry).map(Entry::name);
            a.0.cmp(&b.0).then_with(|| name(a).cmp(&name(b)))
        });
        index
    }

    fn place(&mut self, position: usize, entry: &'m Entry, places: &HashMap<&[u8], Place>) -> Place {
        if let Some(defect) = impossible_name(entry.name()) {
            self.defects.push((position, defect));
            return Place::Defective;
        }
        if places.contains_key(entry.path.as_slice()) {
            self.defects.push((position, "is listed twice"));
            return Place::Defective;
        }
        let parent = match entry.path.iter().rposition(|b| *b == b'/') {
            None => None,
            Some(end) => match entry.path.get(..end).and_then(|parent| places.get(parent)) {
                Some(Place::Directory(directory)) => Some(*directory),
                Some(Place::Other) => {
                    self.defects.push((position, "is listed below something that is no directory"));
                    return Place::Defective;
                }
                Some(Place::Defective) => {
                    self.lost += 1;
                    return Place::Defective;
                }
                None => {
                    self.defects.push((position, "is listed below a directory that is not"));
                    return Place::Defective;
                }
            },
        };
        if entry.name().len() > NAME_MAX {
            self.too_long.push(position);
            return Place::Defective;
        }
        self.children.push((parent, position));
        if entry.kind == Kind::Directory { Place::Directory(position) } else { Place::Other }
    }

    /// The entries in `directory`, sorted by name.
    pub(super) fn children(&self, directory: Directory) -> &[(Directory, usize)] {
        let start = self.children.partition_point(|(d, _)| *d < directory);
        let end = self.children.partition_point(|(d, _)| *d <= directory);
        self.children.get(start..end).unwrap_or_default()
    }

    /// The position within `children` of the entry called `name`.
    pub(super) fn find(&self, children: &[(Directory, usize)], name: &[u8]) -> Option<usize> {
        children
            .binary_search_by(|(_, entry)| self.entries.get(*entry).map(Entry::name).cmp(&Some(name)))
            .ok()
    }

    /// How many entries there are below `directory`, at any depth.
    pub(super) fn below(&self, directory: usize) -> u64 {
        let mut count = 0;
        let mut pending = vec![directory];
        while let Some(next) = pending.pop() {
            for (_, child) in self.children(Some(next)) {
                count += 1;
                if self.entries.get(*child).is_some_and(|e| e.kind == Kind::Directory) {
                    pending.push(*child);
                }
            }
        }
        count
    }
}

fn impossible_name(name: &[u8]) -> Option<&'static str> {
    match name {
        b"" => Some("has an empty name"),
        b"." | b".." => Some("has a name that means another place"),
        name if name.contains(&0) => Some("has a zero byte in its name"),
        _ => None,
    }
}
