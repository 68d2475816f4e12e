//! How many answers to lists are read at the same time.
//!
//! An answer is in memory whole before it is decoded, and a page of large objects has tens of megabytes: without a limit, lists
//! side by side (all watches at the start, or the reconciles of many objects) take more memory than there is, however small a page.
//! Once an answer is read it is decoded without waiting for anything, so what is in memory stays in proportion to the limit.
//! A watch is no list: it goes on for minutes and brings one object at a time.

use http::{Method, Request, Response};
use http_body::{Body, Frame, SizeHint};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::{Layer, Service};

/// The limit of one client. Whoever comes first is first.
#[derive(Debug, Clone)]
pub struct FewLists(Arc<Semaphore>);

impl FewLists {
    /// So many answers at the same time.
    pub fn new(at_once: usize) -> Self {
        Self(Arc::new(Semaphore::new(at_once)))
    }
}

impl<S> Layer<S> for FewLists {
    type Service = Limited<S>;

    fn layer(&self, inner: S) -> Limited<S> {
        Limited {
            inner,
            lists: self.0.clone(),
        }
    }
}

/// A service that sends a list when it may read the answer.
#[derive(Debug, Clone)]
pub struct Limited<S> {
    inner: S,
    lists: Arc<Semaphore>,
}

impl<S, R, B> Service<Request<R>> for Limited<S>
where
    S: Service<Request<R>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = Response<Held<B>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        let lists = is_list(&request).then(|| self.lists.clone());
        // A future sends nothing before it is awaited.
        let answer = self.inner.call(request);
        Box::pin(async move {
            let permit = match lists {
                // It is never closed; if it were, nothing would be limited.
                Some(lists) => lists.acquire_owned().await.ok(),
                None => None,
            };
            Ok(answer.await?.map(|body| Held { body, _permit: permit }))
        })
    }
}

/// Every list says how many objects it takes, and no other request does.
fn is_list<R>(request: &Request<R>) -> bool {
    let mut pairs = request.uri().query().unwrap_or_default().split('&');
    request.method() == Method::GET && pairs.any(|pair| pair.starts_with("limit="))
}

/// The body of an answer, and the right to read it until it is dropped.
#[derive(Debug)]
pub struct Held<B> {
    body: B,
    _permit: Option<OwnedSemaphorePermit>,
}

impl<B: Body + Unpin> Body for Held<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::client::Body as Sent;
    use std::{
        convert::Infallible,
        sync::atomic::{AtomicUsize, Ordering},
    };
    use tower::ServiceExt as _;

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
}
