//! The snapshot that a backup builds on.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use firedrill_core::error::Result;
use firedrill_core::manifest::Digest;
use firedrill_core::snapshot::Snapshot;
use firedrill_core::watch::Watch;
use jiff::Timestamp;

use super::super::catalog::Catalog;
use super::super::fetch::{Fetch, Times};
use super::super::node::unquote;
use super::super::store::Store;
use super::node::Node;

/// Reads trees of the parent snapshot. What cannot be read has no parent: it is then saved anew.
pub(super) struct Parents<'a> {
    pub(super) store: &'a Store,
    pub(super) catalog: &'a Catalog,
    pub(super) watch: &'a Watch,
}

impl Parents<'_> {
    /// The entries of a tree by name.
    pub(super) fn entries(&self, tree: &Digest) -> Result<BTreeMap<Vec<u8>, Node>> {
        #[derive(serde::Deserialize)]
        struct Tree {
            #[serde(default)]
            nodes: Option<Vec<serde_json::Value>>,
        }
        let Some(json) = fetch_tree(self.store, self.catalog, tree, self.watch)? else {
            return Ok(BTreeMap::new());
        };
        let tree: Tree = serde_json::from_slice(&json).unwrap_or(Tree { nodes: None });
        let named = |value| {
            let node: Node = serde_json::from_value(value).ok()?;
            Some((unquote(&node.name)?, node))
        };
        Ok(tree.nodes.unwrap_or_default().into_iter().filter_map(named).collect())
    }
}

/// The content of one tree blob; nothing when it is damaged or gone.
pub(super) fn fetch_tree(
    store: &Store,
    catalog: &Catalog,
    tree: &Digest,
    watch: &Watch,
) -> Result<Option<Vec<u8>>> {
    let times = Times::default();
    let fetch = Fetch { store, catalog, trees: true, workers: 1, watch, times: &times };
    let found = Mutex::new(None);
    fetch.run(&[*tree], &|_: &Digest, content: Result<&[u8], &str>| {
        *found.lock().unwrap_or_else(PoisonError::into_inner) = content.ok().map(<[u8]>::to_vec);
        Ok(())
    })?;
    Ok(found.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// The newest snapshot of the same host and paths that is not later than `now`.
pub(super) fn choose<'s>(
    snapshots: &'s [Snapshot],
    host: &str,
    paths: &[String],
    now: Timestamp,
) -> Option<&'s Snapshot> {
    let sorted = |paths: &[String]| {
        let mut paths = paths.to_vec();
        paths.sort();
        paths
    };
    let wanted = sorted(paths);
    snapshots
        .iter()
        .filter(|one| one.host == host && one.time <= now && sorted(&one.paths) == wanted)
        .max_by(|a, b| (a.time, &a.id).cmp(&(b.time, &b.id)))
}
