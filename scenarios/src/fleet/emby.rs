//! Emby: a live library database, metadata images, and names that nobody expects.

use anyhow::Result;
use rand::RngExt as _;
use rand::rngs::StdRng;
use rusqlite::{Transaction, params};

use super::bulk::Bulk;
use super::database::{self, LiveDatabase};
use super::stage::Stage;
use super::{Sizes, Workload, content, odd};

const SCHEMA: &str = "
CREATE TABLE MediaItems (Id INTEGER PRIMARY KEY, guid TEXT NOT NULL, Name TEXT NOT NULL, Path TEXT,
  DateCreated INTEGER, DateModified INTEGER, Images TEXT);
CREATE INDEX idx_MediaItemsName ON MediaItems (Name);
CREATE TABLE UserDatas (UserDataKeyId INTEGER NOT NULL, UserId INTEGER NOT NULL, played INTEGER NOT NULL,
  LastPlayedDateInt INTEGER, PRIMARY KEY (UserDataKeyId, UserId)) WITHOUT ROWID;
";

const USERS: &str =
    "CREATE TABLE IF NOT EXISTS LocalUsersv2 (Id INTEGER PRIMARY KEY, guid TEXT NOT NULL, data BLOB);";

pub(super) struct Emby {
    rows: usize,
    library: LiveDatabase,
    images: Bulk,
}

impl Emby {
    pub(super) fn new(sizes: Sizes) -> Self {
        Self {
            rows: sizes.rows,
            library: LiveDatabase::new("backup/emby/data/library.db", SCHEMA),
            images: Bulk::new(sizes.files, sizes.file_bytes, image_path, content::png),
        }
    }
}

impl Workload for Emby {
    fn evolve(&mut self, stage: &mut Stage, day: u32) -> Result<()> {
        if day == 0 {
            stage.write(
                "backup/emby/config/system.xml",
                b"<ServerConfiguration>\n  <EnableUPnP>false</EnableUPnP>\n</ServerConfiguration>\n",
            )?;
            odd::plant(stage, "backup/emby/metadata/people")?;
        }
        self.images.evolve(stage, day)?;
        let log = content::text(&mut stage.rng, 1500);
        stage.write(format!("backup/emby/logs/embyserver-{day:03}.txt"), &log)?;
        database::write_quiet(stage, "backup/emby/data/users.db", USERS, |db, rng| {
            db.execute(
                "INSERT INTO LocalUsersv2 (guid, data) VALUES (?1, ?2)",
                params![hex::encode(content::noise(rng, 16)), content::json(rng, 300)],
            )
            .map(drop)
        })?;
        let (now, rows) = (stage.now().as_second(), self.rows);
        self.library.write(
            stage,
            |db, rng| if day == 0 { items(db, rng, rows, now) } else { Ok(()) },
            |db, rng| {
                db.execute(
                    "UPDATE MediaItems SET DateModified = ?1 WHERE Id % 50 = ?2",
                    params![now, day % 50],
                )?;
                items(db, rng, rows.div_ceil(20), now)
            },
        )
    }
}

fn items(db: &Transaction<'_>, rng: &mut StdRng, rows: usize, now: i64) -> rusqlite::Result<()> {
    let mut item = db.prepare(
        "INSERT INTO MediaItems (guid, Name, Path, DateCreated, DateModified, Images) VALUES (?1, ?2, ?3, ?4, ?4, ?5)",
    )?;
    let mut played = db.prepare("INSERT INTO UserDatas VALUES (?1, 1, ?2, ?3)")?;
    for _ in 0..rows {
        let name = content::title(rng);
        let path = format!("/media/{name}.mkv");
        let key =
            item.insert(params![hex::encode(content::noise(rng, 16)), name, path, now, "poster.png"])?;
        played.execute(params![key, rng.random_range(0..2), now])?;
    }
    Ok(())
}

fn image_path(number: usize) -> String {
    format!("backup/emby/metadata/library/{:02x}/{number:08x}/poster.png", number % 64)
}
