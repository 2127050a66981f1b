//! Programs of a cell that end for reasons of the machine: nothing of that is damage.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use firedrill_core::cell::{
    Address, Cell, CellFacts, CellRequest, Ended, Kit, Pipes, Program, Runtime, Service, Software, Wire,
};
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::ports::Swept;

use super::source::SHARED;
use super::*;

/// How a program ends once it has said half of what it has to say.
type End = fn() -> Result<Ended>;

/// A runtime in whose cells one program ends before its time.
struct Sabotaged {
    runtime: Arc<dyn Runtime>,
    program: &'static str,
    end: End,
}

struct SabotagedCell {
    cell: Box<dyn Cell>,
    program: &'static str,
    end: End,
}

impl Runtime for Sabotaged {
    fn name(&self) -> &'static str {
        self.runtime.name()
    }

    fn offers(&self, kit: &Kit) -> Result<Software> {
        self.runtime.offers(kit)
    }

    fn open(&self, request: &CellRequest<'_>) -> Result<Box<dyn Cell>> {
        let cell = self.runtime.open(request)?;
        Ok(Box::new(SabotagedCell { cell, program: self.program, end: self.end }))
    }

    fn sweep(&self) -> Result<Swept> {
        self.runtime.sweep()
    }
}

impl Cell for SabotagedCell {
    fn facts(&self) -> &CellFacts {
        self.cell.facts()
    }

    fn bring(&self, from: &mut dyn std::io::Read, to: &str) -> Result<u64> {
        self.cell.bring(from, to)
    }

    fn create(&self, to: &str) -> Result<Box<dyn std::io::Write + '_>> {
        self.cell.create(to)
    }

    fn bring_tree(&self, from: &Path, to: &str) -> Result<()> {
        self.cell.bring_tree(from, to)
    }

    fn run(&self, program: &Program, pipes: Pipes<'_>) -> Result<Ended> {
        if program.program != self.program {
            return self.cell.run(program, pipes);
        }
        let mut said = Vec::new();
        let whole = Pipes { stdin: None, stdout: Some(Box::new(&mut said)) };
        self.cell.run(program, whole)?;
        if let Some(mut stdout) = pipes.stdout {
            stdout.write_all(&said[..said.len() / 2]).unwrap();
        }
        (self.end)()
    }

    fn start(&self, program: &Program) -> Result<Box<dyn Service>> {
        self.cell.start(program)
    }

    fn dial(&self, address: &Address) -> Result<Box<dyn Wire>> {
        self.cell.dial(address)
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.cell.close()
    }
}

/// Examines with a `program` that ends so.
pub(super) fn examine_with(subject: &mut Subject, program: &'static str, end: End) -> Examination {
    let runtime = crate::runtime::from_config(&RuntimeConfig::default()).unwrap();
    subject.runtime = Some(Arc::new(Sabotaged { runtime, program, end }));
    examine(subject)
}

pub(super) fn exit(code: i32, stderr: &str) -> Result<Ended> {
    Ok(Ended { code: Some(code), stderr: stderr.to_owned(), ..Ended::default() })
}

pub(super) const OURS: [End; 6] = [
    || Ok(Ended { signal: Some(9), ..Ended::default() }),
    || Ok(Ended::default()),
    || exit(137, ""),
    || exit(1, "error: could not write to output file: No space left on device"),
    || exit(1, "error: out of memory"),
    || Err(Error::new(ErrorKind::Timeout, "finish in time")),
];

#[test]
fn an_archive_is_not_damaged_because_pg_restore_was_killed() {
    if !present() {
        return;
    }
    let database = SHARED.database("CREATE TABLE t (a int); INSERT INTO t SELECT generate_series(1, 1000)");
    let archive = SHARED.dump(&database, &["-Fc"]);
    for end in OURS {
        let (_fixture, mut subject) = subject(&[("b/shop.dump", &archive)]);
        let examination = examine_with(&mut subject, "pg_restore", end);
        assert_eq!(wrong(&examination), [""; 0], "{:?} {examination:#?}", end());
        assert!(examination.interrupted.is_some(), "{:?}", end());
    }
    let (_fixture, mut subject) = subject(&[("b/shop.dump", &archive)]);
    let damaged = || exit(1, "pg_restore: error: could not uncompress data: invalid stored block lengths");
    assert_found(&examine_with(&mut subject, "pg_restore", damaged), "postgres.archive");
}

#[test]
fn a_dump_that_ends_early_because_we_had_to_stop_is_not_damaged() {
    if !present() {
        return;
    }
    use super::super::load::{Job, Outcome, load as load_sql};
    use firedrill_core::watch::Watch;
    /// Ends early, and not before the time is over.
    struct Cut(std::io::Cursor<&'static [u8]>, Option<Watch>);
    impl std::io::Read for Cut {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            let read = self.0.read(into)?;
            if read == 0
                && let Some(watch) = &self.1
            {
                watch.stop();
            }
            Ok(read)
        }
    }
    let _entered = RUNTIME.enter();
    let database = SHARED.database("SELECT 1");
    for stops in [false, true] {
        let watch = Watch::unlimited();
        let job = Job { server: SHARED.server(), database: &database, location: "b/a.sql", watch: &watch };
        let text = b"CREATE TABLE a";
        let cut = Cut(std::io::Cursor::new(&text[..]), stops.then(|| watch.clone()));
        let loaded = super::super::server::block_on(load_sql(&job, Box::new(cut)));
        match loaded.outcome {
            Outcome::Broken(finding) if !stops => assert_eq!(finding.code, "postgres.truncated"),
            Outcome::Interrupted(_) if stops => {}
            outcome => panic!("{stops} {outcome:?}"),
        }
    }
}
