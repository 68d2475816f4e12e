//! How many answers to lists are read at the same time, and how large a page may be.
//!
//! An answer is in memory whole before it is decoded, and objects may have 1.5 MB each: without limits a page of large ones, or lists
//! side by side (all watches at the start, or the reconciles of many objects), take more memory than there is. So a page whose answer
//! gets too large is given up while it is read and asked for again with fewer objects; the next page of the same list begins as small
//! and has twice as many after each answer that leaves room for that: a few large objects cost a few requests each, and those that
//! come after them none. What asks sees pages that are shorter than it wanted, as the API server may send them too.
//! A watch is no list: it goes on for minutes and brings one object at a time.

use http::{Method, Request, Response, Uri, uri::PathAndQuery};
use http_body::{Frame, SizeHint};
use kube::client::Body;
use std::{
    collections::HashMap,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::{BoxError, Layer, Service, ServiceExt as _, buffer::Buffer};

/// The largest answer, in bytes.
pub const MAX_ANSWER: usize = 16 << 20;
/// How long a size is of use that nothing was asked for with.
const REMEMBERED: Duration = Duration::from_secs(3600);
/// Lists whose pages are known to be small; another one finds out for itself.
const MAX_REMEMBERED: usize = 1_000;
/// Requests that may wait for the connection.
const WAITING: usize = 1_024;

/// The limits of one client. Whoever comes first is first.
#[derive(Debug, Clone)]
pub struct FewLists {
    at_once: Arc<Semaphore>,
    pages: Arc<Mutex<HashMap<String, Small>>>,
}

/// The pages of a list that had large objects.
#[derive(Debug, Clone, Copy)]
struct Small {
    page: u32,
    /// What was asked for when one was too large: there it is forgotten.
    asked: u32,
    at: Instant,
}

impl FewLists {
    /// So many answers at the same time.
    pub fn new(at_once: usize) -> Self {
        Self {
            at_once: Arc::new(Semaphore::new(at_once)),
            pages: Arc::default(),
        }
    }

    /// The most objects that a page of this list may have now.
    fn page(&self, path: &str, asked: u32) -> u32 {
        let pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        let known = pages.get(path).filter(|small| small.at.elapsed() < REMEMBERED);
        known.map_or(asked, |small| asked.min(small.page))
    }

    /// The size to ask for instead.
    fn too_large(&self, path: &str, page: u32, asked: u32) -> u32 {
        let smaller = (page / 4).max(1);
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        if pages.len() >= MAX_REMEMBERED && !pages.contains_key(path) {
            let oldest = pages.iter().min_by_key(|(_, small)| small.at);
            if let Some(oldest) = oldest.map(|(path, _)| path.clone()) {
                pages.remove(&oldest);
            }
        }
        let small = Small {
            page: smaller,
            asked: pages.get(path).map_or(asked, |small| small.asked.max(asked)),
            at: Instant::now(),
        };
        pages.insert(path.to_owned(), small);
        smaller
    }

    /// The next page may have twice as many objects, if twice the bytes are an answer.
    fn small_enough(&self, path: &str, page: u32, bytes: usize) {
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        // One that was asked for with fewer says nothing about larger pages.
        let Some(small) = pages.get_mut(path).filter(|small| small.page == page) else {
            return;
        };
        small.at = Instant::now();
        if bytes > MAX_ANSWER / 2 {
            return;
        }
        small.page = page.saturating_mul(2);
        if small.page >= small.asked {
            pages.remove(path);
        }
    }
}

impl<S, B> Layer<S> for FewLists
where
    S: Service<Request<Body>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError> + Send + Sync,
{
    type Service = Limited<S::Future>;

    fn layer(&self, inner: S) -> Limited<S::Future> {
        Limited {
            inner: Buffer::new(inner, WAITING),
            lists: self.clone(),
        }
    }
}

/// A service that sends a list when it may read the answer.
#[derive(Debug)]
pub struct Limited<F> {
    inner: Buffer<Request<Body>, F>,
    lists: FewLists,
}

impl<F: Send + 'static> Clone for Limited<F> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            lists: self.lists.clone(),
        }
    }
}

