//! A client for one S3 server, with settings that the many dialects of S3 understand.

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    BehaviorVersion, Builder, Config, IdentityCache, Region, RequestChecksumCalculation,
    ResponseChecksumValidation, SharedHttpClient, StalledStreamProtectionConfig,
};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode};
use aws_smithy_http_client::{Builder as HttpBuilder, Connector};
use aws_smithy_runtime_api::client::interceptors::context::InterceptorContext;
use aws_smithy_runtime_api::client::retries::classifiers::{ClassifyRetry, RetryAction};
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use firedrill_core::error::{Error, ErrorKind, Result};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use url::Url;

use super::credentials;
use crate::repository::access::{Access, Environment};
use crate::repository::location::S3Location;

/// What addresses of Amazon end in.
const AMAZON: &str = ".amazonaws.com";
/// A CA file larger than this is none.
const CA_BYTES_MAX: u64 = 4 << 20;

/// Settings of one client, resolved from flags, options and the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    /// The address to talk to; `None` lets the SDK choose Amazon's by region.
    endpoint: Option<String>,
    pub(super) region: String,
    /// Whether somebody chose the region, or it is the usual one.
    pub(super) region_chosen: bool,
    path_style: bool,
    request_checksums: RequestChecksumCalculation,
    response_checksums: ResponseChecksumValidation,
}

impl Settings {
    pub(super) fn resolve(place: &S3Location, access: &Access) -> Result<Self> {
        let mut option_region = None;
        let mut option_path_style = None;
        for (name, value) in &access.options {
            match (name.as_str(), value.as_str()) {
                ("s3.region", region) => option_region = Some(region),
                ("s3.bucket-lookup", "auto") => {}
                ("s3.bucket-lookup", "path") => option_path_style = Some(true),
                ("s3.bucket-lookup", "dns") => option_path_style = Some(false),
                // Options for other kinds of repositories may stand beside.
                (name, _) if name == "tls-client-cert" || name.starts_with("rest.") => {}
                (name, _) => return Err(unknown_option(name)),
            }
        }
        let host = Url::parse(&place.endpoint).ok().and_then(|url| url.host_str().map(str::to_owned));
        let host = host.unwrap_or_default();
        let region = (access.region.as_deref())
            .or(option_region)
            .or(region_of_host(&host))
            .or_else(|| access.env.get("AWS_REGION"))
            .or_else(|| access.env.get("AWS_DEFAULT_REGION"));
        let amazon = host.ends_with(AMAZON);
        let usual = place.endpoint == "https://s3.amazonaws.com" || region_of_host(&host).is_some();
        Ok(Self {
            endpoint: (!usual || place.endpoint.starts_with("http:")).then(|| place.endpoint.clone()),
            region: region.unwrap_or("us-east-1").to_owned(),
            region_chosen: region.is_some() || !amazon,
            path_style: access.path_style.or(option_path_style).unwrap_or(!amazon),
            request_checksums: checksums(
                &access.env,
                "AWS_REQUEST_CHECKSUM_CALCULATION",
                RequestChecksumCalculation::WhenRequired,
            )?,
            response_checksums: checksums(
                &access.env,
                "AWS_RESPONSE_CHECKSUM_VALIDATION",
                ResponseChecksumValidation::WhenRequired,
            )?,
        })
    }
}

/// The region in `s3.eu-central-1.amazonaws.com`.
fn region_of_host(host: &str) -> Option<&str> {
    let region = host.strip_prefix("s3.")?.strip_suffix(AMAZON)?;
    let plausible = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (region.contains('-') && region.chars().all(plausible)).then_some(region)
}

fn checksums<T: FromStr<Err: std::fmt::Display>>(env: &Environment, name: &str, usual: T) -> Result<T> {
    let Some(value) = env.get(name) else { return Ok(usual) };
    value.parse().map_err(|error: T::Err| {
        Error::new(ErrorKind::Usage, format!("understand {name}")).because(error.to_string())
    })
}

pub(in crate::repository) fn unknown_option(name: &str) -> Error {
    Error::new(ErrorKind::Usage, format!("understand option {name}"))
        .because("there is no such option")
        .advise("firedrill knows s3.region, s3.bucket-lookup and tls-client-cert")
}

