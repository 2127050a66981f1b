//! Listing a bucket, page by page.

use std::time::Duration;

use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use rustic_core::{FileType, Id};

use super::{Bucket, error};
use crate::repository::error::{Fault, Trouble};
use crate::repository::guard::{id_of, size_of};

/// A listing may take this long. Each page of a thousand names has a limit of its own besides.
pub(super) const LIMIT: Duration = Duration::from_secs(4 * 3600);
/// No repository holds more objects of one type.
const OBJECTS_MAX: usize = 50_000_000;
/// Pages without anything in them, one after the other; an honest server sends few.
pub(super) const EMPTY_PAGES_MAX: usize = 1000;

impl Bucket {
    /// Every object of one type (not of `config`), by its name; what is not named like one is left out.
    pub(super) async fn list(&self, tpe: FileType) -> Result<Vec<(Id, u32)>, Fault> {
        let folder = format!("{}{}/", self.prefix, tpe.dirname());
        let mut listed = Vec::new();
        let mut token: Option<String> = None;
        let mut seen = 0_usize;
        let mut empty = 0_usize;
        loop {
            let page = self.page(&folder, token.clone()).await?;
            for object in page.contents() {
                let Some(key) = object.key() else { continue };
                let Some(id) = key.strip_prefix(folder.as_str()).and_then(|name| named(name, tpe)) else {
                    continue;
                };
                let size = object.size().and_then(|size| u64::try_from(size).ok());
                let size = size.ok_or_else(|| odd(format!("it gives no size for {key}")))?;
                listed.push((id, size_of(size, key)));
            }
            seen = seen.saturating_add(page.contents().len());
            if seen > OBJECTS_MAX {
                return Err(odd(format!("it holds more than {OBJECTS_MAX} objects")));
            }
            empty = if page.contents().is_empty() { empty + 1 } else { 0 };
            if page.is_truncated() != Some(true) {
                return Ok(listed);
            }
            let next = page.next_continuation_token().map(str::to_owned);
            if next.is_none() || next == token || empty > EMPTY_PAGES_MAX {
                return Err(odd("it goes on and on without getting further".to_owned()));
            }
            token = next;
        }
    }

    /// `config`, if it is there. A HEAD request is answered without a body, so whatever it complains
    /// of is asked again by way of a listing, whose answer says why.
    pub(super) async fn list_config(&self) -> Result<Vec<(Id, u32)>, Fault> {
        let key = format!("{}config", self.prefix);
        let head = self.client.head_object().bucket(&*self.name).key(&key).send().await;
        if let Ok(found) = &head
            && let Some(size) = found.content_length().and_then(|size| u64::try_from(size).ok())
        {
            return Ok(vec![(Id::default(), size_of(size, &key))]);
        }
        if let Err(error) = &head
            && error.raw_response().is_none()
        {
            return Err(error::fault(error, &self.name));
        }
        let page = self.page(&key, None).await?;
        let found = page.contents().iter().find(|object| object.key() == Some(key.as_str()));
        match (found, head) {
            (None, _) => Ok(Vec::new()),
            // It is there, and may be listed but not looked at.
            (Some(_), Err(error)) => Err(error::fault(&error, &self.name)),
            (Some(_), Ok(_)) => Err(odd(format!("it gives no size for {key}"))),
        }
    }

    pub(super) async fn page(
        &self,
        prefix: &str,
        token: Option<String>,
    ) -> Result<ListObjectsV2Output, Fault> {
        let list = self.client.list_objects_v2().bucket(&*self.name).prefix(prefix);
        let page = list.set_continuation_token(token).send().await;
        page.map_err(|error| error::fault(&error, &self.name))
    }
}

pub(super) fn odd(what: String) -> Fault {
    Fault::new(Trouble::Other, format!("the listing makes no sense: {what}"))
}

/// The id of an object, from its name under the folder of its type.
fn named(name: &str, tpe: FileType) -> Option<Id> {
    match tpe {
        FileType::Pack => {
            let (start, name) = name.split_once('/')?;
            // A pack in the wrong folder cannot be read, so it does not count.
            (start.len() == 2 && name.starts_with(start)).then(|| id_of(name))?
        }
        _ => id_of(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_layout() {
        let id = "ab".repeat(32);
        assert!(named(&id, FileType::Snapshot).is_some());
        assert!(named(&format!("x/{id}"), FileType::Snapshot).is_none());
        assert!(named(&format!("ab/{id}"), FileType::Pack).is_some());
        assert!(named(&format!("cd/{id}"), FileType::Pack).is_none());
        assert!(named(&format!("/{id}"), FileType::Pack).is_none());
        assert!(named(&id, FileType::Pack).is_none());
    }
}
