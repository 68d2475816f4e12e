//! Reading a registry's answer: bounded bodies, the target of a `Location`, and the error for a status.
//!
//! Must not put a body, a header or a query of an answer into an error, except an error code that the specification
//! names.

use super::{
    address,
    client::{Call, Client},
    error::{CredentialUse, Error},
};
use bytes::{Bytes, BytesMut};
use repave_core::report::bounded;
use reqwest::{
    Response, Url,
    header::{LOCATION, RETRY_AFTER},
};
use serde::Deserialize;
use std::{error::Error as _, time::Duration};

const MAX_ERROR_BODY: u64 = 64 * 1024;
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// The target of a `Location`, relative to the URL that answered.
pub(crate) fn location(call: &Call<'_>, base: &Url, response: &Response) -> Result<Url, Error> {
    let bad = |found: &str| Error::malformed(call.host(), "the Location header", "a URL", found);
    let text = response.headers().get(LOCATION).ok_or_else(|| bad("none"))?;
    let text = text.to_str().map_err(|_| bad("other bytes"))?;
    let mut url = base.join(text).map_err(|_| bad("something else"))?;
    // Behind a proxy a registry may believe that it speaks http: the host is the same, so https is right.
    if url.scheme() == "http"
        && base.scheme() == "https"
        && url.host_str() == base.host_str()
        && url.port() == base.port()
    {
        url.set_scheme("https").map_err(|()| bad("something else"))?;
    }
    Ok(url)
}

pub(crate) fn unreachable(host: &str, verb: &'static str, error: &reqwest::Error) -> Error {
    Error::Unreachable {
        host: host.to_owned(),
        verb,
        detail: causes(error),
    }
}

/// The error for a status that is not what was asked for; reads no body.
pub(crate) fn status_error(call: &Call<'_>, response: &Response) -> Error {
    let (host, verb) = (call.host().to_owned(), call.verb);
    let retry_after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| retry_after(value.to_str().ok()?));
    match response.status().as_u16() {
        code @ (401 | 403) => Error::Unauthorized {
            host,
            verb,
            target: call.repository.path().to_owned(),
            code,
            with: call
                .credential()
                .map_or(CredentialUse::Anonymous, |_| CredentialUse::Configured),
        },
        429 => Error::Throttled {
            host,
            verb,
            code: 429,
            retry_after,
        },
        503 if retry_after.is_some() => Error::Throttled {
            host,
            verb,
            code: 503,
            retry_after,
        },
        code @ 500.. => Error::Unavailable { host, verb, code },
        code => Error::Refused {
            host,
            verb,
            target: call.repository.path().to_owned(),
            code,
            oci_code: String::new(),
        },
    }
}

impl Client {
    /// Like [`status_error`], with the error code of the body for a 4xx.
    pub(crate) async fn refused(&self, call: &Call<'_>, response: Response) -> Error {
        let mut error = status_error(call, &response);
        if let Error::Refused { oci_code, .. } = &mut error
            && let Ok(body) = self
                .bounded_body(response, call.host(), "the error (bytes)", MAX_ERROR_BODY)
                .await
        {
            *oci_code = error_code(&body);
        }
        error
    }

    /// A whole body, at most `limit` bytes of it.
    pub(crate) async fn bounded_body(
        &self,
        mut response: Response,
        host: &str,
        what: &'static str,
        limit: u64,
    ) -> Result<Bytes, Error> {
        let too_large = || Error::TooLarge {
            host: host.to_owned(),
            what,
            limit,
        };
        if response.content_length().is_some_and(|length| length > limit) {
            return Err(too_large());
        }
        let mut body = BytesMut::new();
        let read = async {
            while let Some(chunk) = response
                .chunk()
                .await
                .map_err(|error| unreachable(host, what, &error))?
            {
                if (body.len() + chunk.len()) as u64 > limit {
                    return Err(too_large());
                }
                body.extend_from_slice(&chunk);
            }
            Ok(())
        };
        self.in_time(read).await.map_err(|()| Error::Unreachable {
            host: host.to_owned(),
            verb: what,
            detail: format!("the body did not end in {} s", self.options().call_timeout.as_secs()),
        })??;
        Ok(body.freeze())
    }
}

pub(crate) fn unsafe_target(call: &Call<'_>, url: &Url, why: &'static str) -> Error {
    Error::UnsafeTarget {
        host: call.host().to_owned(),
        verb: call.verb,
        target: address::shown(url),
        why,
    }
}

pub(crate) fn setup(error: &reqwest::Error) -> Error {
    Error::Setup { detail: causes(error) }
}

/// The causes of an error without its first line, which holds the URL.
fn causes(error: &reqwest::Error) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next.filter(|_| words.len() < 6) {
        words.push(cause.to_string());
        next = cause.source();
    }
    if words.is_empty() {
        words.push(
            if error.is_timeout() {
                "timed out"
            } else {
                "the connection failed"
            }
            .to_owned(),
        );
    }
    bounded(&words.join(": "))
}

/// Seconds or an HTTP date; at most one hour.
pub(crate) fn retry_after(text: &str) -> Option<Duration> {
    let seconds = text.trim().parse::<u64>().ok().map(Duration::from_secs);
    let wait = seconds.or_else(|| {
        let until = jiff::fmt::rfc2822::DateTimeParser::new()
            .parse_timestamp(text.trim())
            .ok()?;
        Some(Duration::try_from(until.duration_since(jiff::Timestamp::now())).unwrap_or_default())
    })?;
    Some(wait.min(MAX_RETRY_AFTER))
}

/// The error code of the specification in a body; empty where there is none.
pub(crate) fn error_code(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<OneError>,
    }
    #[derive(Deserialize)]
    struct OneError {
        code: String,
    }
    let code = serde_json::from_slice::<Errors>(body)
        .ok()
        .and_then(|e| e.errors.into_iter().next())
        .map(|e| e.code);
    code.filter(|code| code.len() <= 40 && code.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'))
        .unwrap_or_default()
}
