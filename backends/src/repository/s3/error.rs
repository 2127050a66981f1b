//! What an S3 server, or the way to it, has to say about a failure.

use std::error::Error as StdError;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::error::metadata::ErrorMetadata;

use crate::repository::error::{Fault, Trouble, of_chain};

/// The region that a response says the bucket is in.
pub(super) fn region_in(response: &HttpResponse) -> Option<String> {
    response.headers().get("x-amz-bucket-region").map(str::to_owned)
}

/// The fault that `error` is.
pub(super) fn fault<E>(error: &SdkError<E, HttpResponse>, bucket: &str) -> Fault
where
    E: ProvideErrorMetadata + StdError + 'static,
{
    match error {
        SdkError::ServiceError(refused) => answered(refused.raw(), refused.err().meta(), bucket),
        SdkError::ResponseError(response) => {
            let status = response.raw().status().as_u16();
            let trouble = if status >= 500 { Trouble::Busy } else { Trouble::Other };
            Fault::new(
                trouble,
                format!("the server's answer makes no sense (HTTP {status}): {}", chain(error)),
            )
        }
        SdkError::TimeoutError(_) => Fault::new(Trouble::TimedOut, chain(error)),
        _ => unanswered(error),
    }
}

/// The server answered with an error.
fn answered(response: &HttpResponse, meta: &ErrorMetadata, bucket: &str) -> Fault {
    let status = response.status().as_u16();
    let code = meta.code().unwrap_or_default();
    let text = match (code, meta.message()) {
        ("", _) => format!("HTTP {status}"),
        (code, Some(message)) => format!("{code}: {message} (HTTP {status})"),
        (code, None) => format!("{code} (HTTP {status})"),
    };
    let fault = |trouble| Fault::new(trouble, text.clone());
    match (code, status) {
        ("InvalidObjectState", _) => {
            Fault::new(Trouble::Cold, "object is in cold storage (InvalidObjectState): thaw it first")
        }
        ("NoSuchBucket", _) => fault(Trouble::NoBucket).advise(format!("there is no bucket {bucket}: check the address")),
        ("InvalidAccessKeyId" | "NotSignedUp", _) => {
            fault(Trouble::Denied).advise("the server does not know the access key: check AWS_ACCESS_KEY_ID")
        }
        ("SignatureDoesNotMatch", _) => fault(Trouble::Denied).advise(
            "check AWS_SECRET_ACCESS_KEY (and the region, and whether the bucket belongs into the path)",
        ),
        ("ExpiredToken" | "TokenRefreshRequired", _) => {
            fault(Trouble::Denied).advise("the session has expired: renew AWS_SESSION_TOKEN and its keys")
        }
        ("RequestTimeTooSkewed", _) => {
            fault(Trouble::Denied).advise("the clocks of this machine and of the server differ: set them")
        }
        ("PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException", _)
        | (_, 301 | 307) => moved(response, meta, bucket, &text),
        (_, 412) => Fault::new(Trouble::Changed, "the object is not the one that was listed any more"),
        ("InvalidRange", _) | (_, 416) => fault(Trouble::Short),
        ("NoSuchKey" | "NotFound", _) => fault(Trouble::Missing),
        ("SlowDown" | "RequestLimitExceeded" | "RequestRateLimitExceeded" | "Throttling", _)
        | (_, 408 | 429 | 500..) => fault(Trouble::Busy),
        (_, 404) => fault(Trouble::Missing),
        (_, 401 | 403) => fault(Trouble::Denied).advise(
            "access denied: the keys must allow s3:GetObject on the repository and s3:ListBucket on the bucket",
        ),
        _ => fault(Trouble::Other),
    }
}

fn moved(response: &HttpResponse, meta: &ErrorMetadata, bucket: &str, text: &str) -> Fault {
    // Some servers name the region in a header, some in the text: "... expecting 'eu-central-1'".
    let expected = meta.message().and_then(|message| {
        let (_, after) = message.split_once("expecting '")?;
        after.split_once('\'').map(|(region, _)| region.to_owned())
    });
    let (known, advice) = match region_in(response).or(expected) {
        Some(region) => (
            format!("bucket {bucket} is in region {region}: {text}"),
            format!("set AWS_REGION={region}, or use the endpoint of that region"),
        ),
        None => (text.to_owned(), "set AWS_REGION to the region of the bucket".to_owned()),
    };
    Fault::new(Trouble::Moved, known).advise(advice)
}

