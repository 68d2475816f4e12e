//! The one way to list objects: page by page, bounded, and each page parsed before the next one is asked for.
//!
//! A list that was cut silently would be a wrong answer, so one beyond its bound is an error and not a short list. A page
//! is shrunk to what its caller keeps before the next one comes, so that memory is that of one page and the result.
//! Must not know any kind, and must not retry: the caller's backoff does.

use kube::{Api, api::ListParams, core::Selector, runtime::watcher};
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// Objects in one page of any list and of the first list of any watch, unless the caller asks for fewer. Where they are large, a page
/// has fewer of them: `repave_cluster::lists` bounds the bytes of an answer.
pub const PAGE: u32 = 500;

/// How everything is watched: the first list in pages of [`PAGE`].
pub fn watch() -> watcher::Config {
    watcher::Config::default().page_size(PAGE)
}

/// Bytes of a label selector. It stands in the path of the request, where a byte may become three and where no more than 65 534
/// can be sent; a workload may have a selector that is longer.
const MAX_SELECTOR: usize = 16 << 10;

/// A list of what a selector selects.
pub fn selecting(selector: &Selector) -> Result<ListParams, ListError> {
    let params = ListParams::default().labels_from(selector);
    match params.label_selector.as_ref().map_or(0, String::len) {
        found if found > MAX_SELECTOR => Err(ListError::LongSelector { found }),
        _ => Ok(params),
    }
}

/// Why a list could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The API refused or did not answer.
    #[error("Kubernetes API: {0}")]
    Api(#[from] kube::Error),
    /// There are more objects than the caller allows.
    #[error("expected at most {max} objects in one list, found more: nothing is done on a part of them")]
    TooMany {
        /// The bound.
        max: usize,
    },
    /// One of them cannot be read, and its caller can do without none.
    #[error("expected objects that can be read, found {name:?} that cannot: {why}; correct or delete it")]
    Unreadable {
        /// Its name.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// The API server cannot be asked: the selector is too long for a request.
    #[error(
        "expected a label selector of at most {MAX_SELECTOR} bytes, found one of {found}: no list can be asked for by it, select by fewer values"
    )]
    LongSelector {
        /// Its bytes.
        found: usize,
    },
    /// The API server gave the same place to continue at twice; the list would never end.
    #[error("the list does not advance: the API server gave the same continue token twice")]
    Stuck,
}

impl ListError {
    /// Whether the API server says that we may not list there.
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Api(kube::Error::Api(status)) if status.code == 403)
    }
}

/// Lists at most `max` objects that `params` selects and gives back what `keep` makes of each; objects for which it gives
/// `None` are dropped at once but count towards `max`. A page has [`PAGE`] objects, or as few as `params` says.
pub async fn list<K, T>(
    api: &Api<K>,
    params: ListParams,
    max: usize,
    keep: impl FnMut(K) -> Option<T>,
) -> Result<Vec<T>, ListError>
where
    K: Clone + Debug + DeserializeOwned,
{
    match first(api, params, max, keep).await? {
        First { kept, more: false } => Ok(kept),
        First { more: true, .. } => Err(ListError::TooMany { max }),
    }
}

/// The first objects of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct First<T> {
    /// What was kept of them.
    pub kept: Vec<T>,
    /// Whether there are more.
    pub more: bool,
}

