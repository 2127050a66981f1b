//! The operators. Each plans its changes from the survey and touches nothing itself.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _};

use super::survey::{Blob, Line, Pack, file_path};
use super::{Case, NotApplicable, Operator, Strike, guard};

/// All operators. The order means nothing.
pub fn catalogue() -> Vec<Operator> {
    let operator = |name, what, plan| Operator { name, what, plan };
    vec![
        operator("data-bit", "one bit flipped in a data blob", data_bit),
        operator("tree-bit", "one bit flipped in a tree blob", tree_bit),
        operator("header-bit", "one bit flipped in the header of a pack", header_bit),
        operator("pack-truncated", "a pack cut short", pack_truncated),
        operator("pack-deleted", "a data pack lost", pack_deleted),
        operator("tree-pack-deleted", "a tree pack lost", tree_pack_deleted),
        operator("pack-zeroed", "a pack of the same size, all zero", pack_zeroed),
        operator("pack-overwritten", "a pack of the same size, all noise", pack_overwritten),
        operator("sector-zeroed", "4 KiB of a pack zeroed", sector_zeroed),
        operator("packs-swapped", "two packs of the same layout exchanged", packs_swapped),
        operator("blobs-swapped", "two blobs of the same length exchanged", blobs_swapped),
        operator("snapshot-replaced", "a snapshot file replaced by that of another tag", snapshot_replaced),
        operator("snapshot-outdated", "a snapshot file replaced by an older one", snapshot_outdated),
        operator("snapshot-deleted", "the newest snapshot of a tag lost", snapshot_deleted),
        operator("snapshot-bit", "one bit flipped in a snapshot file", snapshot_bit),
        operator("snapshot-empty", "a snapshot file of length zero", snapshot_empty),
        operator("index-replaced", "an index file replaced by another valid one", index_replaced),
        operator("index-deleted", "an index file lost", index_deleted),
        operator("index-bit", "one bit flipped in an index file", index_bit),
        operator("key-bit", "one bit flipped in the key file", key_bit),
        operator("keys-deleted", "all key files lost", keys_deleted),
        operator("config-bit", "one bit flipped in the config", config_bit),
        operator("garbage", "noise under the name of a pack that nobody needs", garbage),
    ]
}

fn data_bit(case: &Case<'_>, rng: &mut StdRng) -> Result<Strike> {
    blob_bit(case, rng, false)
}

fn tree_bit(case: &Case<'_>, rng: &mut StdRng) -> Result<Strike> {
    blob_bit(case, rng, true)
}

fn blob_bit(case: &Case<'_>, rng: &mut StdRng, trees: bool) -> Result<Strike> {
    let (pack, blob) = case.own_blob(rng, trees)?;
    let mut content = case.read(&pack.path)?;
    flip(&mut content, blob.offset..blob.offset + blob.length, rng)?;
    Ok(case.replace(&pack.path, content, [blob]))
}

fn header_bit(case: &Case<'_>, rng: &mut StdRng) -> Result<Strike> {
    let (pack, _) = case.own_blob(rng, false)?;
    let mut content = case.read(&pack.path)?;
    // The last four bytes are the length of the header.
    let end = (content.len() as u64).saturating_sub(4);
    flip(&mut content, pack.header()..end, rng)?;
    Ok(case.replace(&pack.path, content, []))
}

fn pack_truncated(case: &Case<'_>, rng: &mut StdRng) -> Result<Strike> {
    let (pack, blob) = case.own_blob(rng, false)?;
    let mut content = case.read(&pack.path)?;
    let length = rng.random_range(0..blob.offset + blob.length);
    content.truncate(usize::try_from(length)?);
    let lost = pack.blobs.iter().filter(|blob| blob.offset + blob.length > length);
    Ok(case.replace(&pack.path, content, lost))
}

fn pack_deleted(case: &Case<'_>, rng: &mut StdRng) -> Result<Strike> {
    let (pack, _) = case.own_blob(rng, false)?;
    Ok(case.change(&pack.path, None, &pack.blobs))
}

