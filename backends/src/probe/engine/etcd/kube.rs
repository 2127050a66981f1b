//! What keys and values of Kubernetes say.

use jiff::Timestamp;

use super::proto;

const NODE_LEASES: &[u8] = b"/registry/leases/kube-node-lease/";
const CONFIG_MAPS: &[u8] = b"/registry/configmaps/";
const ROOT_CA: &[u8] = b"/kube-root-ca.crt";
const PEM_BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
const PEM_END: &[u8] = b"-----END CERTIFICATE-----";

/// Objects that come and go in healthy operation, by the name of their resource.
const PASSING: [&str; 14] = [
    "events",
    "leases",
    "masterleases",
    "pods",
    "replicasets",
    "jobs",
    "endpointslices",
    "controllerrevisions",
    "certificatesigningrequests",
    "csistoragecapacities",
    "volumeattachments",
    "ranges",
    "challenges",
    "ipaddresses",
];

/// Whether `key` is that of a lease that a node renews every few seconds.
pub(super) fn is_node_lease(key: &[u8]) -> bool {
    key.starts_with(NODE_LEASES)
}

/// When a node renewed its lease.
pub(super) fn renewed(value: &[u8]) -> Option<Timestamp> {
    if let Some(unknown) = value.strip_prefix(b"k8s\0") {
        let spec = proto::bytes(proto::bytes(unknown, 2)?, 2)?;
        let time = proto::bytes(spec, 4)?;
        let seconds = i64::try_from(proto::number(time, 1)).ok()?;
        let nanoseconds = i32::try_from(proto::number(time, 2)).ok()?;
        return Timestamp::new(seconds, nanoseconds).ok();
    }
    let lease: serde_json::Value = serde_json::from_slice(value).ok()?;
    lease.get("spec")?.get("renewTime")?.as_str()?.parse().ok()
}

/// Whether `key` is that of the authority that the cluster's own clients trust.
pub(super) fn is_root_ca(key: &[u8]) -> bool {
    key.starts_with(CONFIG_MAPS) && key.ends_with(ROOT_CA)
}

/// The certificates in a value, as PEM; protobuf holds them as they are, JSON escapes their lines.
pub(super) fn certificates(value: &[u8]) -> Option<Vec<u8>> {
    let begin = find(value, PEM_BEGIN)?;
    let end = value.windows(PEM_END.len()).rposition(|window| window == PEM_END)?;
    let text = String::from_utf8_lossy(value.get(begin..end.checked_add(PEM_END.len())?)?);
    Some(text.replace("\\n", "\n").into_bytes())
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

/// The provider and the name of the key of a value that is encrypted at rest: `aescbc:key1`.
pub(super) fn encrypted(value: &[u8]) -> Option<String> {
    let rest = value.strip_prefix(b"k8s:enc:")?;
    let head = String::from_utf8_lossy(rest.get(..rest.len().min(120))?).into_owned();
    let mut parts = head.split(':');
    let (provider, _, key) = (parts.next()?, parts.next()?, parts.next()?);
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    (plain(provider) && plain(key)).then(|| format!("{provider}:{key}"))
}

/// The prefix that a key is counted below: `/registry/secrets/`, `/registry/cert-manager.io/certificates/`, or the
/// first part of any other path.
pub(super) fn prefix(key: &[u8]) -> String {
    let text = String::from_utf8_lossy(key.get(..key.len().min(256)).unwrap_or_default());
    let parts: Vec<&str> = text.split('/').collect();
    let depth = match parts.as_slice() {
        ["", "registry", group, _, _, ..] if group.contains('.') => 4,
        ["", "registry", _, _, ..] => 3,
        ["", _, _, ..] => 2,
        _ => return String::new(),
    };
    parts.iter().take(depth).map(|part| format!("{part}/")).collect()
}

/// Whether what is below a prefix comes and goes.
pub(super) fn is_passing(prefix: &str) -> bool {
    prefix.trim_end_matches('/').rsplit('/').next().is_some_and(|name| PASSING.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_counted_by_resource() {
        for (key, expected) in [
            ("/registry/secrets/default/a", "/registry/secrets/"),
            ("/registry/cert-manager.io/certificates/ns/a", "/registry/cert-manager.io/certificates/"),
            ("/registry/namespaces/default", "/registry/namespaces/"),
            ("/bootstrap/0123456789ab", "/bootstrap/"),
            ("plain", ""),
        ] {
            assert_eq!(prefix(key.as_bytes()), expected, "{key}");
        }
        assert!(is_passing("/registry/events/") && !is_passing("/registry/secrets/"));
    }

    #[test]
    fn a_lease_tells_when_it_was_renewed() {
        // 2026-01-02T03:04:05Z, and 6 µs.
        let time = [0x08, 0xa5, 0xeb, 0xdc, 0xca, 0x06, 0x10, 0xf0, 0x2e];
        let spec = [&[0x0a, 1, b'n', 0x10, 40, 0x22, 9][..], &time].concat();
        let raw = [&[0x0a, 0, 0x12, spec.len() as u8][..], &spec].concat();
        let value = [&b"k8s\0"[..], &[0x0a, 0, 0x12, raw.len() as u8], &raw].concat();
        assert_eq!(renewed(&value).unwrap().to_string(), "2026-01-02T03:04:05.000006Z");
        let json = br#"{"spec":{"renewTime":"2026-01-02T03:04:05.000006Z"}}"#;
        assert_eq!(renewed(json).unwrap().to_string(), "2026-01-02T03:04:05.000006Z");
        assert_eq!(renewed(b"k8s\0\x0a\x05"), None);
        assert_eq!(renewed(b"k8s:enc:aescbc:v1:key1:xx"), None);
    }

    #[test]
    fn encrypted_values_name_their_key() {
        assert_eq!(encrypted(b"k8s:enc:aescbc:v1:key1:\xff\x00").as_deref(), Some("aescbc:key1"));
        assert_eq!(encrypted(b"k8s\0"), None);
    }
}
