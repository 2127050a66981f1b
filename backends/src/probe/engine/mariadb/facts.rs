//! What backups and dumps say about themselves.

use std::collections::BTreeMap;

use firedrill_core::cell::Version;
use jiff::civil::DateTime;

use super::log;

/// The names of the file with the checkpoints, of new and old versions.
pub(super) const CHECKPOINTS: [&str; 2] = ["mariadb_backup_checkpoints", "xtrabackup_checkpoints"];
/// The names of the file with the backup information.
pub(super) const INFO: [&str; 2] = ["mariadb_backup_info", "xtrabackup_info"];
/// The name of the file with the server's settings.
pub(super) const SETTINGS: &str = "backup-my.cnf";

/// A value is kept up to this length: `tool_command` may be long, and is never shown.
const VALUE_MAX: usize = 400;

/// Settings without which a server cannot read the files, or reads them wrongly.
const FORMAT_SETTINGS: [&str; 5] = [
    "innodb_page_size",
    "innodb_data_file_path",
    "innodb_undo_tablespaces",
    "innodb_checksum_algorithm",
    "innodb_compression_level",
];

/// What a physical backup says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    info: BTreeMap<String, String>,
    checkpoints: BTreeMap<String, String>,
    settings: BTreeMap<String, String>,
}

impl Facts {
    /// Reads the contents of its three files.
    pub(super) fn of(info: &[u8], checkpoints: &[u8], settings: &[u8]) -> Self {
        Self { info: values(info), checkpoints: values(checkpoints), settings: values(settings) }
    }

    fn info(&self, key: &str) -> Option<&str> {
        self.info.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The version of the server, if it was a MariaDB.
    pub(super) fn version(&self) -> Option<Version> {
        let text = self.info("server_version").filter(|_| !self.is_foreign())?;
        text.parse().ok()
    }

    /// Whether another product made the backup, which MariaDB cannot read.
    pub(super) fn is_foreign(&self) -> bool {
        let named = |key: &str| self.info(key).unwrap_or_default();
        let server = named("server_version");
        !server.is_empty() && !server.contains("MariaDB") && !named("tool_version").contains("MariaDB")
    }

    /// The server, for people.
    pub(super) fn server(&self) -> String {
        log::plain(self.info("server_version").unwrap_or("an unknown version"), 80)
    }

    /// Whether it holds only what changed since another backup.
    pub(super) fn is_incremental(&self) -> bool {
        self.info("incremental") == Some("Y")
            || self.checkpoints.get("backup_type").is_some_and(|kind| kind == "incremental")
            || self.checkpoints.get("from_lsn").is_some_and(|lsn| lsn.parse::<u64>().is_ok_and(|lsn| lsn > 0))
    }

    /// The numbers of the log between which it holds the changes.
    pub(super) fn lsns(&self) -> Option<(u64, u64)> {
        let lsn = |key: &str| self.checkpoints.get(key).and_then(|lsn| lsn.parse().ok());
        Some((lsn("from_lsn")?, lsn("to_lsn")?))
    }

    /// Whether it holds chosen tables only.
    pub(super) fn is_partial(&self) -> bool {
        self.info("partial") == Some("Y")
    }

    /// Whether its files are compressed one by one.
    pub(super) fn is_compressed(&self) -> bool {
        self.info("compressed").is_some_and(|value| value != "N")
    }

    /// Whether it was prepared already.
    pub(super) fn is_prepared(&self) -> bool {
        let kind = self.checkpoints.get("backup_type").map_or("", String::as_str);
        matches!(kind, "log-applied" | "full-prepared")
    }

    /// Whether its tables are encrypted with a key that is kept elsewhere.
    pub(super) fn names_keys(&self) -> bool {
        self.settings.iter().any(|(key, value)| {
            key.starts_with("file_key_management")
                || key.starts_with("hashicorp_key")
                || key.starts_with("aws_key")
                || (key.starts_with("innodb_encrypt") && !matches!(value.as_str(), "0" | "OFF" | "off"))
                || (key.starts_with("plugin_load") && value.contains("key_management"))
        })
    }

    /// The end of the backup, in a time zone that nobody noted.
    pub(super) fn end(&self) -> Option<DateTime> {
        self.info("end_time").and_then(|text| text.parse().ok())
    }

    /// Where in the binary log the backup stands.
    pub(super) fn position(&self) -> Option<String> {
        self.info("binlog_pos").map(|text| log::plain(text, 200))
    }

    /// Arguments that let a server read the files.
    pub(super) fn arguments(&self) -> Vec<String> {
        let plain = |value: &str| {
            !value.is_empty() && value.bytes().all(|b| b.is_ascii_alphanumeric() || b":;._-,".contains(&b))
        };
        FORMAT_SETTINGS
            .iter()
            .filter_map(|key| Some((key, self.settings.get(*key)?)))
            .filter(|(_, value)| plain(value))
            .map(|(key, value)| format!("--{}={value}", key.replace('_', "-")))
            .collect()
    }
}

/// `key = value` lines.
fn values(content: &[u8]) -> BTreeMap<String, String> {
    String::from_utf8_lossy(content)
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.trim().replace('-', "_"), value.trim().chars().take(VALUE_MAX).collect()))
        .collect()
}

