//! Damage that no accident does: files that are encrypted and named as they should be, and lie; files that
//! do not belong; and what is left when a file that nobody drills is lost.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use firedrill_core::verdict::Verdict;
use firedrill_scenarios::damage;
use serde_json::{Value, json};

use crate::anatomy::Anatomy;
use crate::fixture::{Fixture, PASSWORD};
use crate::place::{self, Answer, Place};
use crate::restic::Restic;
use crate::vault::Vault;

/// The file whose blob the index lies about; no other file has the same content.
const FILE: &str = "backup/alpha/noise/old-1.bin";
/// A neighbour of the same length, in the same pack.
const NEIGHBOUR: &str = "backup/alpha/noise/old-2.bin";

/// One lie in the index about one blob.
#[derive(Clone, Copy)]
struct Lie {
    name: &'static str,
    /// Gets the entry of the blob and that of its neighbour.
    tell: fn(&mut Value, &Value),
    /// What is found out about the copy, besides.
    copy: &'static [&'static str],
}

impl std::fmt::Debug for Lie {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

const SIZE: &[&str] = &["repository.pack_size"];

const LIES: &[Lie] = &[
    Lie { name: "offset too large", tell: |blob, _| add(blob, "offset", 1), copy: &[] },
    Lie { name: "offset too small", tell: |blob, _| add(blob, "offset", -1), copy: &[] },
    Lie { name: "offset out of the pack", tell: |blob, _| blob["offset"] = json!(u32::MAX), copy: &[] },
    Lie { name: "length too large", tell: |blob, _| add(blob, "length", 1), copy: SIZE },
    Lie { name: "length too small", tell: |blob, _| add(blob, "length", -1), copy: SIZE },
    Lie { name: "length 0", tell: |blob, _| blob["length"] = json!(0), copy: SIZE },
    Lie { name: "length 31", tell: |blob, _| blob["length"] = json!(31), copy: SIZE },
    Lie { name: "length of everything", tell: |blob, _| blob["length"] = json!(u32::MAX), copy: SIZE },
    Lie { name: "unpacks to more", tell: |blob, _| add(blob, "uncompressed_length", 1), copy: &[] },
    Lie { name: "unpacks to less", tell: |blob, _| add(blob, "uncompressed_length", -1), copy: &[] },
    Lie {
        name: "unpacks to everything",
        tell: |blob, _| blob["uncompressed_length"] = json!(u32::MAX),
        copy: &[],
    },
    Lie { name: "is not packed", tell: |blob, _| remove(blob, "uncompressed_length"), copy: SIZE },
    Lie { name: "is a tree", tell: |blob, _| blob["type"] = json!("tree"), copy: &[] },
    Lie { name: "overlaps", tell: |blob, other| blob["offset"] = other["offset"].clone(), copy: &[] },
    Lie {
        name: "overlaps in part",
        tell: |blob, other| blob["offset"] = json!(other["offset"].as_u64().unwrap() + 100),
        copy: &[],
    },
    Lie { name: "is another", tell: |blob, _| blob["id"] = json!("00".repeat(32)), copy: &[] },
];

fn add(blob: &mut Value, field: &str, more: i64) {
    let number = blob[field].as_i64().unwrap_or_else(|| panic!("no {field} in {blob}"));
    blob[field] = json!(number + more);
}

fn remove(blob: &mut Value, field: &str) {
    let removed = blob.as_object_mut().unwrap().remove(field);
    assert!(removed.is_some(), "no {field} in {blob}");
}

/// The packs of all index files, to be changed.
fn packs(index: &mut Value) -> impl Iterator<Item = &mut Value> {
    index["packs"].as_array_mut().into_iter().flatten()
}

fn entries(pack: &mut Value) -> impl Iterator<Item = &mut Value> {
    pack["blobs"].as_array_mut().into_iter().flatten()
}

/// Tells the lie in the index file that knows the blob; with `keep` in a copy of it, beside it.
fn lie(vault: &Vault, anatomy: &Anatomy, tell: fn(&mut Value, &Value), keep: bool) -> Result<()> {
    let blob = anatomy.blobs("alpha", FILE)?.remove(0);
    let neighbour = anatomy.blobs("alpha", NEIGHBOUR)?.remove(0);
    for (path, mut index) in vault.indexes()? {
        let other =
            packs(&mut index).flat_map(entries).find(|entry| entry["id"] == neighbour.as_str()).cloned();
        let Some(other) = other else { continue };
        let entry = packs(&mut index).flat_map(entries).find(|entry| entry["id"] == blob.as_str());
        let entry = entry.context("both are in one index")?;
        tell(entry, &other);
        if !keep {
            fs::remove_file(path)?;
        }
        return vault.put_sealed("index", &index).map(drop);
    }
    bail!("no index knows the blob")
}

#[test]
fn an_index_that_lies() {
    let fixture = Fixture::shared().unwrap();
    let anatomy = Anatomy::of(&fixture.rustic()).unwrap();
    place::all(LIES, |told| {
        let place = Place::with(&fixture.rustic())?;
        lie(&Vault::open(&place.repository(), PASSWORD)?, &anatomy, told.tell, false)?;
        let answer = place.drill()?.within(Duration::from_secs(20)).ends()?.expect(1)?;
        codes_of_copy(&answer, told.copy)?;
        answer.verified("beta")?;
        answer.verified("twins")?;
        let drill = answer.drill("alpha")?;
        ensure!(drill.verdict == Verdict::Failed, "alpha: {}", answer.told());
        let first = drill.findings.first().context("something is found")?;
        ensure!(
            (first.code.as_str(), first.location.as_str()) == ("restore.content", FILE),
            "{}",
            answer.told()
        );
        // Whatever else is said is about the same file; the restored one has a wrong content or length.
        ensure!(drill.findings.iter().all(|f| f.location == FILE), "{}", answer.told());
        ensure!(drill.files == 10, "{} files came back", drill.files);
        Ok(())
    });
}

/// The honest index is there, too: everything can be had, and the contradiction is told.
#[test]
fn an_index_that_lies_beside_one_that_does_not() {
    let fixture = Fixture::shared().unwrap();
    let anatomy = Anatomy::of(&fixture.rustic()).unwrap();
    place::all(LIES, |told| {
        let place = Place::with(&fixture.rustic())?;
        lie(&Vault::open(&place.repository(), PASSWORD)?, &anatomy, told.tell, true)?;
        let answer = place.drill()?.within(Duration::from_secs(20)).ends()?;
        answer.verified("beta")?;
        answer.verified("twins")?;
        // What is said to be another blob contradicts nothing, and harms nobody.
        if told.name == "is another" {
            answer.expect(0)?.verified("alpha")?;
            return Ok(());
        }
        let answer = answer.expect(1)?;
        let codes: Vec<_> = answer.copy()?.findings.iter().map(|f| f.code.as_str()).collect();
        ensure!(codes.contains(&"repository.index"), "{}", answer.told());
        // A length that is wrong moves what comes after it; everything else is found at the other place.
        if told.name.starts_with("unpacks") || told.name == "is not packed" || told.name.starts_with("length")
        {
            return Ok(());
        }
        answer.verified("alpha").map(drop)
    });
}

#[test]
fn packs_that_are_not_there() {
    let fixture = Fixture::shared().unwrap();
    let anatomy = Anatomy::of(&fixture.rustic()).unwrap();
    let blob = anatomy.blobs("alpha", FILE).unwrap().remove(0);
    let nowhere = "ab".repeat(32);
    for keep in [false, true] {
        let place = Place::with(&fixture.rustic()).unwrap();
        let vault = Vault::open(&place.repository(), PASSWORD).unwrap();
        for (path, mut index) in vault.indexes().unwrap() {
            let knows = |pack: &mut Value| entries(pack).any(|entry| entry["id"] == blob.as_str());
            let Some(pack) = packs(&mut index).find_map(|pack| knows(pack).then_some(pack)) else { continue };
            pack["id"] = json!(nowhere);
            if !keep {
                fs::remove_file(path).unwrap();
            }
            vault.put_sealed("index", &index).unwrap();
        }
        let answer = place.drill().unwrap().ends().unwrap().expect(1).unwrap();
        codes_of_copy(&answer, &["repository.pack_missing"]).unwrap();
        assert_eq!(answer.copy().unwrap().findings[0].location, format!("data/{nowhere}"));
        answer.verified("beta").unwrap();
        if keep {
            // The real pack has it all.
            answer.verified("alpha").unwrap();
        } else {
            let lost: Vec<_> = answer.drill("alpha").unwrap().findings.iter().map(|f| &f.location).collect();
            assert!(lost.iter().any(|path| *path == FILE), "{}", answer.told());
        }
    }
}

fn codes_of_copy(answer: &Answer, codes: &[&str]) -> Result<()> {
    let seen: Vec<_> = answer.copy()?.findings.iter().map(|f| f.code.as_str()).collect();
    ensure!(seen == codes, "about the copy: {seen:?} and not {codes:?}: {}", answer.told());
    Ok(())
}

/// Files that do not belong: where, what, the code that it must be found by (none: it does no harm).
const STRAYS: &[(&str, &[u8], &str)] = &[
    ("data/README", b"hello", ""),
    ("data/ab/notes.txt", b"hello", ""),
    ("data/00/.tmp-1234", b"half a pack", ""),
    ("data/zz/x", b"", ""),
    ("snapshots/.tmp", b"", ""),
    ("snapshots/README", b"hello", ""),
    ("index/lost+found/x", b"", ""),
    ("locks/x", b"", ""),
    ("locks/<id>", b"no lock at all", ""),
    ("data/ab/<id>", b"garbage in a folder of packs", ""),
    ("snapshots/<id>", b"garbage among snapshots", "repository.snapshot"),
    ("index/<id>", b"garbage among indexes", "repository.index"),
    ("keys/<id>", b"garbage among keys", "repository.key"),
    ("snapshots/<id>", b"", "repository.snapshot"),
    ("index/<id>", b"", "repository.index"),
];

#[test]
fn files_that_do_not_belong() {
    let fixture = Fixture::shared().unwrap();
    place::all(STRAYS, |(name, content, code)| {
        let place = Place::with(&fixture.rustic())?;
        let id = "ab".repeat(32);
        let path = place.repository().join(name.replace("<id>", &id));
        fs::create_dir_all(path.parent().context("a folder")?)?;
        fs::write(&path, content)?;
        let answer = place.drill()?.ends()?.expect(i32::from(!code.is_empty()))?;
        answer.all_verified()?;
        for finding in &answer.copy()?.findings {
            ensure!(finding.code == code && finding.location.ends_with(&id), "{}", answer.told());
        }
        // It is no harm to restic either; but it refuses to look at what it cannot read.
        if let Some(restic) = Restic::recent().filter(|_| code.is_empty()) {
            ensure!(restic.restores(&place.repository(), "alpha", &place.path("by-restic"))?, "restic fails");
        }
        Ok(())
    });
}

#[test]
fn pipes_and_folders_in_place_of_files() {
    let fixture = Fixture::shared().unwrap();
    let anatomy = Anatomy::of(&fixture.rustic()).unwrap();
    let snapshot = Path::new("snapshots").join(anatomy.snapshot("alpha", 0).unwrap());
    let [pack, index] = anatomy.needed("alpha", FILE).unwrap();
    let keys = crate::vault::files(&fixture.rustic().join("keys")).unwrap();
    let key = keys[0].strip_prefix(fixture.rustic()).unwrap();
    let cases: Vec<_> = [snapshot.as_path(), key, &index, &pack, Path::new("config")]
        .into_iter()
        .flat_map(|path| [(path, "pipe"), (path, "folder"), (path, "dangling link")])
        .collect();
    place::all(&cases, |(path, kind)| {
        let place = Place::with(&fixture.rustic())?;
        let path = place.repository().join(path);
        fs::remove_file(&path)?;
        match kind {
            "pipe" => rustix::fs::mknodat(
                rustix::fs::CWD,
                &path,
                rustix::fs::FileType::Fifo,
                rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
                0,
            )?,
            "folder" => fs::create_dir(&path)?,
            _ => std::os::unix::fs::symlink("nowhere", &path)?,
        }
        // What a missing snapshot means is told elsewhere; here nothing may hang or break.
        let snapshot = path.starts_with(place.repository().join("snapshots"));
        let answer = place.drill()?.within(Duration::from_secs(10)).ends()?;
        ensure!(answer.code == i32::from(!snapshot), "exit code {}: {}", answer.code, answer.told());
        Ok(())
    });
}

#[test]
fn configs_that_lie_or_are_lost() {
    let fixture = Fixture::shared().unwrap();
    let config = |content: &[u8]| {
        let place = Place::with(&fixture.rustic()).unwrap();
        let vault = Vault::open(&place.repository(), PASSWORD).unwrap();
        fs::remove_file(place.repository().join("config")).unwrap();
        fs::write(place.repository().join("config"), vault.seal(content).unwrap()).unwrap();
        place.drill().unwrap().ends().unwrap()
    };
    for version in [0, 3, u32::MAX] {
        let text = json!({"version": version, "id": "ab".repeat(32), "chunker_polynomial": "25b468838dcb75"});
        let answer = config(text.to_string().as_bytes()).expect(2).unwrap();
        let answer = answer.says(&[&format!("format version {version}"), "reads 1 and 2"]).unwrap();
        assert!(answer.copy().unwrap().findings.is_empty(), "{}", answer.told());
    }
    for text in ["{}", "", "[]", "not json"] {
        let answer = config(text.as_bytes()).expect(1).unwrap();
        codes_of_copy(&answer, &["repository.config"]).unwrap();
        assert!(answer.judgement().unwrap().drills.is_empty());
    }

    let place = Place::with(&fixture.rustic()).unwrap();
    fs::remove_file(place.repository().join("config")).unwrap();
    let answer = place.drill().unwrap().ends().unwrap().expect(1).unwrap();
    codes_of_copy(&answer, &["repository.config"]).unwrap();
    // No tool opens it as it is; but nothing else is lost.
    answer.all_verified().unwrap();
}

#[test]
fn snapshots_that_lie() {
    let fixture = Fixture::shared().unwrap();
    let now = fixture.made().unwrap().to_string();
    let with = |value: Value| {
        let place = Place::with(&fixture.rustic()).unwrap();
        let vault = Vault::open(&place.repository(), PASSWORD).unwrap();
        let path = vault.put_sealed("snapshots", &value).unwrap();
        let id = path.file_name().unwrap().to_str().unwrap().to_owned();
        (place.drill().unwrap().ends().unwrap().expect(1).unwrap(), id)
    };
    let snapshot = |time: &str, tree: &str, tag: &str| json!({"time": time, "tree": tree, "paths": ["/backup"], "hostname": "alpha", "tags": [tag]});

    let (answer, id) = with(snapshot(&now, &"ab".repeat(32), "alpha"));
    let drill = answer.drill("alpha").unwrap();
    assert_eq!(drill.snapshot.as_ref().unwrap().0, id);
    assert_eq!((drill.findings[0].code.as_str(), drill.findings[0].location.as_str()), ("restore.tree", "/"));
    answer.verified("beta").unwrap();

    // It would shadow the real latest.
    let (answer, id) = with(snapshot("2999-01-01T00:00:00Z", &"ab".repeat(32), "alpha"));
    let drill = answer.drill("alpha").unwrap();
    assert_ne!(drill.snapshot.as_ref().unwrap().0, id);
    assert_eq!(drill.findings[0].code, "freshness.future_snapshot");
    assert_eq!(drill.findings[0].location, id);
    answer.verified("beta").unwrap();

    for broken in
        [json!({}), json!([]), json!({"time": now}), snapshot("yesterday", &"ab".repeat(32), "alpha")]
    {
        let (answer, id) = with(broken);
        codes_of_copy(&answer, &["repository.snapshot"]).unwrap();
        assert_eq!(answer.copy().unwrap().findings[0].location, format!("snapshots/{id}"));
        answer.all_verified().unwrap();
    }

    for hostile in ["\u{1b}[2J\u{1b}[31mred", "<script>alert(1)</script>", "a::b::latest", "../../etc", ""] {
        let (answer, _) = with(snapshot(&now, &"ab".repeat(32), hostile));
        answer.all_verified().unwrap();
        assert_eq!(answer.judgement().unwrap().drills.len(), 4, "{}", answer.told());
        let html = answer.html.as_deref().unwrap();
        for text in [answer.stdout.as_str(), &answer.stderr, html] {
            assert!(!text.contains('\u{1b}'), "{hostile:?} reaches a terminal");
        }
        assert!(!html.contains("<script>alert"), "{hostile:?} reaches a browser");
    }
}

/// A pack that only the past needs is missed, and no drill of the present suffers.
#[test]
fn a_pack_of_the_past() {
    let fixture = Fixture::shared().unwrap();
    let anatomy = Anatomy::of(&fixture.rustic()).unwrap();
    let place = Place::with(&fixture.rustic()).unwrap();
    fs::remove_file(place.repository().join(anatomy.old_pack("alpha").unwrap())).unwrap();
    let answer = place.drill().unwrap().ends().unwrap().expect(1).unwrap();
    let (missing, earlier) = answer.copy().unwrap().findings.split_first().unwrap();
    assert_eq!(missing.code, "repository.pack_missing");
    // If it holds trees, the comparison with the past meets the loss, too.
    for finding in earlier {
        assert!(
            finding.code == "restore.tree" && finding.location.contains(" of snapshot "),
            "{}",
            answer.told()
        );
    }
    answer.all_verified().unwrap();

    let all = place.drill().unwrap().arg("--all-snapshots").ends().unwrap().expect(1).unwrap();
    let failed: Vec<_> =
        all.judgement().unwrap().drills.iter().filter(|d| d.verdict != Verdict::Verified).collect();
    assert!(!failed.is_empty() && failed.len() < 3, "{}", all.told());
    for drill in failed {
        assert!(drill.name.0.starts_with("primary::alpha::"), "{}", drill.name);
        assert!(drill.findings.iter().any(|f| f.code.starts_with("restore.")), "{}", all.told());
    }
}

/// However many drills read the pack, its damage is told once.
#[test]
fn a_header_that_many_drills_meet() {
    let fixture = Fixture::shared().unwrap();
    let place = Place::with(&fixture.rustic()).unwrap();
    let operator = damage::named("header-bit").unwrap();
    let _guard = operator.apply_to(&place.repository(), PASSWORD, 1, "alpha").unwrap();
    let run = place.drill().unwrap().args(["--all-snapshots", "--jobs", "1"]);
    let answer = run.ends().unwrap().expect(1).unwrap();
    codes_of_copy(&answer, &["repository.pack"]).unwrap();
    assert!(answer.judgement().unwrap().drills.iter().all(|drill| drill.verdict == Verdict::Verified));
}
