//! One HTTP call to a registry: budget per host, credentials, quick retries, redirects, and errors by status.
//!
//! Must not read a body without a limit, must not retry for long (the caller's backoff does), and must not send a
//! credential anywhere but to the registry it is for.

use super::{
    address,
    answer::{location, setup, status_error, unreachable, unsafe_target},
    auth::{Auth, Credential, api_host},
    error::Error,
    options::{ClientOptions, forbidden},
    token::{self, Challenge, Key, TokenCache},
};
use bytes::Bytes;
use repave_core::image_ref::Repository;
use reqwest::{
    Body, Method, Response, Url,
    header::{AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE},
};
use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

const CALLS_PER_HOST: usize = 8;
const MAX_HOSTS: usize = 256;
const QUICK_RETRIES: u32 = 2;
const MAX_REDIRECTS: u32 = 5;

/// The client. Cheap to clone; all clones share connections, tokens and the budget per host.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    options: ClientOptions,
    /// For the registries that the operator's configuration names.
    plain: reqwest::Client,
    /// For everything else, named by a user or by a registry: resolves to allowed addresses only.
    guarded: reqwest::Client,
    tokens: TokenCache,
    budgets: Mutex<HashMap<String, Arc<Semaphore>>>,
    jitter: RandomState,
}

/// One call, before it is sent.
pub(crate) struct Call<'a> {
    pub verb: &'static str,
    pub method: Method,
    /// Where it goes: at the registry, or where the registry said that an upload goes.
    pub url: Url,
    /// The registry: the only place that credentials are sent to.
    pub home: Url,
    pub repository: &'a Repository,
    pub auth: &'a Auth,
    pub scopes: Vec<String>,
    pub headers: HeaderMap,
    pub body: Option<Bytes>,
}

/// What a call may do; becomes the scope of a token.
#[derive(Clone, Copy)]
pub(crate) enum Access {
    Pull,
    PullPush,
    Delete,
}

pub(crate) fn scope(repository: &Repository, access: Access) -> String {
    let actions = match access {
        Access::Pull => "pull",
        Access::PullPush => "pull,push",
        Access::Delete => "pull,delete",
    };
    format!("repository:{}:{actions}", repository.path())
}

impl<'a> Call<'a> {
    pub(crate) fn host(&self) -> &'a str {
        self.repository.host()
    }

    pub(crate) fn credential(&self) -> Option<&'a Credential> {
        self.auth.for_repository(self.repository)
    }

    fn is_home(&self, url: &Url) -> bool {
        address::same_host(url, &self.home) && url.scheme() == self.home.scheme()
    }

    fn key(&self) -> Key {
        Key {
            host: self.host().to_owned(),
            scopes: self.scopes.clone(),
            credential: self.credential().map(Credential::fingerprint),
        }
    }
}

pub(crate) fn observe(client: &Client, host: &str, verb: &'static str, sent: &reqwest::Result<Response>) {
    if let Some(observer) = &client.options().observer {
        observer.request(
            host,
            verb,
            sent.as_ref().map_or(0, |response| response.status().as_u16()),
        );
    }
}

impl Client {
    /// Builds the client; fails only on an unreadable CA bundle or a system without certificates.
    pub fn new(options: ClientOptions) -> Result<Self, Error> {
        // An error means that the process has a provider already, which is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        let roots = reqwest::Certificate::from_pem_bundle(&options.ca_bundle_pem).map_err(|error| setup(&error))?;
        let builder = || {
            reqwest::Client::builder()
                .user_agent(&options.user_agent)
                .connect_timeout(options.connect_timeout)
                .pool_idle_timeout(Duration::from_secs(60))
                .pool_max_idle_per_host(CALLS_PER_HOST)
                .referer(false)
                .redirect(reqwest::redirect::Policy::none())
                .tls_certs_merge(roots.clone())
        };
        let plain = builder().build().map_err(|error| setup(&error))?;
        let guarded = builder()
            .dns_resolver(Arc::new(address::GuardedResolver))
            .build()
            .map_err(|error| setup(&error))?;
        Ok(Self(Arc::new(Inner {
            options,
            plain,
            guarded,
            tokens: TokenCache::default(),
            budgets: Mutex::default(),
            jitter: RandomState::new(),
        })))
    }

