//! The catalogue: one file for each fault.
//!
//! | where a fault comes from | files |
//! |---|---|
//! | files of the repository that are damaged, by the operators of [`crate::damage`] | `*_bit`, `pack_*`, `snapshot_*`, … |
//! | the latest snapshot, changed and backed up again as the next one | `dump_*`, `sqlite_*`, `volume_*`, … |
//! | snapshots that are dropped | `history_gone`, `tag_forgotten` |

use super::fault::Fault;

/// Each name is a file with a `FAULT` in it.
macro_rules! faults {
    ($($name:ident),+ $(,)?) => {
        $(mod $name;)+

        /// All faults, by name.
        pub static FAULTS: &[Fault] = &[$($name::FAULT),+];
    };
}

faults! {
    blobs_swapped,
    config_bit,
    data_bit,
    dump_cut,
    dump_died,
    dump_empty,
    dump_is_error,
    dump_of_nothing,
    dump_stale,
    dump_without_rows,
    exclude_too_broad,
    future_snapshot,
    header_bit,
    history_gone,
    index_bit,
    index_deleted,
    index_replaced,
    key_bit,
    keys_deleted,
    mass_deletion,
    nested_mount,
    other_host,
    owners_lost,
    pack_deleted,
    pack_overwritten,
    pack_truncated,
    pack_zeroed,
    packs_swapped,
    path_is_link,
    path_missing,
    ransomware,
    ransomware_in_place,
    sector_zeroed,
    snapshot_bit,
    snapshot_deleted,
    snapshot_empty,
    snapshot_outdated,
    snapshot_replaced,
    source_bit_rot,
    sqlite_torn,
    sqlite_without_wal,
    tag_forgotten,
    tree_bit,
    tree_pack_deleted,
    volume_empty,
    volume_fresh,
}

/// The fault called `name`.
pub fn named(name: &str) -> Option<&'static Fault> {
    FAULTS.iter().find(|fault| fault.name == name)
}
