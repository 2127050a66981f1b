//! Real files by real tools must stay green; damaged ones must not.

mod archives;
mod compression;
mod etcd;
mod hostile;
mod names;
mod postgres;
mod sql;
mod xbstream;