impl<F, B, E> Service<Request<Body>> for Limited<F>
where
    F: Future<Output = Result<Response<B>, E>> + Send + 'static,
    E: Into<BoxError>,
    B: http_body::Body<Data = bytes::Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Held<B>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        // The buffer is asked in the future, once for each page that is sent.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (mut inner, lists) = (self.inner.clone(), self.lists.clone());
        Box::pin(async move {
            let Some(asked) = limit(&request) else {
                let answer = inner.ready().await?.call(request).await?;
                return Ok(answer.map(Held::Passed));
            };
            // It is never closed; if it were, nothing would be limited.
            let permit = lists.at_once.clone().acquire_owned().await.ok();
            let path = request.uri().path().to_owned();
            let mut page = lists.page(&path, asked);
            loop {
                let answer = inner.ready().await?.call(with_limit(&request, page)?).await?;
                let (parts, body) = answer.into_parts();
                if let Some(bytes) = read(body, MAX_ANSWER).await? {
                    // A refusal is short whatever the objects are, as that of a token that has expired.
                    if parts.status.is_success() {
                        lists.small_enough(&path, page, bytes.len());
                    }
                    let body = Body::from(bytes);
                    return Ok(Response::from_parts(parts, Held::Whole { body, _permit: permit }));
                }
                if page == 1 {
                    // No API server stores one object of that size: it has not kept to the limit.
                    return Err(format!("expected one object in at most {MAX_ANSWER} bytes, found more").into());
                }
                page = lists.too_large(&path, page, asked);
            }
        })
    }
}

/// The limit of a list. Every list says how many objects it takes, and no other request does.
fn limit(request: &Request<Body>) -> Option<u32> {
    let mut pairs = request.uri().query().unwrap_or_default().split('&');
    let limit = pairs.find_map(|pair| pair.strip_prefix("limit="))?;
    (request.method() == Method::GET).then(|| limit.parse().ok()).flatten()
}

/// The same list with pages of this size.
fn with_limit(request: &Request<Body>, page: u32) -> Result<Request<Body>, BoxError> {
    let query = request.uri().query().unwrap_or_default().split('&');
    let pairs: Vec<String> = query
        .map(|pair| match pair.strip_prefix("limit=") {
            Some(_) => format!("limit={page}"),
            None => pair.to_owned(),
        })
        .collect();
    let target = format!("{}?{}", request.uri().path(), pairs.join("&"));
    let mut parts = request.uri().clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(target)?);
    let mut same = Request::new(Body::empty());
    *same.method_mut() = Method::GET;
    *same.uri_mut() = Uri::from_parts(parts)?;
    *same.version_mut() = request.version();
    *same.headers_mut() = request.headers().clone();
    *same.extensions_mut() = request.extensions().clone();
    Ok(same)
}

/// The whole body, or nothing as soon as it is larger.
async fn read<B>(mut body: B, most: usize) -> Result<Option<Vec<u8>>, BoxError>
where
    B: http_body::Body<Data = bytes::Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let mut whole = Vec::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let Ok(data) = frame.map_err(Into::into)?.into_data() else {
            continue;
        };
        if whole.len() + data.len() > most {
            return Ok(None);
        }
        whole.extend_from_slice(&data);
    }
    Ok(Some(whole))
}

/// The body of an answer. That of a list keeps the right to be read until it is dropped.
#[derive(Debug)]
pub enum Held<B> {
    /// Of another request, as it comes.
    Passed(B),
    /// Of a list.
    Whole {
        /// All of it.
        body: Body,
        /// Given back with it.
        _permit: Option<OwnedSemaphorePermit>,
    },
}

impl<B> http_body::Body for Held<B>
where
    B: http_body::Body<Data = bytes::Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = bytes::Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<bytes::Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Passed(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Self::Whole { body, .. } => Pin::new(body).poll_frame(cx).map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Passed(body) => body.is_end_stream(),
            Self::Whole { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Passed(body) => body.size_hint(),
            Self::Whole { body, .. } => body.size_hint(),
        }
    }
}

