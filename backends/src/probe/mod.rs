//! Probes: what is looked at in restored data. Each file opens with what it verifies and what it does
//! not.

pub mod app;
mod bases;
mod bringing;
pub mod canary;
pub mod check;
pub mod digests;
pub(crate) mod engine;
#[cfg(test)]
pub(crate) mod fixture;
pub mod freshness;
pub mod group;
pub mod shape;
pub mod sqlite;
pub mod structure;
mod tables;
pub mod tree;

#[cfg(test)]
mod fleet;
#[cfg(test)]
mod made;
mod names;
mod restored;
mod rows;

use firedrill_core::ports::Probe;

/// All probes, in the order in which they examine.
pub fn all() -> Vec<Box<dyn Probe>> {
    let mut probes: Vec<Box<dyn Probe>> = vec![
        Box::new(tree::TreeProbe),
        Box::new(shape::ShapeProbe),
        Box::new(freshness::FreshnessProbe),
        Box::new(canary::CanaryProbe),
        Box::new(sqlite::SqliteProbe),
        Box::new(digests::DigestsProbe),
    ];
    probes.extend(structure::all());
    probes.push(Box::new(engine::postgres::PostgresProbe));
    probes.push(Box::new(engine::mariadb::MariadbProbe));
    probes.push(Box::new(engine::etcd::EtcdProbe));
    probes.push(Box::new(group::GroupProbe));
    probes.push(Box::new(check::CheckProbe));
    probes.push(Box::new(app::AppProbe));
    probes
}