/// Builds a client; nothing is sent yet.
pub(super) fn client(place: &S3Location, access: &Access, settings: &Settings) -> Result<Client> {
    let ca = certificates(access)?;
    let tls = https(access, place, ca.as_deref());
    // Without TLS there is no need to load, or to have, any certificates.
    let http = match place.endpoint.starts_with("http:") {
        true => plain(access, place),
        false => tls.clone(),
    };
    let region = Region::new(settings.region.clone());
    let attempts = u32::try_from(access.retries).unwrap_or(u32::MAX).saturating_add(1);
    let limits = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(10))
        .read_timeout(access.request_timeout)
        .operation_attempt_timeout(access.request_timeout)
        .operation_timeout(access.request_timeout.saturating_mul(attempts))
        .build();
    let stalled = StalledStreamProtectionConfig::enabled().grace_period(Duration::from_secs(30)).build();
    let mut config: Builder = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .credentials_provider(credentials::provider(&access.env, &region, &tls))
        .identity_cache(IdentityCache::lazy().load_timeout(credentials::LIMIT).build())
        .region(region)
        .force_path_style(settings.path_style)
        .request_checksum_calculation(settings.request_checksums)
        .response_checksum_validation(settings.response_checksums)
        .timeout_config(limits)
        .retry_config(RetryConfig::standard().with_max_attempts(attempts))
        .retry_classifier(Patience)
        .stalled_stream_protection(stalled)
        .http_client(http);
    config.set_endpoint_url(settings.endpoint.clone());
    Ok(Client::from_conf(config.build()))
}

/// Tries again when a server, or something before it, asks for patience without the words that S3 has for that.
#[derive(Debug)]
struct Patience;

impl ClassifyRetry for Patience {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        match context.response().map(|response| response.status().as_u16()) {
            Some(408 | 429) => RetryAction::throttling_error(),
            _ => RetryAction::NoActionIndicated,
        }
    }

    fn name(&self) -> &'static str {
        "patience"
    }
}

/// The certificates to trust besides those of the system, checked: the HTTP client panics on others.
fn certificates(access: &Access) -> Result<Option<Vec<u8>>> {
    let named = access.ca_cert.clone().or_else(|| access.env.get("AWS_CA_BUNDLE").map(Into::into));
    let Some(file) = named else { return Ok(None) };
    let failed = |why: String| {
        Error::new(ErrorKind::Usage, format!("read the CA certificates in {}", file.display())).because(why)
    };
    let pem = read_small(&file).map_err(|error| failed(error.to_string()))?;
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| failed(error.to_string()))?;
        store.add(certificate).map_err(|error| failed(error.to_string()))?;
    }
    if store.is_empty() {
        return Err(failed("it holds no certificate in PEM form".to_owned()));
    }
    Ok(Some(pem))
}

fn read_small(file: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let mut content = Vec::new();
    std::fs::File::open(file)?.take(CA_BYTES_MAX).read_to_end(&mut content)?;
    Ok(content)
}

fn https(access: &Access, place: &S3Location, ca: Option<&[u8]>) -> SharedHttpClient {
    let trust = ca.map(|pem| TrustStore::default().with_pem_certificate(pem));
    let context = TlsContext::builder().with_trust_store(trust.unwrap_or_default()).build();
    let context = context.unwrap_or_default();
    let proxy = proxy(access, place);
    HttpBuilder::new().build_with_connector_fn(move |settings, components| {
        let mut builder = Connector::builder().proxy_config(proxy.clone());
        builder.set_connector_settings(settings.cloned());
        builder.set_sleep_impl(components.and_then(|components| components.sleep_impl()));
        builder.tls_provider(Provider::Rustls(CryptoMode::AwsLc)).tls_context(context.clone()).build()
    })
}

fn plain(access: &Access, place: &S3Location) -> SharedHttpClient {
    let proxy = proxy(access, place);
    HttpBuilder::new().build_with_connector_fn(move |settings, components| {
        let mut builder = Connector::builder().proxy_config(proxy.clone());
        builder.set_connector_settings(settings.cloned());
        builder.set_sleep_impl(components.and_then(|components| components.sleep_impl()));
        builder.build_http()
    })
}

