//! Who we are to an S3 server.
//!
//! The chain of the AWS SDK reads the environment of the process and may ask the metadata service of a
//! cloud for minutes. This one takes the environment that it is given and never asks for long.

use std::path::PathBuf;
use std::time::Duration;

use aws_config::ecs::EcsCredentialsProvider;
use aws_config::imds;
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::profile::ProfileFileCredentialsProvider;
#[expect(deprecated, reason = "the new names live in a crate that nothing else needs")]
use aws_config::profile::profile_file::{Builder as ProfileFilesBuilder, ProfileFileKind};
use aws_config::provider_config::ProviderConfig;
use aws_config::web_identity_token::{StaticConfiguration, WebIdentityTokenCredentialsProvider};
use aws_sdk_s3::config::{Credentials, Region, SharedCredentialsProvider, SharedHttpClient};
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;

use crate::repository::access::Environment;

/// All providers together may take this long.
pub(super) const LIMIT: Duration = Duration::from_secs(15);

/// Keys in the environment, else a profile, else a web identity (IRSA), else those of the container,
/// else those of the instance.
pub(super) fn provider(
    env: &Environment,
    region: &Region,
    http: &SharedHttpClient,
) -> SharedCredentialsProvider {
    if let Some(keys) = keys(env) {
        return SharedCredentialsProvider::new(keys);
    }
    let limits = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(3))
        .operation_attempt_timeout(Duration::from_secs(5))
        .operation_timeout(Duration::from_secs(10))
        .build();
    let conf = ProviderConfig::without_region()
        .with_http_client(http.clone())
        .with_region(Some(region.clone()))
        .with_retry_config(RetryConfig::standard().with_max_attempts(2))
        .with_timeout_config(limits);
    let mut chain = CredentialsProviderChain::first_try("Profile", profile(env, &conf));
    if let Some(identity) = web_identity(env) {
        let provider = WebIdentityTokenCredentialsProvider::builder();
        chain = chain
            .or_else("WebIdentityToken", provider.static_configuration(identity).configure(&conf).build());
    }
    let in_container = env.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI").is_some()
        || env.get("AWS_CONTAINER_CREDENTIALS_FULL_URI").is_some();
    if in_container {
        chain = chain.or_else("Container", EcsCredentialsProvider::builder().configure(&conf).build());
    }
    if !env.get("AWS_EC2_METADATA_DISABLED").is_some_and(|off| off.eq_ignore_ascii_case("true")) {
        chain = chain.or_else("Ec2InstanceMetadata", instance(env, &conf));
    }
    SharedCredentialsProvider::new(chain)
}

fn keys(env: &Environment) -> Option<Credentials> {
    // MINIO_* are what restic's S3 library takes as well.
    let pair = |key, secret| Some((env.get(key)?, env.get(secret)?));
    let (key, secret) = pair("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        .or_else(|| pair("AWS_ACCESS_KEY", "AWS_SECRET_KEY"))
        .or_else(|| pair("MINIO_ACCESS_KEY", "MINIO_SECRET_KEY"))?;
    let session = env.get("AWS_SESSION_TOKEN").map(str::to_owned);
    Some(Credentials::new(key, secret, session, None, "environment"))
}

#[expect(deprecated, reason = "the new names live in a crate that nothing else needs")]
fn profile(env: &Environment, conf: &ProviderConfig) -> ProfileFileCredentialsProvider {
    let home = env.get("HOME").map(PathBuf::from);
    let mut files = ProfileFilesBuilder::new();
    let mut found = false;
    for (kind, variable, usual) in [
        (ProfileFileKind::Config, "AWS_CONFIG_FILE", ".aws/config"),
        (ProfileFileKind::Credentials, "AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials"),
    ] {
        // A file that was named must be there; the usual ones need not.
        let named = env.get(variable).map(PathBuf::from);
        let usual = home.as_ref().map(|home| home.join(usual)).filter(|file| file.exists());
        if let Some(file) = named.or(usual) {
            files = files.with_file(kind, file);
            found = true;
        }
    }
    if !found {
        files = files.with_contents(ProfileFileKind::Credentials, "");
    }
    let provider = ProfileFileCredentialsProvider::builder().configure(conf).profile_files(files.build());
    provider.profile_name(env.get("AWS_PROFILE").unwrap_or("default")).build()
}

fn web_identity(env: &Environment) -> Option<StaticConfiguration> {
    Some(StaticConfiguration {
        web_identity_token_file: PathBuf::from(env.get("AWS_WEB_IDENTITY_TOKEN_FILE")?),
        role_arn: env.get("AWS_ROLE_ARN")?.to_owned(),
        session_name: env.get("AWS_ROLE_SESSION_NAME").unwrap_or("firedrill").to_owned(),
    })
}

fn instance(env: &Environment, conf: &ProviderConfig) -> imds::credentials::ImdsCredentialsProvider {
    let client = || {
        imds::Client::builder()
            .configure(conf)
            .max_attempts(1)
            .connect_timeout(Duration::from_secs(1))
            .read_timeout(Duration::from_secs(1))
    };
    let named = env.get("AWS_EC2_METADATA_SERVICE_ENDPOINT");
    let client = named.and_then(|named| client().endpoint(named).ok()).unwrap_or_else(client).build();
    imds::credentials::ImdsCredentialsProvider::builder().configure(conf).imds_client(client).build()
}
