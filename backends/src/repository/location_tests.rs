use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use rustic_core::Id;

use super::*;
use crate::repository::error::to_error;

fn s3(address: &str) -> (String, String, String) {
    match Location::parse(address).unwrap() {
        Location::S3(place) => (place.endpoint, place.bucket, place.prefix),
        other => panic!("{other:?}"),
    }
}

fn refused(address: &str) -> String {
    let error = Location::parse(address).expect_err(address);
    assert_eq!(error.kind, ErrorKind::Usage);
    error.chain()
}

#[test]
fn paths_are_local() {
    for (address, path) in [
        ("/srv/repo", "/srv/repo"),
        ("repo", "repo"),
        ("./repo", "./repo"),
        ("../a:b", "../a:b"),
        ("/srv/a:b", "/srv/a:b"),
        ("local:/srv/a:b", "/srv/a:b"),
        ("local:a:b", "a:b"),
        ("/srv/with space", "/srv/with space"),
    ] {
        assert_eq!(Location::parse(address).unwrap(), Location::Local(path.into()), "{address}");
    }
}

#[test]
fn s3_addresses_are_those_of_restic() {
    let told = |endpoint: &str, bucket: &str, prefix: &str| {
        (endpoint.to_owned(), bucket.to_owned(), prefix.to_owned())
    };
    let amazon = "https://s3.amazonaws.com";
    assert_eq!(s3("s3:s3.amazonaws.com/bucket"), told(amazon, "bucket", ""));
    assert_eq!(s3("s3:s3.amazonaws.com/bucket/a/b"), told(amazon, "bucket", "a/b"));
    assert_eq!(s3("s3://s3.amazonaws.com/bucket/a/"), told(amazon, "bucket", "a"));
    assert_eq!(s3("s3:https://s3.amazonaws.com/bucket"), told(amazon, "bucket", ""));
    assert_eq!(
        s3("s3:http://minio:9000/bucket/a//b/./c/../d/"),
        told("http://minio:9000", "bucket", "a/b/d")
    );
    assert_eq!(s3("s3:https://host:8443/bucket"), told("https://host:8443", "bucket", ""));
    assert_eq!(s3("s3:https://host:443/bucket"), told("https://host", "bucket", ""));
    assert_eq!(s3("s3:[::1]:9000/bucket"), told("https://[::1]:9000", "bucket", ""));
    // A percent sign means something in a URL and nothing outside of one.
    assert_eq!(s3("s3:https://h/bucket/a%20b?x=y#z"), told("https://h", "bucket", "a b"));
    assert_eq!(s3("s3:h/bucket/a%20b?x"), told("https://h", "bucket", "a%20b?x"));
}

#[test]
fn broken_addresses_are_refused_with_a_reason() {
    for (address, reason) in [
        ("", "empty"),
        ("  ", "empty"),
        ("local:", "no path"),
        ("s3:", "host"),
        ("s3:bucket", "no bucket"),
        ("s3:https://host", "no bucket"),
        ("s3:https://host/", "no bucket"),
        ("s3://host//x", "no bucket"),
        ("s3:https://host:port/bucket", "port"),
        ("s3:h/bucket/../..", "`..`"),
        ("s3:https://h/bucket/%zz", "hexadecimal"),
        ("rest:host:8000/", "http://"),
        ("rest:/path", "not a URL"),
        ("rest:http+unix:///socket", "http://"),
        ("./a:b", "local:PATH"),
        ("opendal:s3", "local:PATH"),
    ] {
        let told = refused(address);
        assert!(told.contains(reason), "{address}: {told}");
    }
    for scheme in ["sftp", "b2", "azure", "gs", "swift", "rclone"] {
        let told = refused(&format!("{scheme}:hunter2@host:path"));
        assert!(told.contains("rclone serve restic") && told.contains(scheme), "{told}");
        assert!(!told.contains("hunter2"), "{told}");
    }
}

