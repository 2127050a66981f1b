//! Engines: dumps and physical backups are loaded into the database that they came from.
//!
//! A dump that unpacks is not a database that starts. Each engine has one probe in a folder of its own; what they
//! share is here.
//!
//! | file | what lives there |
//! |---|---|
//! | `dumps` | which restored files are dumps, which of them are loaded, and how their content is read |
//! | [`etcd`] | snapshots of etcd |
//! | [`served`] | servers on restored databases, for applications and invariants |
//! | `session` | one examination with an engine: whether there is one, its cells, its phases |

pub(crate) mod dumps;
pub(crate) mod etcd;
pub(crate) mod mariadb;
pub(crate) mod postgres;
pub(crate) mod served;
pub(crate) mod session;
#[cfg(test)]
mod versions;
