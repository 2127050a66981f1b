//! NextPVR: a database, logs, guide images, a named pipe and a recording with a hole.

use anyhow::Result;
use rand::RngExt as _;
use rusqlite::params;

use super::bulk::Bulk;
use super::stage::Stage;
use super::{Scale, Sizes, Workload, content, database};

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS channel (oid INTEGER PRIMARY KEY, name TEXT NOT NULL, number INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS epg_event (oid INTEGER PRIMARY KEY, title TEXT NOT NULL, start_time DATETIME NOT NULL,
  channel_oid INTEGER NOT NULL REFERENCES channel (oid));
CREATE INDEX IF NOT EXISTS epg_event_start ON epg_event (start_time);
";

pub(super) struct NextPvr {
    rows: usize,
    hole: u64,
    guide: Bulk,
}

impl NextPvr {
    pub(super) fn new(sizes: Sizes) -> Self {
        let small = sizes.rows <= Scale::Small.sizes().rows;
        Self {
            rows: sizes.rows,
            hole: if small { 256 << 10 } else { 4 << 20 },
            guide: Bulk::new(sizes.files, sizes.file_bytes, guide_path, content::png),
        }
    }
}

impl Workload for NextPvr {
    fn evolve(&mut self, stage: &mut Stage, day: u32) -> Result<()> {
        if day == 0 {
            stage.write(
                "backup/nextpvr/config/config.xml",
                b"<settings>\n  <Version>6.1.5</Version>\n</settings>\n",
            )?;
            stage.fifo("backup/nextpvr/scripts/notify")?;
            stage.sparse("backup/nextpvr/buffer/live.ts", b"G@\0\x10", self.hole)?;
        }
        let log = content::text(&mut stage.rng, 1200);
        stage.append("backup/nextpvr/logs/nrecord.log", &log)?;
        self.guide.evolve(stage, day)?;
        let (now, rows) = (stage.now().to_string(), self.rows);
        database::write_quiet(stage, "backup/nextpvr/config/npvr.db3", SCHEMA, |db, rng| {
            if day == 0 {
                for number in 1..=40 {
                    db.execute(
                        "INSERT INTO channel (name, number) VALUES (?1, ?2)",
                        params![content::title(rng), number],
                    )?;
                }
            }
            let mut insert =
                db.prepare("INSERT INTO epg_event (title, start_time, channel_oid) VALUES (?1, ?2, ?3)")?;
            for _ in 0..if day == 0 { rows } else { rows.div_ceil(20) } {
                insert.execute(params![content::title(rng), now, rng.random_range(1..=40)])?;
            }
            Ok(())
        })
    }
}

fn guide_path(number: usize) -> String {
    format!("backup/nextpvr/media/{:02}/{number:05}.png", number % 40)
}
