//! The certificate authorities of kubeadm and their keys.

use std::collections::BTreeSet;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING,
    EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use firedrill_core::config::settings::Demand;
use firedrill_core::finding::Finding;
use jiff::Timestamp;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, SubjectPublicKeyInfoDer};
use x509_cert::Certificate;
use x509_cert::der::{Decode, Encode};

use super::beside::{Beside, Small};
use super::content::Content;

/// What cannot be issued anew: the names below the folder of the authorities.
const NEEDED: [&str; 8] = [
    "ca.crt",
    "ca.key",
    "etcd/ca.crt",
    "etcd/ca.key",
    "front-proxy-ca.crt",
    "front-proxy-ca.key",
    "sa.key",
    "sa.pub",
];
const CODE: &str = "etcd.pki";
/// Certificates read of one file.
const CERTIFICATES_MAX: usize = 50;

/// Whether the authorities beside the snapshot `at` are complete, fit each other and are those of the cluster.
pub(super) fn examine(
    at: &str,
    content: &Content,
    beside: &Beside,
    demand: Demand,
    now: Timestamp,
) -> Vec<Finding> {
    let Some(folder) = folder(at, beside) else { return vec![missing(at, demand, &NEEDED)] };
    let mut findings = Vec::new();
    let file = |name: &str| {
        let path = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
        beside.files.iter().find(|file| file.path == path)
    };
    let absent: Vec<&str> = NEEDED.into_iter().filter(|name| file(name).is_none()).collect();
    if !absent.is_empty() {
        findings.push(missing(folder, demand, &absent));
    }
    for (certificate, key) in
        [("ca.crt", "ca.key"), ("etcd/ca.crt", "etcd/ca.key"), ("front-proxy-ca.crt", "front-proxy-ca.key")]
    {
        let Some(certificate) = file(certificate) else { continue };
        findings.extend(authority(certificate, file(key), now));
    }
    if let (Some(private), Some(public)) = (file("sa.key"), file("sa.pub")) {
        findings.extend(service_accounts(private, public));
    }
    if let (Some(own), Some(of_cluster)) = (file("ca.crt"), &content.root_ca) {
        findings.extend(same_authority(at, own, of_cluster));
    }
    findings
}

/// The folder of the authorities that goes with the snapshot: the fullest one, and of several the nearest.
fn folder<'b>(at: &str, beside: &'b Beside) -> Option<&'b str> {
    let folders: BTreeSet<&str> = beside
        .files
        .iter()
        .filter(|file| NEEDED.contains(&file.name()))
        .map(|file| file.folder())
        .filter(|folder| folder.rsplit('/').next() != Some("etcd"))
        .collect();
    let has = |folder: &str| {
        let exists = |name: &&&str| {
            let path = if folder.is_empty() { (**name).to_owned() } else { format!("{folder}/{name}") };
            beside.files.iter().any(|file| file.path == path)
        };
        NEEDED.iter().filter(exists).count()
    };
    // Any program may have a `ca.crt` with its key.
    let own = |folder: &str| {
        ["sa.key", "sa.pub", "front-proxy-ca.crt", "etcd/ca.crt"].iter().any(|name| {
            beside
                .files
                .iter()
                .any(|file| file.path.strip_suffix(name).is_some_and(|f| f.trim_end_matches('/') == folder))
        })
    };
    let near = |folder: &str| folder.bytes().zip(at.bytes()).take_while(|(a, b)| a == b).count();
    folders
        .into_iter()
        .filter(|folder| has(folder) >= 2 && own(folder))
        .max_by_key(|folder| (has(folder), near(folder)))
}

fn missing(at: &str, demand: Demand, absent: &[&str]) -> Finding {
    let expected = "the authorities of the cluster beside the snapshot: back up /etc/kubernetes/pki";
    let seen = format!("without {}", absent.join(", "));
    match demand {
        Demand::Required => Finding::damage(CODE, at, expected, seen),
        Demand::Optional => Finding::gap(CODE, at, expected, seen),
    }
}

