//! Six downloader applications in one target. Four of them have a live database.

use anyhow::Result;
use rand::RngExt as _;
use rand::rngs::StdRng;
use rusqlite::{Transaction, params};

use super::bulk::Bulk;
use super::database::LiveDatabase;
use super::stage::Stage;
use super::{Sizes, Workload, content};

const LIVE: [&str; 4] = ["sonarr", "radarr", "lidarr", "trailarr"];
const ALL: [&str; 6] = ["lidarr", "nzbget", "nzbhydra2", "radarr", "sonarr", "trailarr"];

const SCHEMA: &str = r#"
CREATE TABLE "VersionInfo" ("Version" INTEGER NOT NULL UNIQUE, "AppliedOn" DATETIME, "Description" TEXT);
INSERT INTO "VersionInfo" VALUES (1, '2024-01-01 00:00:00', 'InitialSetup');
INSERT INTO "VersionInfo" VALUES (192, '2025-06-01 00:00:00', 'add_path_index');
CREATE TABLE "Items" ("Id" INTEGER PRIMARY KEY AUTOINCREMENT, "Title" TEXT NOT NULL, "Path" TEXT NOT NULL,
  "Monitored" INTEGER NOT NULL, "Added" DATETIME);
CREATE INDEX "IX_Items_Path" ON "Items" ("Path");
CREATE TABLE "History" ("Id" INTEGER PRIMARY KEY AUTOINCREMENT, "ItemId" INTEGER NOT NULL REFERENCES "Items" ("Id"),
  "SourceTitle" TEXT NOT NULL, "Date" DATETIME NOT NULL, "Data" TEXT NOT NULL);
CREATE INDEX "IX_History_Date" ON "History" ("Date" DESC);
"#;

pub(super) struct Downloader {
    rows: usize,
    live: Vec<LiveDatabase>,
    media: Bulk,
}

impl Downloader {
    pub(super) fn new(sizes: Sizes) -> Self {
        let database = |app: &&str| LiveDatabase::new(format!("backup/downloader/{app}/{app}.db"), SCHEMA);
        Self {
            rows: sizes.rows,
            live: LIVE.iter().map(database).collect(),
            media: Bulk::new(sizes.files, sizes.file_bytes, media_path, media_file),
        }
    }
}

impl Workload for Downloader {
    fn evolve(&mut self, stage: &mut Stage, day: u32) -> Result<()> {
        if day == 0 {
            settings(stage)?;
        }
        for app in ALL {
            let log = content::text(&mut stage.rng, 900);
            stage.append(format!("backup/downloader/{app}/logs/{app}.txt"), &log)?;
        }
        self.media.evolve(stage, day)?;
        if day == 0 {
            // Downloads are imported by hard link.
            for number in [2, 8] {
                stage.hard_link(
                    media_path(number),
                    format!("backup/downloader/nzbget/completed/{number}.png"),
                )?;
            }
        }
        let (now, rows) = (stage.now().to_string(), self.rows);
        for database in &mut self.live {
            let items = rows / 10 + 1;
            let settle = |db: &Transaction<'_>, rng: &mut StdRng| {
                if day > 0 {
                    return Ok(());
                }
                for _ in 0..items {
                    let title = content::title(rng);
                    db.execute(
                        r#"INSERT INTO "Items" ("Title", "Path", "Monitored", "Added") VALUES (?1, ?2, 1, ?3)"#,
                        params![title, format!("/media/{title}"), now],
                    )?;
                }
                history(db, rng, rows, items, &now)
            };
            let fresh =
                |db: &Transaction<'_>, rng: &mut StdRng| history(db, rng, rows.div_ceil(20), items, &now);
            database.write(stage, settle, fresh)?;
        }
        Ok(())
    }
}

fn history(
    db: &Transaction<'_>,
    rng: &mut StdRng,
    rows: usize,
    items: usize,
    now: &str,
) -> rusqlite::Result<()> {
    let mut insert = db.prepare(
        r#"INSERT INTO "History" ("ItemId", "SourceTitle", "Date", "Data") VALUES (?1, ?2, ?3, ?4)"#,
    )?;
    for _ in 0..rows {
        let data =
            format!(r#"{{"indexer": "{}", "size": {}}}"#, content::word(rng), rng.random_range(1..1 << 30));
        insert.execute(params![rng.random_range(1..=items as u32), content::title(rng), now, data])?;
    }
    Ok(())
}

fn settings(stage: &mut Stage) -> Result<()> {
    for app in ALL {
        let port = stage.rng.random_range(1024..9999);
        let config =
            format!("<Config>\n  <InstanceName>{app}</InstanceName>\n  <Port>{port}</Port>\n</Config>\n");
        stage.write_with_mode(format!("backup/downloader/{app}/config.xml"), config.as_bytes(), 0o600)?;
    }
    stage.write("backup/downloader/nzbget/queue/queue", b"nzbget diskstate file version 62\n0\n")?;
    let mut h2 = b"H:2,block:3,blockSize:1000,chunk:7,clean:1,created:18c0,format:2,version:7\n".to_vec();
    h2.resize(4096, 0);
    let pages = content::noise(&mut stage.rng, 12 << 10);
    h2.extend_from_slice(&pages);
    stage.write("backup/downloader/nzbhydra2/database/nzbhydra.mv.db", &h2)
}

fn media_path(number: usize) -> String {
    let app = LIVE.get(number % 3).copied().unwrap_or("sonarr");
    let extension = if number.is_multiple_of(2) { "png" } else { "nfo" };
    format!("backup/downloader/{app}/MediaCover/{:03}/{number}.{extension}", number / 16)
}

fn media_file(rng: &mut StdRng, length: usize) -> Vec<u8> {
    if rng.random_ratio(1, 2) { content::png(rng, length) } else { content::text(rng, length) }
}
