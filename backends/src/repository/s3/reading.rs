//! Reading objects, whole or in part, without trusting the server with our memory.

use std::time::Duration;

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use bytes::{Bytes, BytesMut};

use super::error::{self, chain};
use super::{Bucket, SLOWEST};
use crate::repository::error::{Fault, Trouble, of_chain};
use crate::repository::guard::OBJECT_MAX;

/// A range of an object: offset and length, of which the length is not zero.
pub(super) type Range = (u64, u32);

impl Bucket {
    /// Reads an object or a range of it. What breaks off midway is read again; the SDK only repeats
    /// requests that were not answered. With an ETag, an object that changed meanwhile is not read.
    pub(super) async fn read(
        &self,
        key: &str,
        range: Option<Range>,
        etag: Option<&str>,
    ) -> Result<Bytes, Fault> {
        let mut pause = Duration::from_millis(250);
        let mut attempt = 1;
        loop {
            let answer = self.get(key, range, etag).await?;
            match self.body(answer, range).await {
                Err(fault) if may_pass(fault.trouble) && attempt < self.attempts => {
                    tracing::debug!(key, attempt, "reading broke off: {}", fault.text);
                }
                read => return read,
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(10));
            attempt += 1;
        }
    }

    async fn get(
        &self,
        key: &str,
        range: Option<Range>,
        etag: Option<&str>,
    ) -> Result<GetObjectOutput, Fault> {
        let range = range.map(|(offset, length)| {
            let last = offset.saturating_add(u64::from(length).saturating_sub(1));
            format!("bytes={offset}-{last}")
        });
        let get = self.client.get_object().bucket(&*self.name).key(key).set_range(range);
        let get = get.set_if_match(etag.map(str::to_owned));
        get.send().await.map_err(|error| error::fault(&error, &self.name))
    }

    /// The body of an answer, as far as it was asked for.
    async fn body(&self, answer: GetObjectOutput, range: Option<Range>) -> Result<Bytes, Fault> {
        let skip = match range {
            // A server that ignores ranges sends everything.
            Some((offset, _)) if answer.content_range().is_none() => offset,
            Some((offset, _)) => {
                check_start(answer.content_range().unwrap_or_default(), offset)?;
                0
            }
            None => 0,
        };
        let announced = answer.content_length().and_then(|length| u64::try_from(length).ok());
        let wanted = range.map(|(_, length)| u64::from(length));
        let size = match (wanted, announced) {
            (Some(wanted), Some(sent)) if sent < skip.saturating_add(wanted) => {
                return Err(Fault::new(
                    Trouble::Short,
                    format!("{sent} bytes came, from {skip} on {wanted} were wanted"),
                ));
            }
            (Some(wanted), _) => wanted,
            (None, Some(sent)) => sent,
            (None, None) => 0,
        };
        if size > OBJECT_MAX {
            let text = format!("{size} bytes are more than firedrill reads at once");
            return Err(Fault::new(Trouble::Oversized, text));
        }
        let limit = self.request_timeout + Duration::from_secs(skip.saturating_add(size) / SLOWEST);
        let work = collect(answer, skip, wanted, size);
        match tokio::time::timeout(limit, work).await {
            Ok(content) => content,
            Err(_) => Err(Fault::new(
                Trouble::TimedOut,
                format!("the body did not arrive in {} s", limit.as_secs()),
            )),
        }
    }
}

/// Leaves out `skip` bytes and takes `wanted`, or all.
async fn collect(
    mut answer: GetObjectOutput,
    mut skip: u64,
    wanted: Option<u64>,
    size: u64,
) -> Result<Bytes, Fault> {
    let mut content = BytesMut::with_capacity(usize::try_from(size).unwrap_or_default());
    while let Some(part) = answer.body.next().await {
        let mut part = part.map_err(|error| {
            // A connection that breaks in the middle of a body has many names.
            let trouble = match of_chain(&error) {
                Trouble::Other => Trouble::Unreachable,
                trouble => trouble,
            };
            Fault::new(trouble, format!("the answer broke off: {}", chain(&error)))
        })?;
        let skipped = skip.min(part.len() as u64);
        skip -= skipped;
        let mut part = part.split_off(usize::try_from(skipped).unwrap_or_default());
        if let Some(wanted) = wanted {
            let left = wanted.saturating_sub(content.len() as u64);
            part.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        }
        content.extend_from_slice(&part);
        if content.len() as u64 > OBJECT_MAX {
            return Err(Fault::new(Trouble::Oversized, "it does not end"));
        }
        if wanted == Some(content.len() as u64) {
            break;
        }
    }
    match wanted {
        Some(wanted) if wanted != content.len() as u64 => {
            Err(Fault::new(Trouble::Short, format!("{} bytes came, {wanted} were wanted", content.len())))
        }
        _ => Ok(content.freeze()),
    }
}

/// Whether the range that was sent starts where it should.
fn check_start(range: &str, offset: u64) -> Result<(), Fault> {
    let start = range.trim().strip_prefix("bytes").map(|rest| rest.trim_start_matches([' ', '=']));
    let start = start.and_then(|rest| rest.split('-').next()?.trim().parse::<u64>().ok());
    if start == Some(offset) {
        return Ok(());
    }
    Err(Fault::new(
        Trouble::Other,
        format!("range {range:?} was sent where one from {offset} on was asked for"),
    ))
}

/// Whether another attempt may go better.
fn may_pass(trouble: Trouble) -> bool {
    matches!(trouble, Trouble::Unreachable | Trouble::TimedOut | Trouble::Busy)
}

#[cfg(test)]
mod tests {
    use super::check_start;

    #[test]
    fn the_start_of_a_range_is_checked() {
        assert!(check_start("bytes 5-9/100", 5).is_ok());
        assert!(check_start("bytes 5-9/*", 5).is_ok());
        assert!(check_start("bytes 0-9/100", 5).is_err());
        assert!(check_start("", 0).is_err());
        assert!(check_start("bytes */100", 0).is_err());
    }
}