fn tree_pack_deleted(case: &Case<'_>, rng: &mut StdRng) -> Result<Strike> {
    let (pack, _) = case.own_blob(rng, true)?;
    Ok(case.change(&pack.path, None, &pack.blobs))
}

fn pack_zeroed(case: &Case<'_>, rng: &mut StdRng) -> Result<Strike> {
    let (pack, _) = case.own_blob(rng, false)?;
    let zeros = vec![0; case.read(&pack.path)?.len()];
    Ok(case.replace(&pack.path, zeros, &pack.blobs))
}

fn pack_overwritten(case: &Case<'_>, rng: &mut StdRng) -> Result<Strike> {
    let (pack, _) = case.own_blob(rng, false)?;
    let mut noise = vec![0; case.read(&pack.path)?.len()];
    rng.fill_bytes(&mut noise);
    Ok(case.replace(&pack.path, noise, &pack.blobs))
}

fn sector_zeroed(case: &Case<'_>, rng: &mut StdRng) -> Result<Strike> {
    const SECTOR: u64 = 4096;
    let (pack, blob) = case.own_blob(rng, false)?;
    let mut content = case.read(&pack.path)?;
    let start = rng.random_range(blob.offset..blob.offset + blob.length) / SECTOR * SECTOR;
    let end = (start + SECTOR).min(content.len() as u64);
    slice(&mut content, start, end)?.fill(0);
    let lost = pack.blobs.iter().filter(|blob| blob.offset < end && start < blob.offset + blob.length);
    Ok(case.replace(&pack.path, content, lost))
}

fn packs_swapped(case: &Case<'_>, rng: &mut StdRng) -> Result<Strike> {
    let own: BTreeSet<&Path> =
        case.survey.own_blobs(case.tag, false).iter().map(|(pack, _)| pack.path.as_path()).collect();
    let mut pairs = Vec::new();
    for one in case.survey.packs.iter().filter(|pack| own.contains(pack.path.as_path())) {
        let twins = case.survey.packs.iter().filter(|two| two.path != one.path && one.same_layout(two));
        pairs.extend(twins.map(|two| (one, two)));
    }
    let (one, two) = *choose(&pairs, rng, "no pack of this tag has the layout of another one")?;
    let (left, right) = (case.read(&one.path)?, case.read(&two.path)?);
    let hits = case.survey.needing(one.blobs.iter().chain(&two.blobs));
    Ok(Strike { changes: vec![(one.path.clone(), Some(right)), (two.path.clone(), Some(left))], hits })
}

fn blobs_swapped(case: &Case<'_>, rng: &mut StdRng) -> Result<Strike> {
    let mut pairs = Vec::new();
    for (one, left) in case.survey.own_blobs(case.tag, false) {
        for two in case.survey.packs.iter().filter(|pack| !pack.trees) {
            let same = |right: &&Blob| right.length == left.length && right.id != left.id;
            pairs.extend(two.blobs.iter().filter(same).map(|right| (one, left, two, right)));
        }
    }
    let (one, left, two, right) = *choose(&pairs, rng, "no data blob of this tag is as long as another one")?;
    let (mut first, mut second) = (case.read(&one.path)?, case.read(&two.path)?);
    let theirs = slice(&mut second, right.offset, right.offset + right.length)?.to_vec();
    let ours = slice(&mut first, left.offset, left.offset + left.length)?.to_vec();
    let hits = case.survey.needing([left, right]);
    slice(&mut first, left.offset, left.offset + left.length)?.copy_from_slice(&theirs);
    if one.path == two.path {
        slice(&mut first, right.offset, right.offset + right.length)?.copy_from_slice(&ours);
        return Ok(Strike { changes: vec![(one.path.clone(), Some(first))], hits });
    }
    slice(&mut second, right.offset, right.offset + right.length)?.copy_from_slice(&ours);
    Ok(Strike { changes: vec![(one.path.clone(), Some(first)), (two.path.clone(), Some(second))], hits })
}

