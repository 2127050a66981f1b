//! Bad input: every mistake gets its exit code, and a text that says what to do.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use firedrill_core::verdict::Verdict;
use firedrill_scenarios::fleet::TestRepository;

use crate::anatomy::Anatomy;
use crate::fixture::{Fixture, PASSWORD, TAGS};
use crate::place::{self, Place};
use crate::vault::{self, Vault};

const USAGE: i32 = 64;
const FAILED: i32 = 1;
const INCONCLUSIVE: i32 = 2;
const NOTHING: i32 = 4;
const SINK: i32 = 5;

/// One mistake on the command line: what is typed after `restore-test`, the exit code, and words that must
/// be said. `@` stands for a good repository, `~` for the folder of the case.
#[derive(Clone, Copy, Debug)]
struct Typed(&'static str, i32, &'static [&'static str]);

const TYPED: &[Typed] = &[
    Typed("--repository ~/missing", INCONCLUSIVE, &["no such directory", "check the path"]),
    Typed("--repository ~/empty", INCONCLUSIVE, &["not a repository", "check the path"]),
    Typed("--repository ~/file", INCONCLUSIVE, &["not a directory"]),
    Typed("--repository ~/file/below", INCONCLUSIVE, &["not a directory"]),
    Typed("--repository ~/loop", INCONCLUSIVE, &["symbolic link"]),
    Typed("--repository rest:http://127.0.0.1:1/x", INCONCLUSIVE, &["nothing answers there"]),
    Typed("", USAGE, &["no repository was given", "--repository"]),
    Typed("--repository=", USAGE, &["the address is empty"]),
    Typed("--repository rest:htp://host/x", USAGE, &["http:// or https://"]),
    Typed("--repository rest:host/x", USAGE, &["rest:"]),
    Typed("--repository s3:host", USAGE, &["no bucket"]),
    Typed("--repository ftp://host/x", USAGE, &["neither a path nor"]),
    Typed("--repository sftp:user@host:/x", USAGE, &["sftp", "rclone serve restic"]),
    Typed("--repository b2:bucket", USAGE, &["b2", "rclone serve restic"]),
    Typed("--repository @ --repository-file ~/file", USAGE, &["cannot be used with"]),
    Typed("--repository-file ~/missing", USAGE, &["missing"]),
    Typed("--repository @ --bogus", USAGE, &["--bogus"]),
    Typed("--repository @ surplus", USAGE, &["surplus"]),
    Typed("--repository @ --jobs 0", USAGE, &["--jobs"]),
    Typed("--repository @ --timeout soon", USAGE, &["--timeout"]),
    Typed("--repository @ --scratch-limit much", USAGE, &["--scratch-limit"]),
    Typed("--repository @ --copy mirror", USAGE, &["no copy of that name"]),
    Typed("--repository @ --option novalue", USAGE, &["--option KEY=VALUE"]),
    Typed("--repository @ --at yesterday", USAGE, &["understand the time", "2026-03-08"]),
    Typed("--repository @ --at 2001-01-01", NOTHING, &[]),
    Typed("--repository @ --host nobody", NOTHING, &[]),
    Typed("--repository @ --snapshot 00000000", USAGE, &["no copy holds a snapshot", "the newest are"]),
    Typed("--repository @ --snapshot latest", USAGE, &["not the id of a snapshot"]),
    Typed("--repository @ --snapshot ''", USAGE, &["not the id of a snapshot"]),
    Typed("--repository @ --password-file ~/missing", USAGE, &["missing", "No such file"]),
    Typed("--repository @ --password-file ~/nothing", USAGE, &["it is empty"]),
    Typed("--repository @ --password-file ~/empty", USAGE, &["directory"]),
    Typed("--repository @ --password-command false", USAGE, &["false"]),
    Typed("--repository @ --password-command no-such-command", USAGE, &["no-such-command"]),
    Typed("--repository @ --password-file ~/file --password-command true", USAGE, &["cannot be used with"]),
    Typed("--repository @ --config ~/file", USAGE, &["cannot be used with"]),
    Typed("--config ~/missing.yaml", USAGE, &["missing.yaml"]),
    Typed("--config ~/empty", USAGE, &["empty"]),
    Typed("--repository @ --state ~/file", USAGE, &["--state"]),
    Typed("--repository @ --json-file ~/empty", USAGE, &["directory"]),
    Typed("--repository @ --prometheus-file ~/missing/x.prom", USAGE, &["a folder that exists"]),
    Typed("--repository @ --pushgateway nonsense", USAGE, &["Pushgateway"]),
    Typed("--repository @ --pushgateway http://127.0.0.1:1", SINK, &["127.0.0.1:1"]),
    Typed("--repository @ --scratch @", USAGE, &["in the repository"]),
    Typed("--repository @ --scratch @/data/below", USAGE, &["in the repository"]),
    Typed("--repository @ --state @", USAGE, &["in the repository"]),
    Typed("--repository @ --json-file @/x.json", USAGE, &["in the repository"]),
];

#[test]
fn what_is_typed_wrong() {
    let fixture = Fixture::shared().unwrap();
    place::all(TYPED, |Typed(typed, code, words)| {
        let place = Place::with(&fixture.rustic())?;
        fs::create_dir(place.path("empty"))?;
        fs::write(place.path("file"), "something")?;
        fs::write(place.path("nothing"), "\n")?;
        std::os::unix::fs::symlink("loop", place.path("loop"))?;
        let here = place.path("").display().to_string();
        let real = place.repository().display().to_string();
        let typed = typed.replace('@', &real).replace("~/", &here);
        let mut run = place.firedrill()?.arg("restore-test").args(shell_words(&typed));
        if !typed.contains("--state") {
            run = run.arg("--state").arg(place.state());
        }
        if !typed.contains("--scratch ") {
            run = run.arg("--scratch").arg(place.path("scratch"));
        }
        let answer = run.env("RESTIC_PASSWORD", PASSWORD).within(Duration::from_secs(30)).ends()?;
        let answer = answer.expect(code)?.says(words)?;
        ensure!(code != USAGE || answer.run.is_none(), "evidence was written: {}", answer.told());
        Ok(())
    });
}

/// Words as a shell sees them, as far as this table goes.
fn shell_words(text: &str) -> Vec<String> {
    text.split_whitespace().map(|word| word.trim_matches('\'').to_owned()).collect()
}

#[test]
fn passwords() {
    let fixture = Fixture::shared().unwrap();
    let place = Place::with(&fixture.rustic()).unwrap();
    let run = || place.restore_test().unwrap().arg("--repository").arg(place.repository());

    let none = run().ends().unwrap().expect(USAGE).unwrap();
    let ways = ["no password was given", "--password-file", "--password-command", "RESTIC_PASSWORD"];
    assert!(none.says(&ways).unwrap().run.is_none());

    let wrong = run().env("RESTIC_PASSWORD", "Wrong-Secret-19aa").secret("Wrong-Secret-19aa");
    let wrong = wrong.ends().unwrap().expect(INCONCLUSIVE).unwrap();
    let wrong = wrong.says(&["the password does not fit", "check RESTIC_PASSWORD"]).unwrap();
    assert!(wrong.copy().unwrap().findings.is_empty(), "nothing is known about the backup");
    assert_eq!(wrong.copy().unwrap().verdict, Verdict::Inconclusive);

    // With a config it is known what should have been drilled.
    let config = place.path("firedrill.yaml");
    let quoted = serde_json::to_string(&place.repository()).unwrap();
    let text = format!(
        "version: 1\ncopies: [{{name: primary, role: primary, repository: {quoted}}}]\n\
         targets: [{{name: one, tag: alpha}}, {{name: two, tag: beta}}]\n"
    );
    fs::write(&config, text).unwrap();
    let drill = || place.restore_test().unwrap().arg("--config").arg(&config);
    let wrong = drill().env("RESTIC_PASSWORD", "Wrong-Secret-19aa").secret("Wrong-Secret-19aa");
    let wrong = wrong.ends().unwrap().expect(INCONCLUSIVE).unwrap();
    let verdicts: Vec<_> = wrong.judgement().unwrap().drills.iter().map(|drill| drill.verdict).collect();
    assert_eq!(verdicts, [Verdict::Inconclusive; 2], "{}", wrong.told());

    let right = place.path("right");
    fs::write(&right, format!("  {PASSWORD}\n")).unwrap();
    run().arg("--password-file").arg(&right).ends().unwrap().expect(0).unwrap();
    let command = format!("cat '{}'", right.display());
    run().arg("--password-command").arg(command).ends().unwrap().expect(0).unwrap();
    drill().env("RESTIC_PASSWORD_FILE", &right).ends().unwrap().expect(0).unwrap();
}

#[test]
fn what_is_not_there() {
    let fixture = Fixture::shared().unwrap();
    let place = Place::with(&fixture.rustic()).unwrap();
    let answer = place.drill().unwrap().args(["--tag", "alpha", "--tag", "omega"]).ends().unwrap();
    let answer = answer.expect(FAILED).unwrap();
    answer.verified("alpha").unwrap();
    let missing = answer.drill("omega").unwrap();
    assert_eq!(missing.verdict, Verdict::Failed);
    assert_eq!(missing.findings[0].code, "snapshot.missing");
    assert_eq!(missing.findings[0].location, "omega");

    let empty = Place::new().unwrap();
    TestRepository::init(&empty.repository(), &firedrill_core::secret::Secret::new(PASSWORD)).unwrap();
    let answer = empty.drill().unwrap().ends().unwrap().expect(NOTHING).unwrap();
    assert!(answer.judgement().unwrap().drills.is_empty());
    assert_eq!(answer.copy().unwrap().verdict, Verdict::Verified);
    empty.drill().unwrap().arg("--dry-run").ends().unwrap().expect(NOTHING).unwrap();
    let asked = empty.drill().unwrap().args(["--tag", "alpha"]).ends().unwrap().expect(FAILED).unwrap();
    assert_eq!(asked.drill("alpha").unwrap().findings[0].code, "snapshot.missing");
}

#[test]
fn older_states_can_be_asked_for() {
    let fixture = Fixture::shared().unwrap();
    let anatomy = Anatomy::of(&fixture.rustic()).unwrap();
    let place = Place::with(&fixture.rustic()).unwrap();
    let middle = anatomy.snapshot("alpha", 1).unwrap();
    let answer =
        place.drill().unwrap().args(["--snapshot", &middle[..12]]).ends().unwrap().expect(0).unwrap();
    let drills = &answer.judgement().unwrap().drills;
    assert_eq!(drills.len(), 1);
    assert_eq!(drills[0].snapshot.as_ref().unwrap().0, middle);

    let then = drills[0].snapshot_time.unwrap().to_string();
    let answer = place.drill().unwrap().args(["--at", &then]).ends().unwrap().expect(0).unwrap();
    // The snapshots of the other tags are a minute or two younger.
    for (tag, age) in [("alpha", 1), ("beta", 2), ("twins", 2)] {
        let seen = answer.verified(tag).unwrap().snapshot.as_ref().unwrap().0.clone();
        assert_eq!(seen, anatomy.snapshot(tag, age).unwrap(), "{tag}");
    }
    let all = place.drill().unwrap().arg("--all-snapshots").ends().unwrap().expect(0).unwrap();
    assert_eq!(all.judgement().unwrap().drills.len(), 9);
}

#[test]
fn a_config_full_of_mistakes() {
    let place = Place::new().unwrap();
    let config = place.path("firedrill.yaml");
    let text = "version: 1\n\
                copies:\n\
                \x20 - {name: primary, role: primery, repository: /nowhere}\n\
                \x20 - {name: primary, role: mirror, repository: 'sftp:host:/x'}\n\
                targets:\n\
                \x20 - {name: one, tag: one, objectives: {rpo: soon}}\n\
                \x20 - {name: two, tga: two}\n\
                restore_tset: {}\n";
    fs::write(&config, text).unwrap();
    let mistakes = ["primery", "soon", "tga", "restore_tset", "firedrill.yaml:3", "firedrill.yaml:6"];
    let run = place.restore_test().unwrap().env("RESTIC_PASSWORD", PASSWORD).arg("--config").arg(&config);
    let answer = run.ends().unwrap().expect(USAGE).unwrap().says(&mistakes).unwrap();
    assert!(answer.run.is_none());
    let checked = place.firedrill().unwrap().args(["config", "check"]).arg(&config).ends().unwrap();
    let checked = checked.expect(USAGE).unwrap();
    for mistake in mistakes {
        assert!(checked.stdout.contains(mistake), "{mistake}: {}", checked.stdout);
    }
}

/// What we may not read says nothing about the backup.
#[test]
fn what_may_not_be_read_or_written() {
    let fixture = Fixture::shared().unwrap();
    let places = [
        "",
        "config",
        "keys",
        "keys/*",
        "snapshots",
        "snapshots/*",
        "index",
        "index/*",
        "data",
        "data/*",
        "data/*/*",
    ];
    place::all(&places, |locked| {
        let place = Place::with(&fixture.rustic())?;
        let paths = matches(&place.repository(), locked)?;
        let Some(run) = place.drill()?.unprivileged() else { return Ok(()) };
        paths.iter().try_for_each(|path| mode(path, 0o000))?;
        let answer = run.ends();
        paths.iter().try_for_each(|path| mode(path, 0o700))?;
        let answer = answer?.expect(INCONCLUSIVE)?.says(&["may read the repository"])?;
        let judgement = answer.judgement()?;
        let findings =
            judgement.drills.iter().flat_map(|drill| &drill.findings).chain(&answer.copy()?.findings);
        ensure!(findings.count() == 0, "something is found: {}", answer.told());
        ensure!(locked == "data/*/*" || judgement.drills.is_empty(), "drilled: {}", answer.told());
        Ok(())
    });
    for folder in ["state", "scratch"] {
        let place = Place::with(&fixture.rustic()).unwrap();
        let path = place.path(folder);
        fs::create_dir(&path).unwrap();
        mode(&path, 0o500).unwrap();
        let Some(run) = place.drill().unwrap().unprivileged() else { return };
        let answer = run.ends();
        mode(&path, 0o700).unwrap();
        let answer = answer.unwrap();
        if folder == "state" {
            answer.expect(USAGE).unwrap().says(&["--state"]).unwrap();
            continue;
        }
        let answer = answer.expect(INCONCLUSIVE).unwrap().says(&["--scratch"]).unwrap();
        for tag in TAGS {
            let drill = answer.drill(tag).unwrap();
            assert!(drill.verdict == Verdict::Inconclusive && drill.findings.is_empty(), "{}", answer.told());
        }
    }
}

fn mode(path: &Path, mode: u32) -> Result<()> {
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(mode))?)
}

