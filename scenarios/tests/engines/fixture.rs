//! One repository with backups of real servers, each under a tag of its own, whole and damaged.
//!
//! | tag | what it holds |
//! |---|---|
//! | `pg-plain` | `pg_dump`, gzipped |
//! | `pg-custom` | `pg_dump --format=custom` |
//! | `pg-cluster` | `pg_dumpall` |
//! | `maria-stream` | `mariadb-backup --stream=xbstream` |
//! | `maria-dump` | `mariadb-dump` |
//! | `etcd` | `etcdctl snapshot save` |
//! | `bad-pg-cut` | a dump that ends in the middle of a row, in a whole gzip |
//! | `bad-pg-statement` | a dump with a statement that PostgreSQL refuses |
//! | `bad-maria-page` | a stream of a prepared backup with a damaged page in a table |
//! | `bad-etcd-byte` | a snapshot with a flipped byte |

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use firedrill_core::secret::Secret;
use firedrill_scenarios::fleet::{Job, TestRepository};
use jiff::{SignedDuration, Timestamp};

use crate::need::folder;
use crate::servers::{Etcd, MariaDb, Postgres, streamed};
use crate::shared::Shared;

pub(crate) const PASSWORD: &str = "engines-fixture";
/// The tags of whole backups, with the probe that loads each.
pub(crate) const HEALTHY: [(&str, &str); 6] = [
    ("pg-plain", "postgres"),
    ("pg-custom", "postgres"),
    ("pg-cluster", "postgres"),
    ("maria-stream", "mariadb"),
    ("maria-dump", "mariadb"),
    ("etcd", "etcd"),
];
/// The tags of damaged ones.
pub(crate) const DAMAGED: [(&str, &str); 4] = [
    ("bad-pg-cut", "postgres"),
    ("bad-pg-statement", "postgres"),
    ("bad-maria-page", "mariadb"),
    ("bad-etcd-byte", "etcd"),
];
/// The words that end a dump of PostgreSQL.
pub(crate) const COMPLETE: &str = "--\n-- PostgreSQL database dump complete";

const SHOP: &str = "
    CREATE ROLE clerk LOGIN;
    CREATE TABLE customers (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL UNIQUE);
    CREATE TABLE orders (id serial PRIMARY KEY, customer int NOT NULL REFERENCES customers, note text, at timestamptz);
    CREATE INDEX ON orders (customer, at);
    CREATE VIEW busy AS SELECT customer, count(*) FROM orders GROUP BY 1 HAVING count(*) > 3;
    CREATE FUNCTION double(n int) RETURNS int LANGUAGE sql AS $$ SELECT n * 2; $$;
    INSERT INTO customers (name) SELECT 'customer ' || n FROM generate_series(1, 200) n;
    INSERT INTO orders (customer, note, at)
      SELECT 1 + n % 200, 'it''s order ' || n || E'\\n\\\\.\\ttab', now() FROM generate_series(1, 1500) n;
    GRANT SELECT ON orders TO clerk;";

const MARIA_SHOP: &str = "
    create database shop; use shop;
    create table orders (id int primary key auto_increment, name varchar(100), body text, key (name)) engine=innodb;
    insert into orders (name, body)
      select concat('order ', seq, \"'\\\\;--\"), repeat(concat('w', seq, ' '), 20) from seq_1_to_1000;
    create table child (id int primary key, parent int, foreign key (parent) references orders (id)) engine=innodb;
    insert into child select seq, seq from seq_1_to_100;
    create table notes (id int, x varchar(20)) engine=aria; insert into notes values (1, 'a'), (2, 'b');
    create view v as select id from child;";

/// The fixture, which stays as it is while this value lives.
pub(crate) struct Fixture(Shared);

impl Fixture {
    pub(crate) fn shared() -> Result<Self> {
        Shared::get("engines-fixture", make).map(Self)
    }

    pub(crate) fn repository(&self) -> PathBuf {
        self.0.root.join("repository")
    }

    /// The file that was backed up under `tag`.
    pub(crate) fn file(&self, tag: &str) -> Result<Vec<u8>> {
        let folder = self.0.root.join("source").join(tag).join("backup").join(tag);
        let file = fs::read_dir(folder)?.next().with_context(|| format!("{tag} holds nothing"))?;
        Ok(fs::read(file?.path())?)
    }

    /// The plain dump, unpacked.
    pub(crate) fn dump(&self) -> Result<String> {
        let mut text = String::new();
        let packed = self.file("pg-plain")?;
        std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(packed.as_slice()), &mut text)?;
        Ok(text)
    }
}

