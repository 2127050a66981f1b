//! firedrill's reader against real restic: what three generations of restic wrote, to disk and through a
//! rest-server, must come back exactly as restic itself brings it back, in good weather and in bad.
//!
//! | module | the story it tells |
//! |---|---|
//! | `matrix` | every restic, repository version and compression; tags; several keys |
//! | `served` | a real rest-server: passwords, private repositories, append-only, TLS |
//! | `healthy` | odd and fine: running and killed backups, locks, retention, holes, long paths |
//! | `weather` | servers that fail, lie, stall or cut the line |
//! | `support` | tools, trees, the comparator, the servers |
#![cfg(test)]

mod healthy;
mod matrix;
mod served;
mod support;
mod weather;
