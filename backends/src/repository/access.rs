//! What is needed to reach a repository besides its address: the environment, the CA, limits.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use firedrill_core::watch::Watch;

/// The environment variables that were set when the command started. Tests hand in their own, so
/// nothing below reads the environment of the process. `Debug` shows names alone.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The environment of this process. Variables that are not UTF-8 are left out.
    pub fn capture() -> Self {
        let pairs = std::env::vars_os();
        Self(pairs.filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect())
    }

    /// The value of `name`. As in restic, an empty variable is an unset one.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Adds or replaces a variable.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.0.insert(name.to_owned(), value.to_owned());
        self
    }
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(pairs: I) -> Self {
        Self(pairs.into_iter().collect())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// What is needed to reach a repository besides its address.
#[derive(Clone, Debug)]
pub struct Access {
    /// Environment variables: credentials, regions, proxies.
    pub env: Environment,
    /// A file with CA certificates (PEM) that are trusted besides those of the system.
    pub ca_cert: Option<PathBuf>,
    /// The S3 region.
    pub region: Option<String>,
    /// Whether the bucket goes into the path; by default all but `amazonaws.com` have it there.
    pub path_style: Option<bool>,
    /// How long one request may take. Large S3 objects get more time in proportion to their size.
    pub request_timeout: Duration,
    /// How often a failed request is repeated.
    pub retries: usize,
    /// Options as restic takes them with `-o`: `s3.region`, `s3.bucket-lookup`; and `tls-client-cert`.
    pub options: BTreeMap<String, String>,
    /// Whoever works for somebody whose time is over does not try again.
    pub watch: Watch,
}

impl Access {
    /// Access with what `env` says, and defaults for the rest.
    pub fn from_environment(env: Environment) -> Self {
        let ca_cert = env.get("RESTIC_CACERT").map(PathBuf::from);
        Self {
            env,
            ca_cert,
            region: None,
            path_style: None,
            request_timeout: Duration::from_secs(120),
            retries: 4,
            options: BTreeMap::new(),
            watch: Watch::unlimited(),
        }
    }

    /// The same for somebody with this deadline and stop signal.
    #[must_use]
    pub fn watched(&self, watch: &Watch) -> Self {
        Self { watch: watch.clone(), ..self.clone() }
    }
}

impl Default for Access {
    fn default() -> Self {
        Self::from_environment(Environment::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_not_shown_and_empty_ones_are_unset() {
        let env = Environment::default().with("AWS_SECRET_ACCESS_KEY", "hunter2").with("EMPTY", "");
        let access = Access::from_environment(env.with("RESTIC_CACERT", "/ca.pem"));
        assert!(!format!("{access:?}").contains("hunter2"));
        assert!(format!("{access:?}").contains("AWS_SECRET_ACCESS_KEY"));
        assert_eq!(access.env.get("EMPTY"), None);
        assert_eq!(access.ca_cert, Some(PathBuf::from("/ca.pem")));
    }
}