    pub(crate) fn options(&self) -> &ClientOptions {
        &self.0.options
    }

    pub(crate) fn tokens(&self) -> &TokenCache {
        &self.0.tokens
    }

    pub(crate) fn is_insecure(&self, host: &str) -> bool {
        self.options().insecure_hosts.contains(host)
    }

    pub(crate) fn http(&self, trusted: bool) -> &reqwest::Client {
        if trusted { &self.0.plain } else { &self.0.guarded }
    }

    /// A call to `/v2/<repository>/<tail>`. `tail` must be built from checked parts only.
    pub(crate) fn call<'a>(
        &self,
        (verb, method, access): (&'static str, Method, Access),
        repository: &'a Repository,
        tail: &str,
        auth: &'a Auth,
    ) -> Result<Call<'a>, Error> {
        self.options().allow(repository.host())?;
        let scheme = if self.is_insecure(repository.host()) {
            "http"
        } else {
            "https"
        };
        let text = format!(
            "{scheme}://{}/v2/{}/{tail}",
            api_host(repository.host()),
            repository.path()
        );
        let url = Url::parse(&text)
            .map_err(|_| Error::malformed(repository.host(), "the registry host", "a host name with a port", &text))?;
        if !self.options().is_local(repository.host()) {
            address::check_host(&url).map_err(|why| forbidden(repository.host(), why))?;
        }
        Ok(Call {
            verb,
            method,
            home: url.clone(),
            url,
            repository,
            auth,
            scopes: vec![scope(repository, access)],
            headers: HeaderMap::new(),
            body: None,
        })
    }

    async fn permit(&self, host: &str) -> Result<OwnedSemaphorePermit, Error> {
        let semaphore = {
            let mut budgets = self.0.budgets.lock().unwrap_or_else(PoisonError::into_inner);
            if budgets.len() >= MAX_HOSTS && !budgets.contains_key(host) {
                budgets.retain(|_, semaphore| Arc::strong_count(semaphore) > 1);
            }
            let fresh = || Arc::new(Semaphore::new(CALLS_PER_HOST));
            Arc::clone(budgets.entry(host.to_owned()).or_insert_with(fresh))
        };
        semaphore.acquire_owned().await.map_err(|_| Error::Setup {
            detail: "the budget of a host was closed".to_owned(),
        })
    }

    /// Sends a call and gives every answer back that is neither 401, 403, 429 nor 5xx. Redirects of GET and HEAD are
    /// followed. The budget is held until the headers are there, never over a body: a copy within one registry reads
    /// and writes at once and must not wait for itself.
    pub(crate) async fn send(&self, call: &Call<'_>) -> Result<Response, Error> {
        let permit = self.permit(call.host()).await?;
        let mut attempt = 0;
        let result = loop {
            let result = self.try_once(call).await;
            let again = matches!(&result, Err(Error::Unreachable { .. } | Error::Unavailable { .. }));
            if !again || attempt >= QUICK_RETRIES {
                break result;
            }
            attempt += 1;
            let spread = self
                .0
                .jitter
                .hash_one((attempt, call.url.as_str(), std::time::Instant::now()))
                % 200;
            tokio::time::sleep(Duration::from_millis(u64::from(attempt) * 100 + spread)).await;
        };
        drop(permit);
        result
    }

    async fn try_once(&self, call: &Call<'_>) -> Result<Response, Error> {
        let key = call.key();
        let cached = self.tokens().get(&key);
        let response = self.exchange(call, cached).await?;
        if response.status().as_u16() != 401 {
            return accept(call, response);
        }
        self.tokens().forget(&key);
        let challenge = response
            .headers()
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .find_map(Challenge::parse);
        let Some(challenge) = challenge else {
            return accept(call, response);
        };
        let header = token::answer(self, call, challenge, key.clone()).await?;
        let response = self.exchange(call, Some(header)).await?;
        if response.status().as_u16() == 401 {
            self.tokens().forget(&key);
        }
        accept(call, response)
    }

    /// One request and the redirects it leads to.
    async fn exchange(&self, call: &Call<'_>, authorization: Option<HeaderValue>) -> Result<Response, Error> {
        let follows = matches!(call.method, Method::GET | Method::HEAD);
        let trusted = self.is_insecure(call.host());
        let mut url = call.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let at_home = call.is_home(&url);
            let mut request = self
                .http(trusted || at_home && self.options().is_local(call.host()))
                .request(call.method.clone(), url.clone());
            request = request.headers(call.headers.clone());
            if let (true, Some(header)) = (at_home, &authorization) {
                request = request.header(AUTHORIZATION, header.clone());
            }
            if let Some(body) = &call.body {
                request = request.body(body.clone());
            }
            let sent = self.in_time(request.send()).await;
            if let Ok(sent) = &sent {
                observe(self, call.host(), call.verb, sent);
            }
            let response = sent
                .map_err(|()| self.silent(call))?
                .map_err(|error| unreachable(call.host(), call.verb, &error))?;
            if !follows || !response.status().is_redirection() || response.status().as_u16() == 304 {
                return Ok(response);
            }
            url = location(call, &url, &response)?;
            if !call.is_home(&url) {
                address::check(&url, trusted).map_err(|why| unsafe_target(call, &url, why))?;
            }
        }
        Err(unsafe_target(call, &url, "more than five redirects"))
    }

    /// The same call to another URL that the registry named; it gets credentials only if it is the registry itself.
    pub(crate) fn redirected<'a>(
        &self,
        call: &Call<'a>,
        verb: &'static str,
        method: Method,
        url: Url,
    ) -> Result<Call<'a>, Error> {
        if !call.is_home(&url) {
            address::check(&url, self.is_insecure(call.host())).map_err(|why| unsafe_target(call, &url, why))?;
        }
        Ok(Call {
            verb,
            method,
            url,
            home: call.home.clone(),
            repository: call.repository,
            auth: call.auth,
            scopes: call.scopes.clone(),
            headers: HeaderMap::new(),
            body: None,
        })
    }

    pub(crate) async fn in_time<T>(&self, future: impl Future<Output = T>) -> Result<T, ()> {
        tokio::time::timeout(self.options().call_timeout, future)
            .await
            .map_err(|_| ())
    }

    fn silent(&self, call: &Call<'_>) -> Error {
        if let Some(observer) = &self.options().observer {
            observer.request(call.host(), call.verb, 0);
        }
        Error::Unreachable {
            host: call.host().to_owned(),
            verb: call.verb,
            detail: format!("no answer in {} s", self.options().call_timeout.as_secs()),
        }
    }

    /// Sends a body that can be sent only once, to a URL that a registry gave us for an upload.
    pub(crate) async fn send_stream(&self, call: &Call<'_>, body: Body) -> Result<Response, Error> {
        let permit = self.permit(call.host()).await?;
        let at_home = call.is_home(&call.url);
        let mut request = self
            .http(self.is_insecure(call.host()) || at_home && self.options().is_local(call.host()))
            .request(call.method.clone(), call.url.clone())
            .headers(call.headers.clone())
            .timeout(self.options().transfer_timeout)
            .body(body);
        if let (true, Some(header)) = (at_home, self.tokens().get(&call.key())) {
            request = request.header(AUTHORIZATION, header);
        }
        let sent = request.send().await;
        observe(self, call.host(), call.verb, &sent);
        drop(permit);
        let response = sent.map_err(|error| unreachable(call.host(), call.verb, &error))?;
        accept(call, response)
    }
}

/// Separates the answers that mean the same for every call.
fn accept(call: &Call<'_>, response: Response) -> Result<Response, Error> {
    match response.status().as_u16() {
        401 | 403 | 429 | 500.. => Err(status_error(call, &response)),
        0..=499 => Ok(response),
    }
}
