//! Writing objects: whole ones in one request, large ones in parts. A server shows an object when it has all of it.

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jiff::Timestamp;
use md5::{Digest as _, Md5};

use super::error;
use super::objects::{Objects, SHA256_NOTE, time};
use crate::repository::error::{Fault, Trouble};

/// Pages of a listing of uploads; each has a thousand.
const PAGES_MAX: usize = 100;

/// An upload in parts that was begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::repository) struct Begun {
    /// The name of the object below the prefix.
    pub(in crate::repository) key: String,
    pub(in crate::repository) upload: String,
    pub(in crate::repository) since: Option<Timestamp>,
}

/// A copy of a body, to check it: the server refuses what does not fit this.
fn content_md5(body: &Bytes) -> String {
    STANDARD.encode(Md5::digest(body))
}

fn length(body: &Bytes) -> Result<i64, Fault> {
    i64::try_from(body.len()).map_err(|_| Fault::new(Trouble::Oversized, "too large for one request"))
}

impl Objects {
    fn full(&self, key: &str) -> String {
        format!("{}{key}", self.bucket.prefix)
    }

    /// Writes an object in one request; `sha256` (in hexadecimal digits) is kept beside it.
    pub(in crate::repository) fn put(&self, key: &str, body: Bytes, sha256: &str) -> Result<(), Fault> {
        let (bucket, key, sha256) = (self.bucket.clone(), self.full(key), sha256.to_owned());
        self.runtime.run(bucket.limit(body.len() as u64), async move {
            let put = bucket.client.put_object().bucket(&*bucket.name).key(key);
            let put = put.metadata(SHA256_NOTE, sha256).content_md5(content_md5(&body));
            let put = put.content_length(length(&body)?).body(ByteStream::from(body));
            put.send().await.map(drop).map_err(|error| error::fault(&error, &bucket.name))
        })
    }

    /// Begins an upload in parts.
    pub(in crate::repository) fn begin(&self, key: &str, sha256: &str) -> Result<String, Fault> {
        let (bucket, key, sha256) = (self.bucket.clone(), self.full(key), sha256.to_owned());
        self.runtime.run(bucket.limit(0), async move {
            let begin = bucket.client.create_multipart_upload().bucket(&*bucket.name).key(key);
            let begun = begin.metadata(SHA256_NOTE, sha256).send().await;
            let begun = begun.map_err(|error| error::fault(&error, &bucket.name))?;
            let upload = begun.upload_id().filter(|id| !id.is_empty()).map(str::to_owned);
            upload.ok_or_else(|| Fault::new(Trouble::Other, "the server gives the upload no id"))
        })
    }

    /// Uploads a part; what the server calls it.
    pub(in crate::repository) fn part(
        &self,
        key: &str,
        upload: &str,
        number: i32,
        body: Bytes,
    ) -> Result<String, Fault> {
        let (bucket, key, upload) = (self.bucket.clone(), self.full(key), upload.to_owned());
        self.runtime.run(bucket.limit(body.len() as u64), async move {
            let part = bucket.client.upload_part().bucket(&*bucket.name).key(key).upload_id(upload);
            let part = part.part_number(number).content_md5(content_md5(&body));
            let sent = part.content_length(length(&body)?).body(ByteStream::from(body)).send().await;
            let sent = sent.map_err(|error| error::fault(&error, &bucket.name))?;
            let etag = sent.e_tag().map(str::to_owned);
            etag.ok_or_else(|| Fault::new(Trouble::Other, "the server gives the part no ETag"))
        })
    }

    /// Makes an object of the parts, which are given by what the server called them.
    pub(in crate::repository) fn complete(
        &self,
        key: &str,
        upload: &str,
        etags: &[String],
        bytes: u64,
    ) -> Result<(), Fault> {
        let (bucket, key, upload) = (self.bucket.clone(), self.full(key), upload.to_owned());
        let parts = (1..)
            .zip(etags)
            .map(|(number, etag)| CompletedPart::builder().part_number(number).e_tag(etag).build());
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts.collect())).build();
        // Some servers put the parts together before they answer.
        self.runtime.run(bucket.limit(bytes), async move {
            let complete = bucket.client.complete_multipart_upload().bucket(&*bucket.name).key(key);
            let done = complete.upload_id(upload).multipart_upload(parts).send().await;
            done.map(drop).map_err(|error| error::fault(&error, &bucket.name))
        })
    }

    /// Gives up an upload and its parts.
    pub(in crate::repository) fn abort(&self, key: &str, upload: &str) -> Result<(), Fault> {
        let (bucket, key, upload) = (self.bucket.clone(), self.full(key), upload.to_owned());
        self.runtime.run(bucket.limit(0), async move {
            let abort = bucket.client.abort_multipart_upload().bucket(&*bucket.name).key(key);
            match abort.upload_id(upload).send().await.map_err(|error| error::fault(&error, &bucket.name)) {
                Err(fault) if fault.trouble != Trouble::Missing => Err(fault),
                _ => Ok(()),
            }
        })
    }

    /// Uploads that were begun and neither completed nor given up, of objects whose name begins like this.
    pub(in crate::repository) fn begun(&self, start: &str) -> Result<Vec<Begun>, Fault> {
        let (bucket, start) = (self.bucket.clone(), self.full(start));
        let limit = bucket.limit(0).saturating_mul(4);
        self.runtime.run(limit, async move {
            let mut all = Vec::new();
            let (mut key_marker, mut upload_marker) = (None, None);
            for _ in 0..PAGES_MAX {
                let list = bucket.client.list_multipart_uploads().bucket(&*bucket.name);
                let list = list.prefix(&start).set_key_marker(key_marker);
                let page = list.set_upload_id_marker(upload_marker).send().await;
                let page = page.map_err(|error| error::fault(&error, &bucket.name))?;
                all.extend(page.uploads().iter().filter_map(|upload| {
                    Some(Begun {
                        key: upload.key()?.strip_prefix(&*bucket.prefix)?.to_owned(),
                        upload: upload.upload_id()?.to_owned(),
                        since: upload.initiated().and_then(time),
                    })
                }));
                if page.is_truncated() != Some(true) {
                    break;
                }
                key_marker = page.next_key_marker().map(str::to_owned);
                upload_marker = page.next_upload_id_marker().map(str::to_owned);
            }
            Ok(all)
        })
    }

    /// Removes an object; that it is gone already is fine.
    pub(in crate::repository) fn delete(&self, key: &str) -> Result<(), Fault> {
        let (bucket, key) = (self.bucket.clone(), self.full(key));
        self.runtime.run(bucket.limit(0), async move { bucket.delete(key).await })
    }
}