/// No answer came, perhaps because nothing could be sent.
fn unanswered(error: &(dyn StdError + 'static)) -> Fault {
    let text = chain(error);
    let trouble = match of_chain(error) {
        // Whoever was asked for credentials may have timed out; having none remains the point.
        _ if text.contains("no credentials found in chain") => Trouble::NoCredentials,
        Trouble::Other if text.to_lowercase().contains("credential") => Trouble::NoCredentials,
        trouble => trouble,
    };
    if trouble == Trouble::NoCredentials {
        return Fault::new(trouble, format!("no usable credentials: {text}")).advise(
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE and AWS_SHARED_CREDENTIALS_FILE",
        );
    }
    Fault::new(trouble, text)
}

/// Words of the SDK's layers that say nothing.
const EMPTY: &[&str] = &["dispatch failure", "other", "io error", "service error"];

/// `error` and its sources in one line.
pub(super) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(cause) = next
        && parts.len() < 12
    {
        let text = cause.to_string();
        if !EMPTY.contains(&text.as_str()) && !parts.iter().any(|earlier| earlier.contains(&text)) {
            parts.push(text);
        }
        next = cause.source();
    }
    parts.join(": ")
}

#[cfg(test)]
mod tests {
    use aws_smithy_types::body::SdkBody;

    use super::*;

    fn response(status: u16, header: Option<(&'static str, &'static str)>) -> HttpResponse {
        let mut response = HttpResponse::new(status.try_into().unwrap(), SdkBody::empty());
        if let Some((name, value)) = header {
            response.headers_mut().insert(name, value);
        }
        response
    }

    fn told(status: u16, code: &str, message: &str) -> Fault {
        let meta = ErrorMetadata::builder().code(code).message(message).build();
        answered(&response(status, None), &meta, "bucket")
    }

    #[test]
    fn cold_storage_is_recognisable() {
        let fault =
            told(403, "InvalidObjectState", "The operation is not valid for the object's storage class");
        assert_eq!(fault.trouble, Trouble::Cold);
        assert_eq!(fault.text, "object is in cold storage (InvalidObjectState): thaw it first");
    }

    #[test]
    fn codes_come_before_status() {
        for (status, code, trouble) in [
            (404, "NoSuchBucket", Trouble::NoBucket),
            (404, "NoSuchKey", Trouble::Missing),
            (404, "", Trouble::Missing),
            (403, "InvalidAccessKeyId", Trouble::Denied),
            (403, "SignatureDoesNotMatch", Trouble::Denied),
            (403, "AccessDenied", Trouble::Denied),
            (503, "SlowDown", Trouble::Busy),
            (400, "RequestRateLimitExceeded", Trouble::Busy),
            (500, "InternalError", Trouble::Busy),
            (416, "InvalidRange", Trouble::Short),
            (501, "NotImplemented", Trouble::Busy),
            (400, "InvalidArgument", Trouble::Other),
        ] {
            assert_eq!(told(status, code, "message").trouble, trouble, "{status} {code}");
        }
    }

    #[test]
    fn the_region_of_the_bucket_is_named() {
        let text = "the region 'us-east-1' is wrong; expecting 'eu-central-1'";
        let fault = told(400, "AuthorizationHeaderMalformed", text);
        assert_eq!(fault.trouble, Trouble::Moved);
        assert!(fault.text.starts_with("bucket bucket is in region eu-central-1"), "{}", fault.text);

        let header = Some(("x-amz-bucket-region", "ap-south-1"));
        let fault = answered(&response(301, header), &ErrorMetadata::builder().build(), "b");
        assert!(fault.advice.is_some_and(|advice| advice.contains("AWS_REGION=ap-south-1")));
    }
}
