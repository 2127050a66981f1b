//! A bucket as what it is: objects with names, sizes and times.

use std::time::Duration;

use aws_sdk_s3::types::{ChecksumMode, ChecksumType, ServerSideEncryption};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use firedrill_core::error::Result;
use jiff::Timestamp;

use super::listing::{EMPTY_PAGES_MAX, odd};
use super::runtime::Runtime;
use super::{Bucket, error};
use crate::repository::access::Access;
use crate::repository::error::{Fault, Trouble};
use crate::repository::location::S3Location;

/// A page of a listing may take this long besides its attempts.
const PAGE_LIMIT: Duration = Duration::from_secs(60);

/// Under this name firedrill keeps the SHA-256 of what it uploads, in hexadecimal digits: few servers keep one.
pub(super) const SHA256_NOTE: &str = "firedrill-sha256";

/// The objects below a prefix. Reading is here; see `uploads` for writing.
#[derive(Debug)]
pub(crate) struct Objects {
    pub(super) runtime: Runtime,
    pub(super) bucket: Bucket,
}

/// One object of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    /// The name below the prefix.
    pub(crate) key: String,
    pub(crate) size: u64,
    pub(crate) modified: Timestamp,
    /// Without quotes; empty when the server does not say.
    pub(crate) etag: String,
    /// The storage class; empty for the usual one.
    pub(crate) class: String,
}

/// What the server says about an object, and promises about its content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::repository) struct Head {
    pub(in crate::repository) size: u64,
    pub(in crate::repository) modified: Option<Timestamp>,
    /// With quotes, as it is sent back.
    pub(in crate::repository) etag: Option<String>,
    /// The MD5 of the content, where the ETag is one.
    pub(in crate::repository) md5: Option<String>,
    /// Checksums of the whole content, in base64.
    pub(in crate::repository) sha256: Option<String>,
    pub(in crate::repository) crc32: Option<String>,
    /// Whether a copy can be read although the object is in an archive.
    pub(in crate::repository) thawed: bool,
    /// Whether such a copy is being made.
    pub(in crate::repository) thawing: bool,
}

/// Opens a bucket.
pub(crate) fn open(place: &S3Location, access: &Access) -> Result<Objects> {
    let (runtime, bucket) = super::connect(place, access)?;
    Ok(Objects { runtime, bucket })
}

impl Objects {
    /// Lists what is below `folder` (empty, or ending in a slash), page by page, until `each` says stop.
    pub(crate) fn list(&self, folder: &str, mut each: impl FnMut(Vec<Listed>) -> bool) -> Result<(), Fault> {
        let mut token: Option<String> = None;
        let mut empty = 0_usize;
        loop {
            let (bucket, prefix) = (self.bucket.clone(), format!("{}{folder}", self.bucket.prefix));
            let (asked, from) = (token.clone(), prefix.clone());
            let limit = self.bucket.limit(0).saturating_add(PAGE_LIMIT);
            let page = self.runtime.run(limit, async move { bucket.page(&from, asked).await })?;
            let mut listed = Vec::with_capacity(page.contents().len());
            for object in page.contents() {
                let Some(key) = object.key().and_then(|key| key.strip_prefix(&*self.bucket.prefix)) else {
                    continue;
                };
                let size = object.size().and_then(|size| u64::try_from(size).ok());
                let modified = object.last_modified().and_then(time);
                let (Some(size), Some(modified)) = (size, modified) else {
                    return Err(odd(format!("it gives no size or time for {key}")));
                };
                listed.push(Listed {
                    key: key.to_owned(),
                    size,
                    modified,
                    etag: object.e_tag().unwrap_or_default().trim_matches('"').to_owned(),
                    class: object.storage_class().map(|class| class.as_str().to_owned()).unwrap_or_default(),
                });
            }
            empty = if page.contents().is_empty() { empty + 1 } else { 0 };
            if !each(listed) || page.is_truncated() != Some(true) {
                return Ok(());
            }
            let next = page.next_continuation_token().map(str::to_owned);
            if next.is_none() || next == token || empty > EMPTY_PAGES_MAX {
                return Err(odd("it goes on and on without getting further".to_owned()));
            }
            token = next;
        }
    }

