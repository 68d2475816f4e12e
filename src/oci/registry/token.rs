//! Bearer tokens: reading a challenge, asking the realm, and a bounded cache.
//!
//! Must not follow a redirect of a realm, must not put anything a realm answers into an error, and must not use a
//! token for another host, credential or scope than it was given for.

use super::{
    address,
    answer::{status_error, unreachable},
    auth::Credential,
    client::{Call, Client, observe},
    error::{CredentialUse, Error},
};
use reqwest::{Url, header::HeaderValue};
use serde::Deserialize;
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

const MAX_CACHED: usize = 1024;
const MAX_TOKEN_ANSWER: u64 = 256 * 1024;
/// What the specification says for an answer that names no lifetime.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(60);
const MAX_LIFETIME: Duration = Duration::from_secs(3600);

/// Host, scopes and credential that a token belongs to.
#[derive(PartialEq, Eq, Hash, Clone)]
pub(crate) struct Key {
    pub host: String,
    pub scopes: Vec<String>,
    pub credential: Option<[u8; 32]>,
}

/// The header that opens the door, and until when.
struct Entry {
    header: HeaderValue,
    until: Instant,
}

#[derive(Default)]
pub(crate) struct TokenCache(Mutex<HashMap<Key, Entry>>);

impl TokenCache {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Entry>> {
        // A poisoned cache is only a cache: its content is complete after every operation.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, key: &Key) -> Option<HeaderValue> {
        let entries = self.lock();
        let entry = entries.get(key)?;
        (entry.until > Instant::now()).then(|| entry.header.clone())
    }

    pub(crate) fn forget(&self, key: &Key) {
        self.lock().remove(key);
    }

    pub(crate) fn put(&self, key: Key, header: HeaderValue, lifetime: Duration) {
        let now = Instant::now();
        let mut entries = self.lock();
        if entries.len() >= MAX_CACHED {
            entries.retain(|_, entry| entry.until > now);
        }
        if entries.len() >= MAX_CACHED
            && let Some(oldest) = entries.iter().min_by_key(|(_, e)| e.until).map(|(key, _)| key.clone())
        {
            entries.remove(&oldest);
        }
        entries.insert(
            key,
            Entry {
                header,
                until: now + lifetime,
            },
        );
    }
}

/// A parsed `WWW-Authenticate`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String> },
}