#[cfg(test)]
mod hostile;

#[cfg(test)]
mod tests {
    use super::*;
    use kube::client::Body as Sent;
    use std::{
        convert::Infallible,
        sync::atomic::{AtomicUsize, Ordering},
    };

    fn request(query: &str) -> Request<Sent> {
        Request::get(format!("/api/v1/pods{query}"))
            .body(Sent::empty())
            .unwrap()
    }

    #[tokio::test]
    async fn no_more_lists_are_asked_for_than_may_be_read_and_nothing_else_waits_for_them() {
        let sent = Arc::new(AtomicUsize::new(0));
        let count = sent.clone();
        let server = tower::service_fn(move |_: Request<Sent>| {
            let count = count.clone();
            async move {
                count.fetch_add(1, Ordering::SeqCst);
                Ok::<_, Infallible>(Response::new(Sent::from(b"{}".to_vec())))
            }
        });
        let client = FewLists::new(2).layer(server);
        let ask = |query: &str| client.clone().oneshot(request(query));
        let list = "?&labelSelector=a&limit=16";
        let read = [ask(list).await.unwrap(), ask(list).await.unwrap()];
        let third = tokio::spawn(ask(list));
        for other in ["", "?&watch=true&timeoutSeconds=290", "/a/log?limitBytes=5"] {
            ask(other).await.unwrap();
        }
        tokio::task::yield_now().await;
        assert_eq!(sent.load(Ordering::SeqCst), 5, "the third list is not asked for");
        drop(read);
        third.await.unwrap().unwrap();
        assert_eq!(sent.load(Ordering::SeqCst), 6);
    }

    type Pages = Arc<Mutex<Vec<u32>>>;

    /// Answers with as many objects as it is asked for, of so many bytes each, and notes how many those are.
    fn lists_of(
        bytes: usize,
    ) -> (
        impl Service<Request<Sent>, Response = Response<Sent>, Error = Infallible, Future: Send>,
        Pages,
    ) {
        let asked = Pages::default();
        let pages = asked.clone();
        let server = tower::service_fn(move |request: Request<Sent>| {
            let page = limit(&request).unwrap();
            pages.lock().unwrap().push(page);
            async move {
                Ok::<_, Infallible>(Response::new(Sent::from(vec![
                    0;
                    (page as usize * bytes).min(64 << 20)
                ])))
            }
        });
        (server, asked)
    }

    #[tokio::test]
    async fn a_page_of_large_objects_is_asked_for_again_with_fewer_and_the_next_one_at_once() {
        for (bytes, pages) in [
            (4_000, vec![500, 500]),
            (100_000, vec![500, 125, 125]),
            (1_500_000, vec![500, 125, 31, 7, 7]),
        ] {
            let (server, asked) = lists_of(bytes);
            let client = FewLists::new(1).layer(server);
            for _ in 0..2 {
                let answer = client
                    .clone()
                    .oneshot(request("?&labelSelector=a&limit=500&continue=c"))
                    .await
                    .unwrap();
                let read = read(answer.into_body(), usize::MAX).await.unwrap().unwrap();
                assert_eq!(read.len(), bytes * *asked.lock().unwrap().last().unwrap() as usize);
            }
            assert_eq!(*asked.lock().unwrap(), pages, "{bytes}");
        }
    }

    #[test]
    fn the_same_list_is_asked_for_but_for_the_size_of_its_pages() {
        let mut list = request("?&labelSelector=a%3Db&limit=500&continue=x%3D%3D");
        list.headers_mut().insert("accept", "application/json".parse().unwrap());
        let smaller = with_limit(&list, 7).unwrap();
        assert_eq!(
            smaller.uri(),
            "/api/v1/pods?&labelSelector=a%3Db&limit=7&continue=x%3D%3D"
        );
        assert_eq!((smaller.method(), smaller.headers()), (list.method(), list.headers()));
        assert_eq!(limit(&request("/a/log?limitBytes=5")), None);
    }
}
