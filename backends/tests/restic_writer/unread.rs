//! What cannot be read is told, and makes no snapshot.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::symlink;

use firedrill_backends::repository::restic::write::{BackupRequest, Outcome, Source};

use crate::support::awkward::Bytes;
use crate::support::tools::Workplace;
use crate::writing::{back_up, check, open, repository, watch};

/// Gives so many bytes, and then fails.
struct Broken(io::Cursor<Vec<u8>>);

impl Read for Broken {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::Error::other("pg_dump ended with exit status 1")),
            count => Ok(count),
        }
    }
}

#[test]
fn a_stream_that_breaks_off() {
    let place = Workplace::new();
    let Some(repository) = repository(&place, "0.19", "2") else { return };
    let writer = open(&repository.access);
    for length in [0, 100, 3_000_000] {
        let sources = || {
            vec![
                Source::stream("/db.sql", move || Ok(Broken(io::Cursor::new(Bytes(1).take(length))))),
                Source::bytes("/digests", b"x".to_vec()),
            ]
        };
        let made = writer.backup(sources(), &BackupRequest::default(), &watch()).expect("no error of ours");
        assert_eq!(made.outcome, Outcome::Withheld);
        assert_eq!(made.unread.len(), 1, "{made:#?}");
        assert!(made.unread[0].why.contains("exit status 1") && made.unread[0].path.ends_with("db.sql"));
        assert!(repository.snapshots().is_empty(), "a snapshot was saved all the same");
    }
    // Who wants it may have the rest, but never without being told.
    let request = BackupRequest { strict: false, ..BackupRequest::default() };
    let sources = vec![
        Source::stream("/db.sql", || Ok(Broken(io::Cursor::new(vec![1; 10])))),
        Source::bytes("/digests", b"x".to_vec()),
    ];
    let made = writer.backup(sources, &request, &watch()).expect("no error of ours");
    assert!(!made.is_complete() && made.snapshot().is_some() && made.counts.files() == 1, "{made:#?}");
    assert!(
        writer
            .backup(
                vec![Source::stream("/x", || Err::<io::Empty, _>(io::Error::other("no server")))],
                &request,
                &watch()
            )
            .is_ok_and(|made| made.outcome == Outcome::Withheld && made.unread[0].why == "no server")
    );
    // What came of the broken streams is not needed by anybody, and is no damage.
    repository.run(["prune"]);
    check(&repository);
}

#[test]
fn sources_that_are_not_there() {
    let place = Workplace::new();
    let Some(repository) = repository(&place, "0.19", "2") else { return };
    let writer = open(&repository.access);
    let source = place.folder("source");
    fs::write(source.join("file"), b"x").expect("write");
    let both = vec![Source::path(&source), Source::path(place.path("missing"))];
    let made = writer.backup(both, &BackupRequest::default(), &watch()).expect("no error of ours");
    assert_eq!((made.outcome.clone(), made.unread.len()), (Outcome::Withheld, 1), "{made:#?}");
    let link = place.path("link");
    symlink(&source, &link).expect("symlink");
    let error = writer.backup(vec![Source::path(&link)], &BackupRequest::default(), &watch());
    assert!(error.is_err_and(|e| e.chain().contains("symbolic link")));
    assert!(writer.backup(Vec::new(), &BackupRequest::default(), &watch()).is_err());
    let relative = writer.backup(vec![Source::path("source")], &BackupRequest::default(), &watch());
    assert!(relative.is_err());
    assert!(repository.snapshots().is_empty());
}

/// A file of /proc that fails only when it is read.
#[test]
fn a_file_that_fails_while_it_is_read() {
    let place = Workplace::new();
    let Some(repository) = repository(&place, "0.19", "2") else { return };
    let broken = "/proc/self/mem";
    let made = back_up(&open(&repository.access), std::path::Path::new(broken), &BackupRequest::default());
    assert_eq!((made.outcome, made.unread.len()), (Outcome::Withheld, 1));
    assert!(repository.snapshots().is_empty());
}
