//! What the stories are told with.

pub(crate) mod awkward;
pub(crate) mod compare;
pub(crate) mod faulty_server;
pub(crate) mod firedrill;
pub(crate) mod http;
pub(crate) mod rest_server;
pub(crate) mod restic;
pub(crate) mod tools;
