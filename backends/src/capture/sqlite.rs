//! SQLite by its online backup: a copy as of one moment, whatever is written meanwhile. In WAL mode nobody waits for
//! it; with a rollback journal writers wait while the copy is made.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use firedrill_core::config::jobs::SqliteCapture;
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::watch::Watch;
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::{Captured, Made, Moment};

/// How long somebody else may keep the database locked at a time.
const BUSY: Duration = Duration::from_secs(1);
/// How long a lock is left alone before the next try.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) fn capture(config: &SqliteCapture, moment: &Moment<'_>, captured: &mut Captured) -> Result<()> {
    let source = Path::new(&config.path);
    let copy = moment.work.join(format!("sqlite-{}", captured.made.len()));
    let failed = |why: String| {
        Error::new(ErrorKind::Unavailable, format!("copy the SQLite database {}", source.display()))
            .because(why)
    };
    let meta = fs::metadata(source).map_err(|e| failed(e.to_string()))?;
    if meta.len() == 0 {
        return Err(
            failed("the file is empty".to_owned()).advise("is this the file that the application uses?")
        );
    }
    online_copy(source, &copy, moment.watch)?;
    moment.watch.check()?;
    sound(&copy).map_err(|why| {
        failed(why).advise("the database itself is damaged: repair it, the backups of before are still there")
    })?;
    // Owner and times tell the tree probe and a person what the file was. The last thing that it loses is the right
    // to be written to.
    let dress = || -> std::io::Result<()> {
        let file = File::options().write(true).open(&copy)?;
        file.set_modified(meta.modified()?)?;
        // Who may not give files away keeps them.
        let _ = std::os::unix::fs::fchown(&file, Some(meta.uid()), Some(meta.gid()));
        file.set_permissions(fs::Permissions::from_mode(meta.mode() & 0o7777))
    };
    dress().map_err(|e| failed(e.to_string()))?;
    let path = config.stored_as.clone().unwrap_or_else(|| config.path.clone());
    captured.made.push(Made { path, file: copy, dump: true });
    Ok(())
}

fn online_copy(source: &Path, copy: &Path, watch: &Watch) -> Result<()> {
    let failed = |e: rusqlite::Error| {
        Error::new(ErrorKind::Unavailable, format!("copy the SQLite database {}", source.display()))
            .from_source(&e)
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let from = Connection::open_with_flags(source, flags).map_err(failed)?;
    from.busy_timeout(BUSY).map_err(failed)?;
    let mut to = Connection::open(copy).map_err(failed)?;
    let backup = Backup::new(&from, &mut to).map_err(failed)?;
    loop {
        watch.check()?;
        // All pages at once: page by page it would begin anew with each write, and might never end.
        match backup.step(-1).map_err(failed)? {
            StepResult::Done => return Ok(()),
            StepResult::Busy | StepResult::Locked => std::thread::sleep(PAUSE),
            _ => {}
        }
    }
}

fn sound(copy: &Path) -> std::result::Result<(), String> {
    let ask = || -> rusqlite::Result<String> {
        let connection = Connection::open_with_flags(copy, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        connection.execute_batch("PRAGMA trusted_schema = OFF")?;
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
    };
    match ask() {
        Ok(word) if word == "ok" => Ok(()),
        Ok(what) => Err(what),
        Err(e) => Err(e.to_string()),
    }
}