impl Challenge {
    /// Reads the first challenge that we can answer.
    pub(crate) fn parse(header: &str) -> Option<Self> {
        let header = header.get(..header.len().min(4096))?.trim();
        let (scheme, rest) = header.split_once(' ').unwrap_or((header, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let parameters = parameters(rest);
        Some(Self::Bearer {
            realm: parameters.get("realm")?.clone(),
            service: parameters.get("service").cloned(),
        })
    }
}

/// `key="value",key=value`; a comma inside quotes belongs to the value.
fn parameters(text: &str) -> HashMap<String, String> {
    let mut found = HashMap::new();
    let mut rest = text;
    while let Some((key, after)) = rest.split_once('=') {
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        found.insert(
            key.trim_matches([' ', ',']).to_ascii_lowercase(),
            value.trim().to_owned(),
        );
        rest = next;
    }
    found
}

#[derive(Deserialize)]
pub(crate) struct TokenAnswer {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    expires_in: Option<u64>,
}

/// Answers a challenge: the value for `Authorization`, also put into the cache.
pub(crate) async fn answer(
    client: &Client,
    call: &Call<'_>,
    challenge: Challenge,
    key: Key,
) -> Result<HeaderValue, Error> {
    let (header, lifetime) = match challenge {
        Challenge::Basic => (basic(call)?, MAX_LIFETIME),
        Challenge::Bearer { realm, service } => bearer(client, call, &realm, service.as_deref()).await?,
    };
    client.tokens().put(key, header.clone(), lifetime);
    Ok(header)
}

fn unauthorized(call: &Call<'_>, code: u16) -> Error {
    Error::Unauthorized {
        host: call.host().to_owned(),
        verb: call.verb,
        target: call.repository.path().to_owned(),
        code,
        with: if call.credential().is_some() {
            CredentialUse::Configured
        } else {
            CredentialUse::Anonymous
        },
    }
}

fn basic(call: &Call<'_>) -> Result<HeaderValue, Error> {
    use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
    let Some(Credential::Basic { username, password }) = call.credential() else {
        return Err(unauthorized(call, 401));
    };
    secret_header(
        call,
        &format!("Basic {}", BASE64.encode(format!("{username}:{password}"))),
    )
}

fn secret_header(call: &Call<'_>, text: &str) -> Result<HeaderValue, Error> {
    let mut header = HeaderValue::from_str(text)
        .map_err(|_| Error::malformed(call.host(), "the token", "printable text", "other bytes"))?;
    header.set_sensitive(true);
    Ok(header)
}

async fn bearer(
    client: &Client,
    call: &Call<'_>,
    realm: &str,
    service: Option<&str>,
) -> Result<(HeaderValue, Duration), Error> {
    let trusted = client.is_insecure(call.host());
    let url = Url::parse(realm)
        .map_err(|_| Error::malformed(call.host(), "the token realm", "an absolute URL", "something else"))?;
    address::check(&url, trusted).map_err(|why| Error::UnsafeTarget {
        host: call.host().to_owned(),
        verb: "token",
        target: address::shown(&url),
        why,
    })?;
    let answer: TokenAnswer = ask_realm(client, call, url, service, trusted).await?;
    let token = if answer.token.is_empty() {
        answer.access_token
    } else {
        answer.token
    };
    if token.is_empty() {
        return Err(Error::malformed(call.host(), "the token answer", "a token", "none"));
    }
    // A token that is about to expire is fetched anew instead of failing half-way through a call.
    let lifetime = answer.expires_in.map_or(DEFAULT_LIFETIME, Duration::from_secs);
    let lifetime = lifetime.min(MAX_LIFETIME).saturating_sub(Duration::from_secs(10));
    Ok((secret_header(call, &format!("Bearer {token}"))?, lifetime))
}

/// The question to the realm: a refresh token is posted, so that it never stands in a URL.
fn question(http: &reqwest::Client, call: &Call<'_>, mut url: Url, service: Option<&str>) -> reqwest::RequestBuilder {
    let service = service.map(|service| ("service", service));
    if let Some(Credential::IdentityToken(token)) = call.credential() {
        let scope = call.scopes.join(" ");
        // The query encoder of a URL is the encoder of a form.
        let mut form = url.clone();
        form.query_pairs_mut()
            .clear()
            .extend_pairs([("grant_type", "refresh_token"), ("client_id", "repave")])
            .append_pair("scope", &scope)
            .append_pair("refresh_token", token)
            .extend_pairs(service);
        return http
            .post(url)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form.query().unwrap_or_default().to_owned());
    }
    url.query_pairs_mut()
        .extend_pairs(service)
        .extend_pairs(call.scopes.iter().map(|scope| ("scope", scope.as_str())));
    let request = http.get(url);
    if let Some(Credential::Basic { username, password }) = call.credential() {
        request.basic_auth(username, Some(password))
    } else {
        request
    }
}

async fn ask_realm(
    client: &Client,
    call: &Call<'_>,
    url: Url,
    service: Option<&str>,
    trusted: bool,
) -> Result<TokenAnswer, Error> {
    let request = question(client.http(trusted), call, url, service);
    let sent = request.timeout(client.options().call_timeout).send().await;
    observe(client, call.host(), "token", &sent);
    let response = sent.map_err(|error| unreachable(call.host(), "token", &error))?;
    match response.status().as_u16() {
        200 => {
            let what = "the token answer (bytes)";
            let body = client
                .bounded_body(response, call.host(), what, MAX_TOKEN_ANSWER)
                .await?;
            serde_json::from_slice(&body)
                .map_err(|_| Error::malformed(call.host(), "the token answer", "JSON with a token", "something else"))
        }
        code @ (400 | 401 | 403) => Err(unauthorized(call, code)),
        _ => Err(status_error(call, &response)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_with_commas_inside_quotes() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer {
                realm: realm.to_owned(),
                service: service.map(str::to_owned),
            })
        };
        for (text, expected) in [
            (
                r#"Bearer realm="https://a.io/token",service="r,s",scope="repository:a:pull,push""#,
                bearer("https://a.io/token", Some("r,s")),
            ),
            ("bearer realm=https://a.io/t", bearer("https://a.io/t", None)),
            (r#"Basic realm="x""#, Some(Challenge::Basic)),
            ("BASIC", Some(Challenge::Basic)),
            ("Negotiate", None),
            ("Bearer service=\"x\"", None),
            ("", None),
        ] {
            assert_eq!(Challenge::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn the_cache_is_bounded_and_forgets_the_oldest() {
        let cache = TokenCache::default();
        let key = |n: usize| Key {
            host: n.to_string(),
            scopes: Vec::new(),
            credential: None,
        };
        for n in 0..MAX_CACHED + 5 {
            cache.put(
                key(n),
                HeaderValue::from_static("x"),
                Duration::from_secs(100 + n as u64),
            );
        }
        assert_eq!(cache.lock().len(), MAX_CACHED);
        assert!(cache.get(&key(0)).is_none());
        assert!(cache.get(&key(MAX_CACHED + 4)).is_some());
        cache.put(key(1), HeaderValue::from_static("x"), Duration::ZERO);
        assert!(cache.get(&key(1)).is_none(), "an expired token is not used");
    }
}