fn make(root: &Path, now: Timestamp) -> Result<()> {
    let repository = TestRepository::init(&root.join("repository"), &Secret::new(PASSWORD))?;
    let source = root.join("source");
    let keep = |tag: &str, name: &str, content: &[u8]| back_up(&repository, &source, tag, name, content, now);

    let postgres = Postgres::start()?;
    postgres.sql("postgres", "CREATE DATABASE shop")?;
    postgres.sql("shop", SHOP)?;
    let plain = postgres.dump("pg_dump", &["shop"])?;
    keep("pg-plain", "shop.sql.gz", &gzip(&plain)?)?;
    keep("pg-custom", "shop.dump", &postgres.dump("pg_dump", &["--format=custom", "shop"])?)?;
    keep("pg-cluster", "all.sql", &postgres.dump("pg_dumpall", &[])?)?;
    drop(postgres);
    let text = String::from_utf8(plain)?;
    let row = text.find("order 750").context("the dump has rows")?;
    keep("bad-pg-cut", "shop.sql.gz", &gzip(&text.as_bytes()[..row])?)?;
    let refused = text.replacen(COMPLETE, &format!("SELECT no_such_function();\n\n{COMPLETE}"), 1);
    keep("bad-pg-statement", "shop.sql.gz", &gzip(refused.as_bytes())?)?;

    let mariadb = MariaDb::start()?;
    mariadb.sql(MARIA_SHOP)?;
    keep("maria-dump", "shop.sql", &mariadb.dump(&["shop"])?)?;
    keep("maria-stream", "mariadb.xb", &mariadb.stream()?)?;
    let prepared = folder();
    mariadb.prepared(prepared.path())?;
    drop(mariadb);
    let table = prepared.path().join("shop/orders.ibd");
    let mut pages = fs::read(&table)?;
    let row = pages.windows(10).position(|window| window == b"w500 w500 ").context("the table has rows")?;
    pages[row + 3] ^= 0x80;
    fs::write(&table, pages)?;
    keep("bad-maria-page", "mariadb.xb", &streamed(prepared.path())?)?;

    let etcd = Etcd::start()?;
    etcd.put(300)?;
    let mut snapshot = etcd.snapshot()?;
    keep("etcd", "etcd-snapshot.db", &snapshot)?;
    let value = snapshot.windows(9).position(|window| window == b"value 150").context("etcd has keys")?;
    snapshot[value] ^= 0x04;
    keep("bad-etcd-byte", "etcd-snapshot.db", &snapshot)
}

/// Backs up one file under a tag of its own, an hour before `now`.
pub(crate) fn back_up(
    repository: &TestRepository,
    source: &Path,
    tag: &str,
    name: &str,
    content: &[u8],
    now: Timestamp,
) -> Result<()> {
    let time = now.checked_sub(SignedDuration::from_hours(1))?;
    let (root, path) = (source.join(tag), format!("/backup/{tag}"));
    let folder = root.join("backup").join(tag);
    fs::create_dir_all(&folder)?;
    let mut file = fs::File::create(folder.join(name))?;
    file.write_all(content)?;
    file.set_modified(time.into())?;
    let job = Job { root: &root, paths: &[&path], excludes: &[], tags: &[tag], host: tag, time };
    repository.snapshot(&job).map(drop)
}

pub(crate) fn gzip(content: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(content)?;
    Ok(encoder.finish()?)
}
