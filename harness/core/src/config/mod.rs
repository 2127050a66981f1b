//! What a person typed, and every mistake in it.
//!
//! | module | what lives there |
//! |---|---|
//! | [`model`], [`copies`], [`jobs`], [`notify`], [`runtime`], [`sinks`], [`settings`], [`trials`], [`databases`], [`units`], [`schedule`] | the typed config; its documentation becomes the schema |
//! | [`schema`] | the JSON schema: the check, the diagnostics and the editor support |
//! | [`problem`] | mistakes with line, column and what to write instead |
//! | `yaml` | text to values, with the place of each key and value |
//! | `explain` | schema errors in plain words |
//! | `semantic` | what a schema cannot say |
//!
//! [`load`] collects mistakes from all of these before it gives up, so that a person sees all of them
//! at once.

mod explain;
mod load;
mod semantic;
mod yaml;

pub mod copies;
pub mod databases;
pub mod jobs;
pub mod model;
pub mod notify;
pub mod objects;
pub mod problem;
pub mod runtime;
pub mod schedule;
pub mod schema;
pub mod settings;
pub mod sinks;
pub mod trials;
pub mod units;

#[cfg(test)]
mod examples;
#[cfg(test)]
mod tests;

pub(crate) use explain::closest;

pub use copies::{BackupKind, CopyConfig, CopyOptions, Role};
pub use load::{Loaded, load, read};
pub use model::{Canary, Config, OneOrMany, RestoreTest, TargetConfig};
pub use objects::ObjectPattern;
pub use problem::{Problem, Problems, Severity};
pub use schedule::{Cron, Timezone};
pub use schema::schema;
pub use sinks::{Pushgateway, Sinks};
pub use trials::GroupConfig;