#[test]
fn no_address_shows_its_password() {
    for address in [
        "rest:http://user:hunter2@host:8000/path",
        "rest:https://hunter2@host",
        "rest:https://user:hunt%65r2@host/a@b/",
        "s3:https://key:hunter2@host/bucket",
        "s3:key:hunter2@host/bucket",
    ] {
        let place = Location::parse(address).unwrap();
        let shown = format!("{place} {place:?} {}", place.redacted());
        assert!(!shown.contains("hunter2") && !shown.contains("hunt%65r2"), "{shown}");
    }
    for address in ["rest:http://user:hunter2/@host/", "rest:user:hunter2@host", "hunter2:x@host"] {
        assert!(!refused(address).contains("hunter2"), "{address}");
    }
}

#[test]
fn rest_addresses_end_in_a_slash() {
    for (address, shown) in [
        ("rest:http://h:8000", "rest:http://h:8000/"),
        ("rest:https://u:p@h/a/b", "rest:https://h/a/b/"),
        ("rest:https://h/a/b/", "rest:https://h/a/b/"),
    ] {
        assert_eq!(Location::parse(address).unwrap().to_string(), shown);
    }
}

#[test]
fn the_address_comes_from_flags_then_from_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("repository");
    fs::write(&file, "s3:h/from-file\n").unwrap();
    let text = file.to_str().unwrap();
    let none = Environment::default();
    let address = none.clone().with("RESTIC_REPOSITORY", "/env");
    let both = address.clone().with("RESTIC_REPOSITORY_FILE", text);
    fn ask(flag: Option<&str>, file: Option<&Path>, env: &Environment) -> Result<String, String> {
        repository_address(flag, file, env).map_err(|error| error.chain())
    }
    assert_eq!(ask(Some("/flag"), None, &both).unwrap(), "/flag");
    assert_eq!(ask(None, Some(&*file), &address).unwrap(), "s3:h/from-file");
    assert_eq!(ask(None, None, &address).unwrap(), "/env");
    assert_eq!(
        ask(None, None, &none.clone().with("RESTIC_REPOSITORY_FILE", text)).unwrap(),
        "s3:h/from-file"
    );
    assert!(ask(None, None, &both).unwrap_err().contains("exclude each other"));
    assert!(ask(Some("/flag"), Some(&*file), &none).unwrap_err().contains("exclude each other"));
    assert!(ask(None, None, &none).unwrap_err().contains("RESTIC_REPOSITORY"));
    assert!(ask(None, Some(&*folder.path().join("none")), &none).is_err());
}

fn opened(path: &Path) -> Result<Arc<dyn WriteBackend>> {
    Location::Local(path.to_owned()).open(&Access::default())
}

#[test]
fn a_folder_must_be_a_repository() {
    let folder = tempfile::tempdir().unwrap();
    let missing = opened(&folder.path().join("none")).unwrap_err();
    assert_eq!(missing.kind, ErrorKind::NoRepository);
    assert!(missing.chain().contains("no such directory"));
    assert!(!folder.path().join("none").exists(), "opening must not create anything");

    let empty = opened(folder.path()).unwrap_err();
    assert_eq!(empty.kind, ErrorKind::NoRepository);
    assert!(empty.chain().contains("not a repository: no `config` file"), "{}", empty.chain());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "opening must not write anything");

    fs::write(folder.path().join("file"), "").unwrap();
    assert_eq!(opened(&folder.path().join("file")).unwrap_err().kind, ErrorKind::NoRepository);
    assert_eq!(opened(&folder.path().join("file/x")).unwrap_err().kind, ErrorKind::NoRepository);

    // A repository that lost its config is one.
    fs::create_dir(folder.path().join("snapshots")).unwrap();
    fs::write(folder.path().join("snapshots").join("ab".repeat(32)), "x").unwrap();
    assert!(opened(folder.path()).is_ok());
}

