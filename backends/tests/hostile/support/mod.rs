//! What the stories are told with.

pub(crate) mod craft;
pub(crate) mod drill;
pub(crate) mod place;

pub(crate) use firedrill_testing::skip;

/// Whether this process may change owners and do what scratch withholds.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
