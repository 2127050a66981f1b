//! Grafana: one database, plugin folders, and the `lost+found` of its volume.

use anyhow::Result;
use rand::RngExt as _;
use rand::rngs::StdRng;
use rusqlite::params;

use super::bulk::Bulk;
use super::stage::Stage;
use super::{Sizes, Workload, content, database};

const DATABASE: &str = "backup/grafana/grafana.db";

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS migration_log (id INTEGER PRIMARY KEY AUTOINCREMENT, migration_id TEXT NOT NULL,
  sql TEXT NOT NULL, success INTEGER NOT NULL, error TEXT NOT NULL, timestamp DATETIME NOT NULL);
CREATE TABLE IF NOT EXISTS org (id INTEGER PRIMARY KEY AUTOINCREMENT, version INTEGER NOT NULL, name TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS user (id INTEGER PRIMARY KEY AUTOINCREMENT, login TEXT NOT NULL UNIQUE, name TEXT,
  org_id INTEGER NOT NULL REFERENCES org (id), is_admin INTEGER NOT NULL, created DATETIME NOT NULL);
CREATE TABLE IF NOT EXISTS dashboard (id INTEGER PRIMARY KEY AUTOINCREMENT, version INTEGER NOT NULL,
  slug TEXT NOT NULL, title TEXT NOT NULL, data TEXT NOT NULL, org_id INTEGER NOT NULL REFERENCES org (id),
  created DATETIME NOT NULL, updated DATETIME NOT NULL);
CREATE INDEX IF NOT EXISTS idx_dashboard_org_id ON dashboard (org_id);
CREATE UNIQUE INDEX IF NOT EXISTS idx_dashboard_slug ON dashboard (org_id, slug);
CREATE TABLE IF NOT EXISTS annotation (id INTEGER PRIMARY KEY AUTOINCREMENT, dashboard_id INTEGER,
  text TEXT NOT NULL, epoch INTEGER NOT NULL);
";

pub(super) struct Grafana {
    rows: usize,
    plugins: Bulk,
}

impl Grafana {
    pub(super) fn new(sizes: Sizes) -> Self {
        Self { rows: sizes.rows, plugins: Bulk::new(sizes.files, sizes.file_bytes, plugin_path, plugin_file) }
    }
}

impl Workload for Grafana {
    fn evolve(&mut self, stage: &mut Stage, day: u32) -> Result<()> {
        if day == 0 {
            stage.write("backup/grafana/lost+found/#1048577", b"what fsck found\n")?;
            stage.folder("backup/grafana/csv")?;
            stage.write("backup/grafana/grafana.ini", b"[server]\nhttp_port = 3000\n")?;
        }
        self.plugins.evolve(stage, day)?;
        if day == 0 {
            stage.symlink("backup/grafana/plugins/current", "plugin-000")?;
        }
        let (now, rows) = (stage.now().to_string(), self.rows);
        database::write_quiet(stage, DATABASE, SCHEMA, |db, rng| {
            if day == 0 {
                db.execute("INSERT INTO org (version, name) VALUES (1, 'Main Org.')", [])?;
                db.execute("INSERT INTO user (login, name, org_id, is_admin, created) VALUES ('admin', 'admin', 1, 1, ?1)", [&now])?;
                for number in 0..40 {
                    db.execute(
                        "INSERT INTO migration_log (migration_id, sql, success, error, timestamp) VALUES (?1, 'SELECT 1', 1, '', ?2)",
                        params![format!("migration {number}"), now],
                    )?;
                }
            }
            let (dashboards, annotations) = if day == 0 { (12, rows) } else { (1, rows.div_ceil(20)) };
            for number in 0..dashboards {
                let data = String::from_utf8(content::json(rng, 3000)).unwrap_or_default();
                db.execute(
                    "INSERT INTO dashboard (version, slug, title, data, org_id, created, updated) VALUES (1, ?1, ?2, ?3, 1, ?4, ?4)",
                    params![format!("board-{day}-{number}"), content::title(rng), data, now],
                )?;
            }
            db.execute(
                "UPDATE dashboard SET version = version + 1, updated = ?1 WHERE id % 5 = ?2",
                params![now, day % 5],
            )?;
            let mut insert =
                db.prepare("INSERT INTO annotation (dashboard_id, text, epoch) VALUES (?1, ?2, ?3)")?;
            for _ in 0..annotations {
                insert.execute(params![
                    rng.random_range(1..12),
                    content::title(rng),
                    rng.random_range(0..1_000_000_000)
                ])?;
            }
            Ok(())
        })
    }
}

fn plugin_path(number: usize) -> String {
    let extension = ["json", "js", "png", "svg"].get(number % 4).copied().unwrap_or("js");
    format!("backup/grafana/plugins/plugin-{:03}/dist/part-{:04}.{extension}", number / 24, number)
}

fn plugin_file(rng: &mut StdRng, length: usize) -> Vec<u8> {
    match rng.random_range(0..3) {
        0 => content::json(rng, length),
        1 => content::text(rng, length),
        _ => content::png(rng, length),
    }
}