fn snapshot_replaced(case: &Case<'_>, rng: &mut StdRng) -> Result<Strike> {
    let others: Vec<_> = case.survey.lines.iter().filter(|(tag, _)| *tag != case.tag).collect();
    let (_, other) = choose(&others, rng, "there is no other tag")?;
    let content = case.read(&other.newest)?;
    case.snapshot(Some(content))
}

fn snapshot_outdated(case: &Case<'_>, _: &mut StdRng) -> Result<Strike> {
    let earlier = case.line()?.earlier.as_ref();
    let earlier = earlier.ok_or_else(|| NotApplicable("this tag has one snapshot only".to_owned()))?;
    let content = case.read(earlier)?;
    case.snapshot(Some(content))
}

fn snapshot_deleted(case: &Case<'_>, _: &mut StdRng) -> Result<Strike> {
    case.snapshot(None)
}

fn snapshot_bit(case: &Case<'_>, rng: &mut StdRng) -> Result<Strike> {
    let mut content = case.read(&case.line()?.newest)?;
    flip_anywhere(&mut content, rng)?;
    case.snapshot(Some(content))
}

fn snapshot_empty(case: &Case<'_>, _: &mut StdRng) -> Result<Strike> {
    case.snapshot(Some(Vec::new()))
}

fn index_replaced(case: &Case<'_>, rng: &mut StdRng) -> Result<Strike> {
    let (path, hits) = case.own_index(rng)?;
    let all: BTreeSet<_> =
        case.survey.packs.iter().flat_map(|pack| &pack.indexes).map(|id| file_path("index", id)).collect();
    let others: Vec<_> = all.into_iter().filter(|other| *other != path).collect();
    let content = case.read(choose(&others, rng, "there is one index file only")?)?;
    Ok(Strike { changes: vec![(path, Some(content))], hits })
}

fn index_deleted(case: &Case<'_>, rng: &mut StdRng) -> Result<Strike> {
    let (path, hits) = case.own_index(rng)?;
    Ok(Strike { changes: vec![(path, None)], hits })
}

fn index_bit(case: &Case<'_>, rng: &mut StdRng) -> Result<Strike> {
    let (path, hits) = case.own_index(rng)?;
    let mut content = case.read(&path)?;
    flip_anywhere(&mut content, rng)?;
    Ok(Strike { changes: vec![(path, Some(content))], hits })
}

/// In the part of the key file that holds the encrypted key: a bit in the time of creation would be
/// damage without effect. All keys are damaged, so that none opens the repository.
fn key_bit(case: &Case<'_>, rng: &mut StdRng) -> Result<Strike> {
    const FIELD: &[u8] = b"\"data\":\"";
    let mut changes = Vec::new();
    for path in case.keys()? {
        let mut content = case.read(&path)?;
        let field = content.windows(FIELD.len()).position(|window| window == FIELD);
        let start = field.context("the key file has no data")? + FIELD.len();
        let tail = content.get(start..).unwrap_or_default();
        let length = tail.iter().position(|byte| *byte == b'"').context("the key file is cut")?;
        // The last characters of base64 hold bits that mean nothing.
        let end = (start + length).saturating_sub(4);
        flip(&mut content, start as u64..end as u64, rng)?;
        changes.push((path, Some(content)));
    }
    Ok(Strike { changes, hits: case.everything() })
}

fn keys_deleted(case: &Case<'_>, _: &mut StdRng) -> Result<Strike> {
    let changes = case.keys()?.into_iter().map(|path| (path, None)).collect();
    Ok(Strike { changes, hits: case.everything() })
}

fn config_bit(case: &Case<'_>, rng: &mut StdRng) -> Result<Strike> {
    let path = PathBuf::from("config");
    let mut content = case.read(&path)?;
    flip_anywhere(&mut content, rng)?;
    Ok(Strike { changes: vec![(path, Some(content))], hits: case.everything() })
}