/// The paths that fit a pattern in which `*` stands for a whole name.
fn matches(root: &Path, pattern: &str) -> Result<Vec<PathBuf>> {
    let mut paths = vec![root.to_owned()];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        let mut below = Vec::new();
        for path in &paths {
            match part {
                "*" => below.extend(vault::files(path)?),
                name => below.push(path.join(name)),
            }
        }
        paths = below;
    }
    ensure!(!paths.is_empty(), "nothing fits {pattern}");
    Ok(paths)
}

/// Key files are plain text that anybody can write who can write to the repository.
#[test]
fn hostile_keys() {
    let fixture = Fixture::shared().unwrap();
    let keys = [
        r#"{"kdf":"scrypt","N":2147483648,"r":8,"p":1,"data":"AAAA","salt":"AAAA"}"#,
        r#"{"kdf":"scrypt","N":1048576,"r":4294967295,"p":1,"data":"AAAA","salt":"AAAA"}"#,
        r#"{"kdf":"scrypt","N":1024,"r":8,"p":4294967295,"data":"AAAA","salt":"AAAA"}"#,
        r#"{"kdf":"scrypt","N":0,"r":0,"p":0,"data":"AAAA","salt":"AAAA"}"#,
        r#"{"kdf":"scrypt","N":1023,"r":8,"p":1,"data":"AAAA","salt":"AAAA"}"#,
        r#"{"kdf":"argon2","N":1024,"r":8,"p":1,"data":"AAAA","salt":"AAAA"}"#,
        r#"{"kdf":"scrypt","N":-1,"r":8,"p":1,"data":"AAAA","salt":"AAAA"}"#,
        r#"{"kdf":"scrypt"}"#,
        "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
        "\u{0}\u{1}",
        "",
    ];
    let cases: Vec<_> = keys.iter().flat_map(|key| [(*key, true), (*key, false)]).collect();
    place::all(&cases, |(key, alone)| {
        let place = Place::with(&fixture.rustic())?;
        let vault = Vault::open(&place.repository(), PASSWORD)?;
        if alone {
            vault.replace_keys(key.as_bytes())?;
        } else {
            vault.put("keys", key.as_bytes())?;
        }
        let answer = place.drill()?.within(Duration::from_secs(5)).ends()?.expect(FAILED)?;
        let findings = &answer.copy()?.findings;
        ensure!(findings.iter().all(|f| f.code == "repository.key"), "{}", answer.told());
        ensure!(findings.len() == 1, "one finding is expected: {}", answer.told());
        if alone {
            ensure!(answer.judgement()?.drills.is_empty(), "drilled without a key");
        } else {
            // The other key opens it.
            answer.all_verified()?;
        }
        Ok(())
    });
}
