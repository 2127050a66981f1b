//! Paperless: documents in three roots. The database knows the MD5 of each original and of each archive
//! copy, so that files and database can be proven to fit.

use anyhow::Result;
use md5::{Digest as _, Md5};
use rusqlite::params;

use super::stage::Stage;
use super::{Sizes, Workload, content, database};

const DATABASE: &str = "backup/paperless-data/db.sqlite3";

const SCHEMA: &str = r#"
CREATE TABLE IF NOT EXISTS "documents_document" ("id" integer NOT NULL PRIMARY KEY AUTOINCREMENT,
  "title" varchar(128) NOT NULL, "content" text NOT NULL, "created" datetime NOT NULL, "modified" datetime NOT NULL,
  "checksum" varchar(32) NOT NULL UNIQUE, "added" datetime NOT NULL, "filename" varchar(1024) NULL UNIQUE,
  "archive_checksum" varchar(32) NULL, "archive_filename" varchar(1024) NULL UNIQUE, "mime_type" varchar(256) NOT NULL);
CREATE TABLE IF NOT EXISTS "documents_tag" ("id" integer NOT NULL PRIMARY KEY AUTOINCREMENT, "name" varchar(128) NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS "documents_document_tags" ("id" integer NOT NULL PRIMARY KEY AUTOINCREMENT,
  "document_id" integer NOT NULL REFERENCES "documents_document" ("id") DEFERRABLE INITIALLY DEFERRED,
  "tag_id" integer NOT NULL REFERENCES "documents_tag" ("id") DEFERRABLE INITIALLY DEFERRED);
"#;

pub(super) struct Paperless {
    start: usize,
    bytes: usize,
    next: usize,
}

/// One document, as the database knows it.
struct Document {
    number: usize,
    title: String,
    checksum: String,
    archive_checksum: String,
}

impl Paperless {
    pub(super) fn new(sizes: Sizes) -> Self {
        // Each document is four files.
        Self { start: sizes.files.div_ceil(4), bytes: sizes.file_bytes, next: 1 }
    }

    fn add(&mut self, stage: &mut Stage) -> Result<Document> {
        let number = self.next;
        self.next += 1;
        let original = content::pdf(&mut stage.rng, self.bytes);
        let archive = content::pdf(&mut stage.rng, self.bytes);
        let thumbnail = content::png(&mut stage.rng, self.bytes / 2);
        let documents = "backup/paperless-media/documents";
        stage.write(format!("{documents}/originals/{number:07}.pdf"), &original)?;
        stage.write(format!("{documents}/archive/{number:07}.pdf"), &archive)?;
        stage.write(format!("{documents}/thumbnails/{number:07}.png"), &thumbnail)?;
        stage.write(format!("backup/paperless-export/{number:07}.pdf"), &original)?;
        Ok(Document {
            number,
            title: content::title(&mut stage.rng),
            checksum: md5(&original),
            archive_checksum: md5(&archive),
        })
    }
}

impl Workload for Paperless {
    fn evolve(&mut self, stage: &mut Stage, day: u32) -> Result<()> {
        let count = if day == 0 { self.start } else { self.start.div_ceil(50) };
        let documents: Vec<_> = (0..count).map(|_| self.add(stage)).collect::<Result<_>>()?;
        let now = stage.now().to_string();
        database::write_quiet(stage, DATABASE, SCHEMA, |db, _| {
            if day == 0 {
                db.execute("INSERT INTO documents_tag (name) VALUES ('inbox'), ('invoice')", [])?;
            }
            for document in &documents {
                db.execute(
                    "INSERT INTO documents_document (title, content, created, modified, checksum, added, filename,
                       archive_checksum, archive_filename, mime_type)
                     VALUES (?1, ?1, ?2, ?2, ?3, ?2, ?4, ?5, ?4, 'application/pdf')",
                    params![
                        document.title,
                        now,
                        document.checksum,
                        format!("{:07}.pdf", document.number),
                        document.archive_checksum
                    ],
                )?;
                db.execute(
                    "INSERT INTO documents_document_tags (document_id, tag_id) VALUES (?1, 1)",
                    [db.last_insert_rowid()],
                )?;
            }
            Ok(())
        })?;
        let manifest = format!(
            "[{{\"model\": \"documents.document\", \"count\": {}, \"exported\": \"{now}\"}}]\n",
            self.next - 1
        );
        stage.write("backup/paperless-export/manifest.json", manifest.as_bytes())?;
        let index = content::noise(&mut stage.rng, 2048);
        stage.write("backup/paperless-data/index/MAIN.seg", &index)?;
        let log = content::text(&mut stage.rng, 800);
        stage.append("backup/paperless-data/log/paperless.log", &log)
    }
}

fn md5(content: &[u8]) -> String {
    hex::encode(Md5::digest(content))
}