fn authority(certificate: &Small, key: Option<&Small>, now: Timestamp) -> Vec<Finding> {
    let at = certificate.path.as_str();
    let mut findings = Vec::new();
    let Some(first) = certificates(&certificate.content).into_iter().next() else {
        return vec![Finding::damage(CODE, at, "a certificate", "no certificate that can be read")];
    };
    let Ok(parsed) = Certificate::from_der(&first) else {
        return vec![Finding::damage(CODE, at, "a certificate", "no certificate that can be read")];
    };
    let end = parsed.tbs_certificate().validity().not_after.to_unix_duration();
    let end = i64::try_from(end.as_secs()).ok().and_then(|s| Timestamp::from_second(s).ok());
    if let Some(end) = end.filter(|end| *end <= now) {
        let expected = format!("an authority that is valid at {now}");
        findings.push(Finding::damage(CODE, at, expected, format!("it expired at {end}")));
    }
    let Some(key) = key else { return findings };
    let public = parsed.tbs_certificate().subject_public_key_info().to_der().ok();
    findings.extend(match (public_key(key), public) {
        (Ok(of_key), Some(of_certificate)) if of_key == of_certificate => None,
        (Ok(_), Some(_)) => Some(Finding::damage(
            CODE,
            &key.path,
            format!("the key of {at}"),
            "the key of another certificate",
        )),
        (Err(why), _) => Some(Finding::damage(CODE, &key.path, "a private key", why)),
        (_, None) => None,
    });
    findings
}

fn service_accounts(private: &Small, public: &Small) -> Option<Finding> {
    let stored = SubjectPublicKeyInfoDer::from_pem_slice(&public.content);
    match (public_key(private), stored) {
        (Err(why), _) => Some(Finding::damage(CODE, &private.path, "a private key", why)),
        (Ok(_), Err(_)) => {
            Some(Finding::damage(CODE, &public.path, "a public key", "no public key that can be read"))
        }
        (Ok(own), Ok(stored)) if own == stored.as_ref() => None,
        (Ok(_), Ok(_)) => Some(Finding::damage(
            CODE,
            &public.path,
            format!("the public key of {}", private.path),
            "the public key of another one",
        )),
    }
}

fn same_authority(at: &str, own: &Small, of_cluster: &[u8]) -> Option<Finding> {
    let (own_ones, trusted) = (certificates(&own.content), certificates(of_cluster));
    let comparable = !own_ones.is_empty() && !trusted.is_empty();
    let same = own_ones.iter().any(|one| trusted.contains(one));
    (comparable && !same).then(|| {
        Finding::damage(
            CODE,
            &own.path,
            format!("the authority that the cluster in {at} trusts (ConfigMap kube-root-ca.crt)"),
            "another authority",
        )
    })
}

fn certificates(pem: &[u8]) -> Vec<Vec<u8>> {
    let certificates = CertificateDer::pem_slice_iter(pem).take(CERTIFICATES_MAX);
    certificates.filter_map(|one| one.ok().map(|der| der.as_ref().to_vec())).collect()
}

/// The public key that belongs to a private one, as a SubjectPublicKeyInfo. `Err` says in words, without any of the
/// key, why there is none.
fn public_key(key: &Small) -> Result<Vec<u8>, &'static str> {
    let private =
        PrivateKeyDer::from_pem_slice(&key.content).map_err(|_| "no private key that can be read")?;
    let der = private.secret_der();
    let rsa = match &private {
        PrivateKeyDer::Pkcs1(_) => aws_lc_rs::rsa::KeyPair::from_der(der),
        _ => aws_lc_rs::rsa::KeyPair::from_pkcs8(der),
    };
    if let Ok(pair) = rsa {
        return spki(pair.public_key());
    }
    for algorithm in
        [&ECDSA_P256_SHA256_ASN1_SIGNING, &ECDSA_P384_SHA384_ASN1_SIGNING, &ECDSA_P521_SHA512_ASN1_SIGNING]
    {
        if let Ok(pair) = EcdsaKeyPair::from_private_key_der(algorithm, der) {
            return spki(pair.public_key());
        }
    }
    match Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
        Ok(pair) => spki(pair.public_key()),
        Err(_) => Err("a private key that cannot be used"),
    }
}

fn spki(key: &impl AsDer<PublicKeyX509Der<'static>>) -> Result<Vec<u8>, &'static str> {
    key.as_der().map(|der| der.as_ref().to_vec()).map_err(|_| "a private key without a public one")
}