/// The proxy of the environment. As in Go, and so in restic, this machine is reached directly.
fn proxy(access: &Access, place: &S3Location) -> ProxyConfig {
    let names = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"];
    let local = Url::parse(&place.endpoint).is_ok_and(|url| match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    });
    if local || !names.iter().any(|name| access.env.get(name).is_some()) {
        return ProxyConfig::disabled();
    }
    ProxyConfig::from_env()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::location::Location;

    fn settings(address: &str, access: &Access) -> Settings {
        match Location::parse(address).unwrap() {
            Location::S3(place) => Settings::resolve(&place, access).unwrap(),
            other => panic!("{other}"),
        }
    }

    fn with(pairs: &[(&str, &str)]) -> Access {
        let env = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Access::from_environment(env)
    }

    #[test]
    fn amazon_is_addressed_by_region_and_others_by_path() {
        let aws = settings("s3:s3.amazonaws.com/bucket", &Access::default());
        assert_eq!((aws.endpoint.as_deref(), aws.path_style, aws.region_chosen), (None, false, false));
        assert_eq!(aws.region, "us-east-1");
        let aws = settings("s3:s3.eu-central-1.amazonaws.com/bucket", &Access::default());
        assert_eq!((aws.endpoint.as_deref(), aws.region.as_str()), (None, "eu-central-1"));
        let other = settings("s3:http://minio:9000/bucket", &Access::default());
        assert_eq!(other.endpoint.as_deref(), Some("http://minio:9000"));
        assert!(other.path_style && other.region_chosen);
        let dual = settings("s3:https://s3.dualstack.eu-west-1.amazonaws.com/bucket", &Access::default());
        assert_eq!(dual.endpoint.as_deref(), Some("https://s3.dualstack.eu-west-1.amazonaws.com"));
    }

    #[test]
    fn the_region_comes_from_the_nearest_source() {
        let mut access = with(&[("AWS_DEFAULT_REGION", "c"), ("AWS_REGION", "b")]);
        assert_eq!(settings("s3:h/b", &access).region, "b");
        access.options.insert("s3.region".to_owned(), "o".to_owned());
        assert_eq!(settings("s3:h/b", &access).region, "o");
        access.region = Some("a".to_owned());
        assert_eq!(settings("s3:h/b", &access).region, "a");
        let access = with(&[("AWS_DEFAULT_REGION", "c"), ("AWS_REGION", "")]);
        assert_eq!(settings("s3:h/b", &access).region, "c");
    }

    #[test]
    fn checksums_follow_the_environment() {
        let usual = settings("s3:h/b", &Access::default());
        assert_eq!(usual.request_checksums, RequestChecksumCalculation::WhenRequired);
        let name = "AWS_REQUEST_CHECKSUM_CALCULATION";
        let asked = settings("s3:h/b", &with(&[(name, "when_supported")]));
        assert_eq!(asked.request_checksums, RequestChecksumCalculation::WhenSupported);
        let Location::S3(place) = Location::parse("s3:h/b").unwrap() else { panic!() };
        assert!(Settings::resolve(&place, &with(&[(name, "sometimes")])).is_err());
    }

    #[test]
    fn options_are_checked() {
        let Location::S3(place) = Location::parse("s3:h/b").unwrap() else { panic!() };
        let mut access = Access::default();
        access.options.insert("s3.bucket-lookup".to_owned(), "dns".to_owned());
        assert!(!Settings::resolve(&place, &access).unwrap().path_style);
        access.options.insert("s3.list-objects-v1".to_owned(), "true".to_owned());
        assert!(Settings::resolve(&place, &access).is_err());
    }

    #[test]
    fn a_broken_ca_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        for content in
            ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
        {
            std::fs::write(&file, content).unwrap();
            let access = Access { ca_cert: Some(file.clone()), ..Access::default() };
            let error = certificates(&access).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Usage, "{}", error.chain());
        }
        let access = Access { ca_cert: Some(folder.path().join("none")), ..Access::default() };
        assert!(certificates(&access).is_err());
    }
}
