//! Rules against those of restic, on random snapshots.