#[test]
fn what_is_opened_cannot_write() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config"), "x").unwrap();
    let backend = opened(folder.path()).unwrap();
    let id = Id::default();
    assert!(backend.create().is_err());
    assert!(backend.write_bytes(FileType::Config, &id, false, vec![1].into()).is_err());
    assert!(backend.remove(FileType::Config, &id, false).is_err());
    assert_eq!(fs::read(folder.path().join("config")).unwrap(), b"x");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn listings_are_complete_or_fail() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let (good, stray) = ("ab".repeat(32), "cd".repeat(32));
    fs::create_dir_all(root.join("data/ab")).unwrap();
    fs::write(root.join("config"), "x").unwrap();
    fs::write(root.join("data/ab").join(&good), "12345").unwrap();
    fs::write(root.join("data/ab").join(&stray), "in the wrong folder").unwrap();
    fs::write(root.join("data/ab/note.txt"), "").unwrap();
    let elsewhere = root.join("elsewhere");
    fs::write(&elsewhere, "123").unwrap();
    let linked = format!("ab{}", "0".repeat(62));
    symlink(&elsewhere, root.join("data/ab").join(&linked)).unwrap();
    let backend = opened(root).unwrap();
    let mut listed = backend.list_with_size(FileType::Pack).unwrap();
    listed.sort();
    let told: Vec<_> = listed.iter().map(|(id, size)| (id.to_hex().as_str().to_owned(), *size)).collect();
    assert_eq!(told, [(linked, 3), (good.clone(), 5)]);
    assert!(backend.list(FileType::Snapshot).unwrap().is_empty(), "a missing folder holds nothing");

    // What cannot be listed is an error and not an absence. Root may look anywhere, so here the
    // folder is not one.
    fs::write(root.join("data/cd"), "").unwrap();
    let error = backend.list_with_size(FileType::Pack).unwrap_err();
    assert!(!trouble(&error).is_about_content(), "{error}");
}

#[test]
fn permissions_are_told_apart_from_absence() {
    if rustix::process::geteuid().is_root() {
        // Root may look anywhere; the classification itself is tested with errors made by hand.
        let denied = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        assert_eq!(super::super::error::of_io(&denied), Trouble::Denied);
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o000)).unwrap();
    assert_eq!(opened(folder.path()).unwrap_err().kind, ErrorKind::Unavailable);
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn reading_is_bounded_by_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let id: Id = "ab".repeat(32).parse().unwrap();
    fs::create_dir_all(folder.path().join("data/ab")).unwrap();
    fs::write(folder.path().join("config"), "x").unwrap();
    let pack = folder.path().join("data/ab").join("ab".repeat(32));
    fs::write(&pack, "0123456789").unwrap();
    let backend = opened(folder.path()).unwrap();
    assert_eq!(backend.read_partial(FileType::Pack, &id, false, 3, 4).unwrap(), "3456");
    assert_eq!(backend.read_full(FileType::Pack, &id).unwrap(), "0123456789");
    let short = backend.read_partial(FileType::Pack, &id, false, 3, u32::MAX).unwrap_err();
    assert_eq!(trouble(&short), Trouble::Short);

    // A named pipe would keep rustic waiting forever.
    fs::remove_file(&pack).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pack,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    let pipe = backend.read_full(FileType::Pack, &id).unwrap_err();
    assert_eq!(trouble(&pipe), Trouble::Misshapen);
    assert!(backend.list(FileType::Pack).unwrap().is_empty());

    fs::remove_file(&pack).unwrap();
    let gone = backend.read_full(FileType::Pack, &id).unwrap_err();
    assert_eq!(trouble(&gone), Trouble::Missing);
    let told = to_error(ErrorKind::Unavailable, "restore", &gone).chain();
    assert!(told.contains(pack.to_str().unwrap()) && told.contains("No such file"), "{told}");
}
