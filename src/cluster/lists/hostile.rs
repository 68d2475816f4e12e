//! What a few large objects of one tenant cost the lists of everybody.

use super::*;
use kube::client::Body as Sent;
use std::{
    convert::Infallible,
    sync::atomic::{AtomicUsize, Ordering},
};

/// A namespace-wide list of `sizes.len()` objects in the order of their keys, read page by page; gives back how many were read and
/// how many requests that took.
async fn read_all(client: &FewLists, sizes: &Arc<Vec<usize>>) -> (usize, usize) {
    let requests = Arc::new(AtomicUsize::new(0));
    let (count, all) = (requests.clone(), sizes.clone());
    let server = tower::service_fn(move |request: Request<Sent>| {
        count.fetch_add(1, Ordering::SeqCst);
        let from: usize = (request.uri().query().unwrap().split('&'))
            .find_map(|pair| pair.strip_prefix("continue="))
            .map_or(0, |from| from.parse().unwrap());
        let page = limit(&request).unwrap() as usize;
        let to = (from + page).min(all.len());
        let bytes = all[from..to].iter().sum::<usize>();
        async move {
            let answer = Response::builder().header("next", to.to_string());
            Ok::<_, Infallible>(answer.body(Sent::from(vec![0; bytes])).unwrap())
        }
    });
    let client = client.layer(server);
    let mut at = 0;
    while at < sizes.len() {
        let query = format!("?&limit=500&continue={at}");
        let request = Request::get(format!("/apis/apps/v1/deployments{query}"))
            .body(Sent::empty())
            .unwrap();
        let answer = client.clone().oneshot(request).await.unwrap();
        at = answer.headers()["next"].to_str().unwrap().parse().unwrap();
    }
    (at, requests.load(Ordering::SeqCst))
}

/// An API server writes `<` as `\u003c`: 1.4 MB in etcd are 8.4 MB of JSON.
#[tokio::test]
async fn three_large_objects_of_one_tenant_do_not_make_every_other_one_a_request_of_its_own() {
    let mut sizes = vec![3_000; 5_000];
    for large in &mut sizes[2_000..2_003] {
        *large = 8_400_000;
    }
    let (lists, sizes) = (FewLists::new(1), Arc::new(sizes));
    let alone = read_all(&FewLists::new(1), &Arc::new(vec![3_000; 5_000])).await;
    assert_eq!(alone, (5_000, 10));
    let first = read_all(&lists, &sizes).await;
    let again = read_all(&lists, &sizes).await;
    assert!(
        first.1 < 40 && again.1 < 40,
        "without them 10 requests; with them {} the first time, and {} after that",
        first.1,
        again.1
    );
    assert!(
        lists.pages.lock().unwrap().is_empty(),
        "and nothing is remembered of them"
    );
}

/// What is large all over is asked for as it fits, and not too much again and again.
#[tokio::test]
async fn a_list_of_large_objects_only_is_not_asked_for_too_much_each_time() {
    let sizes = Arc::new(vec![1_500_000; 350]);
    let lists = FewLists::new(1);
    for _ in 0..2 {
        let (_, requests) = read_all(&lists, &sizes).await;
        assert!(requests <= 350 / 7 + 4, "{requests}");
    }
}

#[test]
fn a_refusal_or_a_smaller_question_says_nothing_about_larger_pages_and_what_is_remembered_is_bounded() {
    let lists = FewLists::new(1);
    assert_eq!(lists.too_large("/a", 500, 500), 125);
    lists.small_enough("/a", 16, 10);
    assert_eq!((lists.page("/a", 500), lists.page("/a", 16)), (125, 16));
    lists.small_enough("/a", 125, MAX_ANSWER / 2 + 1);
    assert_eq!(lists.page("/a", 500), 125);
    lists.small_enough("/a", 125, 10);
    assert_eq!(lists.page("/a", 500), 250);
    for at in 0..2 * MAX_REMEMBERED {
        lists.too_large(&format!("/{at}"), 500, 500);
    }
    assert_eq!(lists.pages.lock().unwrap().len(), MAX_REMEMBERED);
}
