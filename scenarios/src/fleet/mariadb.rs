//! MariaDB: a dump in plain SQL, as `mariadb-dump` 10.11 writes it, overwritten each day.

use anyhow::Result;
use rand::RngExt as _;

use super::stage::Stage;
use super::{Sizes, Workload, content};

const DUMP: &str = "backup/mariadb/shop.sql";
/// Rows per INSERT statement.
const BATCH: usize = 200;

const HEAD: &str = "/*M!999999\\- enable the sandbox mode */
-- MariaDB dump 10.19  Distrib 10.11.6-MariaDB, for debian-linux-gnu (x86_64)
--
-- Host: localhost    Database: shop
-- ------------------------------------------------------
-- Server version\t10.11.6-MariaDB

/*!40101 SET @OLD_CHARACTER_SET_CLIENT=@@CHARACTER_SET_CLIENT */;
/*!40101 SET NAMES utf8mb4 */;
/*!40103 SET @OLD_TIME_ZONE=@@TIME_ZONE */;
/*!40103 SET TIME_ZONE='+00:00' */;
/*!40014 SET @OLD_UNIQUE_CHECKS=@@UNIQUE_CHECKS, UNIQUE_CHECKS=0 */;
/*!40014 SET @OLD_FOREIGN_KEY_CHECKS=@@FOREIGN_KEY_CHECKS, FOREIGN_KEY_CHECKS=0 */;
/*!40101 SET @OLD_SQL_MODE=@@SQL_MODE, SQL_MODE='NO_AUTO_VALUE_ON_ZERO' */;
";

const TAIL: &str = "/*!40103 SET TIME_ZONE=@OLD_TIME_ZONE */;

/*!40101 SET SQL_MODE=@OLD_SQL_MODE */;
/*!40014 SET FOREIGN_KEY_CHECKS=@OLD_FOREIGN_KEY_CHECKS */;
/*!40014 SET UNIQUE_CHECKS=@OLD_UNIQUE_CHECKS */;
/*!40101 SET CHARACTER_SET_CLIENT=@OLD_CHARACTER_SET_CLIENT */;
";

const TABLES: [(&str, &str); 2] = [
    (
        "accounts",
        "  `id` bigint(20) NOT NULL,\n  `name` varchar(200) NOT NULL,\n  `opened` datetime NOT NULL,\n  PRIMARY KEY (`id`)\n",
    ),
    (
        "entries",
        "  `id` bigint(20) NOT NULL,\n  `account` bigint(20) NOT NULL,\n  `cents` int(11) NOT NULL,\n  `note` text DEFAULT NULL,\n  \
         PRIMARY KEY (`id`),\n  KEY `account` (`account`),\n  \
         CONSTRAINT `entries_account` FOREIGN KEY (`account`) REFERENCES `accounts` (`id`)\n",
    ),
];

pub(super) struct MariaDb {
    start: usize,
    /// The rows of each table, as they stand in its INSERT statements.
    rows: [Vec<String>; 2],
}

impl MariaDb {
    pub(super) fn new(sizes: Sizes) -> Self {
        Self { start: sizes.rows, rows: Default::default() }
    }

    fn dump(&self, now: &str) -> String {
        let mut dump = HEAD.to_owned();
        for ((table, columns), rows) in TABLES.iter().zip(&self.rows) {
            dump.push_str(&format!(
                "\n--\n-- Table structure for table `{table}`\n--\n\nDROP TABLE IF EXISTS `{table}`;\n\
                 CREATE TABLE `{table}` (\n{columns}) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci;\n\n\
                 --\n-- Dumping data for table `{table}`\n--\n\nLOCK TABLES `{table}` WRITE;\n"
            ));
            for batch in rows.chunks(BATCH) {
                dump.push_str(&format!("INSERT INTO `{table}` VALUES\n{};\n", batch.join(",\n")));
            }
            dump.push_str("UNLOCK TABLES;\n");
        }
        dump.push_str(TAIL);
        dump.push_str(&format!("\n-- Dump completed on {now}\n"));
        dump
    }
}

impl Workload for MariaDb {
    fn evolve(&mut self, stage: &mut Stage, day: u32) -> Result<()> {
        let now = stage.now().strftime("%Y-%m-%d %H:%M:%S").to_string();
        let new = if day == 0 { self.start } else { self.start.div_ceil(20) };
        let [accounts, entries] = &mut self.rows;
        for _ in 0..new {
            let id = accounts.len() + 1;
            accounts.push(format!("({id},'{}','{now}')", quoted(&content::title(&mut stage.rng))));
            for _ in 0..2 {
                let entry = entries.len() + 1;
                let account = stage.rng.random_range(1..=id);
                let cents = stage.rng.random_range(-90_000..90_000);
                let note = quoted(&content::title(&mut stage.rng));
                entries.push(format!("({entry},{account},{cents},'{note}')"));
            }
        }
        stage.write_with_mode(DUMP, self.dump(&now).as_bytes(), 0o600)
    }
}

fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\'', "\\'")
}