    /// What the server says about one object.
    pub(in crate::repository) fn head(&self, key: &str) -> Result<Head, Fault> {
        let (bucket, key) = (self.bucket.clone(), format!("{}{key}", self.bucket.prefix));
        self.runtime.run(self.bucket.limit(0), async move {
            let head = bucket.client.head_object().bucket(&*bucket.name).key(&key);
            let head = head.checksum_mode(ChecksumMode::Enabled).send().await;
            let head = head.map_err(|error| error::fault(&error, &bucket.name))?;
            let size = head.content_length().and_then(|size| u64::try_from(size).ok());
            let size = size.ok_or_else(|| Fault::new(Trouble::Other, "the server gives no size"))?;
            let customer_key = head.sse_customer_algorithm().is_some();
            let encryption = head.server_side_encryption();
            let plain = !customer_key && encryption.is_none_or(|e| *e == ServerSideEncryption::Aes256);
            // Directory buckets have ETags that look like an MD5 and are none.
            let plain = plain && head.storage_class().is_none_or(|class| class.as_str() != "EXPRESS_ONEZONE");
            let etag = head.e_tag().map(str::to_owned);
            let whole = head.checksum_type().is_none_or(|kind| *kind == ChecksumType::FullObject);
            let of_all = |sum: Option<&str>| sum.filter(|s| whole && !s.contains('-')).map(str::to_owned);
            let restore = head.restore().unwrap_or_default();
            Ok(Head {
                size,
                modified: head.last_modified().and_then(time),
                md5: etag.as_deref().filter(|_| plain).and_then(md5),
                etag,
                sha256: of_all(head.checksum_sha256()).or_else(|| noted(head.metadata())),
                crc32: of_all(head.checksum_crc32()),
                thawed: restore.contains("ongoing-request=\"false\""),
                thawing: restore.contains("ongoing-request=\"true\""),
            })
        })
    }

    /// `length` bytes of an object from `offset` on, which is not zero bytes.
    pub(in crate::repository) fn piece(
        &self,
        key: &str,
        offset: u64,
        length: u32,
        etag: Option<&str>,
    ) -> Result<Bytes, Fault> {
        let (bucket, key) = (self.bucket.clone(), format!("{}{key}", self.bucket.prefix));
        let (etag, limit) = (etag.map(str::to_owned), self.bucket.limit(length.into()));
        let read = async move { bucket.read(&key, Some((offset, length)), etag.as_deref()).await };
        self.runtime.run(limit, read)
    }
}

/// The SHA-256 that firedrill noted when it uploaded the object, in base64.
fn noted(metadata: Option<&std::collections::HashMap<String, String>>) -> Option<String> {
    let mut sum = [0; 32];
    hex::decode_to_slice(metadata?.get(SHA256_NOTE)?, &mut sum).ok()?;
    Some(STANDARD.encode(sum))
}

pub(super) fn time(time: &aws_sdk_s3::primitives::DateTime) -> Option<Timestamp> {
    Timestamp::new(time.secs(), i32::try_from(time.subsec_nanos()).ok()?).ok()
}

/// The MD5 that an ETag is: that of an object which was not uploaded in parts.
fn md5(etag: &str) -> Option<String> {
    let bare = etag.trim_start_matches("W/").trim_matches('"').to_ascii_lowercase();
    (bare.len() == 32 && bare.bytes().all(|b| b.is_ascii_hexdigit())).then_some(bare)
}

#[cfg(test)]
mod tests {
    use super::md5;

    #[test]
    fn only_etags_of_whole_uploads_are_sums() {
        assert_eq!(md5("\"D41D8CD98F00B204E9800998ECF8427E\"").unwrap(), "d41d8cd98f00b204e9800998ecf8427e");
        assert_eq!(md5("\"d41d8cd98f00b204e9800998ecf8427e-2\""), None);
        assert_eq!(md5("\"0x8DCBD2F\""), None);
    }
}