/// What the first lines of an SQL dump say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    /// The server's version, when it was a MariaDB.
    pub(super) version: Option<Version>,
    /// Whether the server was a MySQL.
    pub(super) is_mysql: bool,
    /// The server, for people.
    pub(super) server: String,
    /// The database that the dump was asked for; none for a dump of all.
    pub(super) database: Option<String>,
}

impl Header {
    /// Whether it comes from a MySQL that speaks another language than MariaDB: since version 8 its character sets,
    /// accounts and settings are its own.
    pub(super) fn needs_mysql(&self) -> bool {
        let major = self.server.split('.').next().and_then(|major| major.parse::<u32>().ok());
        self.is_mysql && major.is_some_and(|major| major >= 8)
    }

    /// Reads the comments at the beginning of a dump.
    pub(super) fn of(head: &[u8]) -> Self {
        let text = String::from_utf8_lossy(head);
        let mut header = Self::default();
        let mut tool_is_maria = false;
        for line in text.lines().take(60) {
            if line.starts_with("-- MariaDB dump") || line.starts_with("-- MySQL dump") {
                tool_is_maria |= line.contains("MariaDB");
            } else if let Some(database) =
                line.strip_prefix("-- Host:").and_then(|l| l.split_once("Database: "))
            {
                header.database = Some(database.1.to_owned()).filter(|name| !name.is_empty());
            } else if let Some(version) = line.strip_prefix("-- Server version") {
                header.server = log::plain(version.trim(), 80);
            }
        }
        let is_maria = header.server.contains("MariaDB") || (header.server.is_empty() && tool_is_maria);
        header.is_mysql = !(is_maria || tool_is_maria && header.server.starts_with('1'));
        // Some servers put `5.5.5-` in front, so that old clients do not stumble over the first number.
        let version = header.server.strip_prefix("5.5.5-").unwrap_or(&header.server);
        header.version = version.parse().ok().filter(|_| !header.is_mysql);
        header
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = "uuid = x\ntool_command = --password=hunter2 --backup\ntool_version = 10.11.19-MariaDB\n\
                        server_version = 10.11.19-MariaDB-0+deb12u1\nend_time = 2026-11-20 14:01:53\n\
                        binlog_pos = \npartial = N\nincremental = N\ncompressed = N\n";

    #[test]
    fn a_full_backup_is_understood_and_its_password_is_not_shown() {
        let facts = Facts::of(
            INFO.as_bytes(),
            b"backup_type = full-backuped\nfrom_lsn = 0\n",
            b"# x\n[mysqld]\ninnodb_page_size=16384\ninnodb_undo_directory=./\n\
              innodb_data_file_path=ibdata1:12M:autoextend\n",
        );
        assert_eq!(facts.version(), Some(Version::new(10, 11)));
        assert!(
            !facts.is_incremental() && !facts.is_partial() && !facts.is_prepared() && !facts.names_keys()
        );
        assert_eq!(
            facts.arguments(),
            ["--innodb-page-size=16384", "--innodb-data-file-path=ibdata1:12M:autoextend"]
        );
        assert!(facts.end().is_some() && facts.position().is_none());
        assert!(!facts.server().contains("hunter2"));
    }

    #[test]
    fn other_backups_are_told_apart() {
        let of = |info: &str, checkpoints: &str| Facts::of(info.as_bytes(), checkpoints.as_bytes(), b"");
        assert!(of("incremental = Y\n", "").is_incremental());
        assert!(of("", "backup_type = incremental\n").is_incremental());
        assert!(of("partial = Y\n", "").is_partial());
        assert!(of("", "backup_type = log-applied\n").is_prepared());
        let foreign = of("server_version = 8.0.36\ntool_name = xtrabackup\n", "");
        assert!(foreign.is_foreign() && foreign.version().is_none());
        let hostile =
            Facts::of(b"", b"", b"innodb_page_size=1 --init-file=/x\ninnodb_data_file_path=/etc/x\n");
        assert!(hostile.arguments().is_empty());
        assert!(Facts::of(b"", b"", b"plugin_load=file_key_management\n").names_keys());
    }

    #[test]
    fn headers_of_dumps_are_understood() {
        let maria = "/*M!999999\\- enable the sandbox mode */ \n-- MariaDB dump 10.19  Distrib 10.11.19-MariaDB, for x\n\
                     --\n-- Host: localhost    Database: shop\n-- ---\n-- Server version\t10.11.19-MariaDB-0+deb12u1\n";
        let header = Header::of(maria.as_bytes());
        assert_eq!(header.version, Some(Version::new(10, 11)));
        assert_eq!(header.database.as_deref(), Some("shop"));
        assert!(!header.is_mysql);
        let mysql = "-- MySQL dump 10.13  Distrib 8.0.36, for Linux (x86_64)\n--\n-- Host: db    Database: \n\
                     -- Server version\t8.0.36\n";
        let header = Header::of(mysql.as_bytes());
        assert!(header.needs_mysql());
        assert!(!Header::of(mysql.replace("8.0.36", "5.7.42").as_bytes()).needs_mysql());
        assert!(header.is_mysql && header.version.is_none() && header.database.is_none());
        let old =
            "-- MySQL dump 10.19  Distrib 10.5.23-MariaDB, for x\n-- Server version\t5.5.5-10.5.23-MariaDB\n";
        assert_eq!(Header::of(old.as_bytes()).version, Some(Version::new(10, 5)));
    }
}