fn garbage(_: &Case<'_>, rng: &mut StdRng) -> Result<Strike> {
    let mut name = [0; 32];
    rng.fill_bytes(&mut name);
    let mut noise = vec![0; rng.random_range(1..20_000)];
    rng.fill_bytes(&mut noise);
    let name = hex::encode(name);
    let path = Path::new("data").join(name.get(..2).unwrap_or_default()).join(&name);
    Ok(Strike { changes: vec![(path, Some(noise))], hits: BTreeSet::new() })
}

impl<'a> Case<'a> {
    fn read(&self, path: &Path) -> Result<Vec<u8>> {
        guard::get(&self.root.join(path))?.with_context(|| format!("{} is missing already", path.display()))
    }

    fn line(&self) -> Result<&'a Line> {
        self.survey.lines.get(self.tag).with_context(|| format!("no snapshot is tagged {}", self.tag))
    }

    fn everything(&self) -> BTreeSet<String> {
        self.survey.lines.keys().cloned().collect()
    }

    fn own_blob(&self, rng: &mut StdRng, trees: bool) -> Result<(&'a Pack, &'a Blob)> {
        let blobs = self.survey.own_blobs(self.tag, trees);
        choose(&blobs, rng, "this tag has no blob of its own").copied()
    }

    /// An index file without which blobs of this tag cannot be found, and the tags that suffer.
    fn own_index(&self, rng: &mut StdRng) -> Result<(PathBuf, BTreeSet<String>)> {
        let own = self.survey.own_blobs(self.tag, false);
        let listed_once: Vec<_> = own.iter().filter(|(pack, _)| pack.indexes.len() == 1).collect();
        let (pack, _) = choose(&listed_once, rng, "all packs of this tag are in several index files")?;
        let only = |other: &&Pack| other.indexes == pack.indexes;
        let hits = self.survey.needing(self.survey.packs.iter().filter(only).flat_map(|pack| &pack.blobs));
        let index = pack.indexes.first().context("a pack is in an index")?;
        Ok((file_path("index", index), hits))
    }

    fn keys(&self) -> Result<Vec<PathBuf>> {
        let mut keys = Vec::new();
        for entry in std::fs::read_dir(self.root.join("keys")).context("list the keys")? {
            keys.push(Path::new("keys").join(entry?.file_name()));
        }
        keys.sort();
        Ok(keys)
    }

    fn snapshot(&self, content: Option<Vec<u8>>) -> Result<Strike> {
        let changes = vec![(self.line()?.newest.clone(), content)];
        Ok(Strike { changes, hits: BTreeSet::from([self.tag.to_owned()]) })
    }

    fn replace<'b>(&self, path: &Path, content: Vec<u8>, lost: impl IntoIterator<Item = &'b Blob>) -> Strike {
        self.change(path, Some(content), lost)
    }

    fn change<'b>(
        &self,
        path: &Path,
        content: Option<Vec<u8>>,
        lost: impl IntoIterator<Item = &'b Blob>,
    ) -> Strike {
        Strike { changes: vec![(path.to_owned(), content)], hits: self.survey.needing(lost) }
    }
}

fn choose<'s, T>(from: &'s [T], rng: &mut StdRng, otherwise: &str) -> Result<&'s T> {
    let number = if from.is_empty() { 0 } else { rng.random_range(0..from.len()) };
    from.get(number).ok_or_else(|| NotApplicable(otherwise.to_owned()).into())
}

fn flip_anywhere(content: &mut [u8], rng: &mut StdRng) -> Result<()> {
    let end = content.len() as u64;
    flip(content, 0..end, rng)
}

fn flip(content: &mut [u8], range: std::ops::Range<u64>, rng: &mut StdRng) -> Result<()> {
    anyhow::ensure!(!range.is_empty(), "there is nothing to flip a bit in");
    let at = usize::try_from(rng.random_range(range))?;
    let byte = content.get_mut(at).context("a file is shorter than the index says")?;
    *byte ^= 1 << rng.random_range(0..8);
    Ok(())
}

fn slice(content: &mut [u8], start: u64, end: u64) -> Result<&mut [u8]> {
    let range = usize::try_from(start)?..usize::try_from(end)?;
    content.get_mut(range).context("a file is shorter than the index says")
}