/// The same, for callers to whom a part that is known to be one is an answer: reads no page beyond `max`.
pub async fn first<K, T>(
    api: &Api<K>,
    params: ListParams,
    max: usize,
    mut keep: impl FnMut(K) -> Option<T>,
) -> Result<First<T>, ListError>
where
    K: Clone + Debug + DeserializeOwned,
{
    let page_size = params.limit.map_or(PAGE, |limit| limit.clamp(1, PAGE));
    let mut params = params.limit(page_size);
    let (mut kept, mut left) = (Vec::new(), max);
    loop {
        let page = api.list(&params).await?;
        let more = page.items.len() > left;
        kept.extend(page.items.into_iter().take(left).filter_map(|object| {
            left = left.saturating_sub(1);
            keep(object)
        }));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            None => return Ok(First { kept, more }),
            // A page that is full to the bound with more behind it is already too many.
            Some(_) if left == 0 => return Ok(First { kept, more: true }),
            Some(token) if params.continue_token.as_ref() == Some(&token) => return Err(ListError::Stuck),
            Some(token) => params = params.continue_token(&token),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, Response};
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::{Client, ResourceExt, client::Body};
    use serde_json::{Value, json};
    use std::{
        convert::Infallible,
        sync::{Arc, Mutex},
    };

    /// An API server with so many ConfigMaps that honours `limit` and `continue`; it keeps the queries it got.
    fn server(objects: usize, stuck: bool) -> (Client, Arc<Mutex<Vec<String>>>) {
        let queries = Arc::new(Mutex::new(Vec::new()));
        let seen = queries.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let query = request.uri().query().unwrap_or_default().to_owned();
            let number = |key: &str| {
                let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
                pairs
                    .find(|(name, _)| *name == key)
                    .map(|(_, value)| value.parse::<usize>().unwrap())
            };
            let (from, limit) = (number("continue").unwrap_or(0), number("limit").unwrap_or(usize::MAX));
            let to = from.saturating_add(limit).min(objects);
            let items: Vec<Value> = (from..to)
                .map(|at| json!({"metadata": {"name": format!("m{at}")}}))
                .collect();
            let next = if stuck { PAGE.to_string() } else { to.to_string() };
            let token = if to < objects { json!(next) } else { json!("") };
            let body =
                json!({"kind": "ConfigMapList", "apiVersion": "v1", "metadata": {"continue": token}, "items": items});
            seen.lock().unwrap().push(query);
            async move { Ok::<_, Infallible>(Response::new(Body::from(body.to_string().into_bytes()))) }
        });
        (Client::new(service, "default"), queries)
    }

    async fn names(objects: usize, max: usize, stuck: bool) -> (Result<Vec<String>, ListError>, usize) {
        let (client, queries) = server(objects, stuck);
        let api: Api<ConfigMap> = Api::namespaced(client, "n");
        let found = list(&api, ListParams::default().labels("a=b"), max, |map| {
            Some(map.name_any())
        })
        .await;
        let queries = queries.lock().unwrap();
        assert!(
            queries.iter().all(|query| query.contains("labelSelector=a%3Db")),
            "{queries:?}"
        );
        (found, queries.len())
    }

    #[tokio::test]
    async fn a_list_of_many_pages_is_whole_and_in_order() {
        let page = PAGE as usize;
        for (objects, pages) in [(0, 1), (1, 1), (page, 1), (page + 1, 2), (3 * page - 1, 3)] {
            let (found, requests) = names(objects, 2_000, false).await;
            let expected: Vec<String> = (0..objects).map(|at| format!("m{at}")).collect();
            assert_eq!((found.unwrap(), requests), (expected, pages), "{objects}");
        }
    }

    #[tokio::test]
    async fn a_list_beyond_its_bound_is_refused_and_reads_no_page_more_than_it_must() {
        let page = PAGE as usize;
        for (objects, max, requests) in [
            (3, 2, 1),
            (3 * page, page, 1),
            (3 * page, 2 * page, 2),
            (2 * page + 1, 2 * page, 2),
        ] {
            let (found, asked) = names(objects, max, false).await;
            assert!(
                matches!(found, Err(ListError::TooMany { max: found }) if found == max),
                "{objects}"
            );
            assert_eq!(asked, requests, "{objects}");
        }
        assert_eq!(names(1_000, 1_000, false).await.0.unwrap().len(), 1_000);
    }

    #[tokio::test]
    async fn the_first_of_a_list_say_whether_there_are_more_and_pages_may_be_small() {
        for (objects, max, limit, expected, requests) in [
            (0, 10, None, (0, false), 1),
            (10, 10, None, (10, false), 1),
            (11, 10, None, (10, true), 1),
            (10, 10, Some(3), (10, false), 4),
            (20, 6, Some(3), (6, true), 2),
            (PAGE as usize + 1, 1_000, Some(9_999), (PAGE as usize + 1, false), 2),
        ] {
            let (client, queries) = server(objects, false);
            let api: Api<ConfigMap> = Api::namespaced(client, "n");
            let params = ListParams {
                limit,
                ..ListParams::default()
            };
            let found = first(&api, params, max, |map| Some(map.name_any())).await.unwrap();
            assert_eq!((found.kept.len(), found.more), expected, "{objects} {max} {limit:?}");
            assert_eq!(queries.lock().unwrap().len(), requests, "{objects} {max} {limit:?}");
        }
    }

    #[tokio::test]
    async fn a_server_that_never_advances_does_not_hold_us_for_ever() {
        let (found, asked) = names(5_000, 100_000, true).await;
        assert!(matches!(found, Err(ListError::Stuck)));
        assert!(asked <= 3, "{asked}");
    }

    #[tokio::test]
    async fn what_is_dropped_still_counts_so_that_no_list_is_endless() {
        let (client, _) = server(11, false);
        let api: Api<ConfigMap> = Api::namespaced(client, "n");
        let found = list(&api, ListParams::default(), 10, |_| None::<()>).await;
        assert!(matches!(found, Err(ListError::TooMany { max: 10 })));
    }

    /// The chart's limit; 40 MiB are for everything else that the process holds. While a page is read it is there four times: as it
    /// comes, whole, as text of each object, and as objects.
    #[test]
    fn pages_of_the_largest_objects_fit_into_the_memory_of_the_operator() {
        let (copies, limit) = (4, (256 - 40) << 20);
        let bytes = repave_cluster::lists::MAX_ANSWER * copies * repave_cluster::LISTS_AT_ONCE;
        assert!(
            bytes < limit,
            "the pages may take {} MiB of {} MiB",
            bytes >> 20,
            limit >> 20
        );
    }
}
