//! Who is told when something changes.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::units::Span;

/// Who is told when a job or a backup goes bad, and when it is well again. E-mail is left to Alertmanager.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Notify {
    /// A topic of an ntfy server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ntfy: Option<Ntfy>,
    /// Webhooks: each gets a JSON document by POST.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub webhooks: Vec<Webhook>,
    /// What is still bad is told again after this time, all in one message. Default: once a day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat: Option<Span>,
}

/// A topic of an ntfy server. See <https://docs.ntfy.sh/publish/>.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ntfy {
    /// The server.
    #[schemars(length(min = 1))]
    pub server: String,
    /// The topic.
    #[schemars(length(min = 1))]
    pub topic: String,
    /// From 1 (lowest) to 5 (highest).
    #[schemars(range(min = 1, max = 5))]
    pub priority: u8,
    /// Tags, some of which are shown as symbols.
    pub tags: Vec<String>,
    /// Environment variable with an access token.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub token_env: Option<String>,
    /// User name for basic authentication.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Environment variable with the password of that user.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub password_env: Option<String>,
}

impl Default for Ntfy {
    fn default() -> Self {
        Self {
            server: "https://ntfy.sh".to_owned(),
            topic: "backup".to_owned(),
            priority: 4,
            tags: vec!["bangbang".to_owned()],
            token_env: None,
            username: None,
            password_env: None,
        }
    }
}

/// A URL that gets a JSON document by POST: its own, or one named by an environment variable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Webhook {
    /// The URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub url: Option<String>,
    /// Environment variable with the URL, where the URL itself is a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub url_env: Option<String>,
    /// Headers, and the environment variables with their values.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers_env: BTreeMap<String, String>,
}
