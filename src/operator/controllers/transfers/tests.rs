//! What a transfer that is slow, stuck or not wanted any more does to the others.

use super::*;
use futures::StreamExt;
use std::future::{pending, ready};

fn key(uid: &str) -> Key {
    Key {
        uid: uid.into(),
        what: "the copy to staging",
    }
}

fn running<T>() -> Progress<T> {
    Progress::Pending(Pending::Running)
}

fn parties(namespace: &str, host: &str) -> Parties {
    Parties {
        namespace: namespace.into(),
        name: "c".into(),
        hosts: vec![host.into(), "staging.local".into(), host.into()],
    }
}

#[tokio::test(start_paused = true)]
async fn one_look_begins_it_the_end_wakes_its_object_and_the_next_look_takes_the_result() {
    let transfers = Transfers::<u8>::default();
    let mut ended = transfers.ended();
    let slow = || async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        7
    };
    let at = parties("team", "a.local");
    for _ in 0..3 {
        assert_eq!(transfers.look(&key("u"), &at, slow), Ok(running()));
    }
    assert_eq!(ended.next().await, Some(("team".to_owned(), "c".to_owned())));
    assert_eq!(transfers.look(&key("u"), &at, slow), Ok(Progress::Done(7)));
    assert_eq!(
        transfers.look(&key("u"), &at, slow),
        Ok(running()),
        "and it begins anew"
    );
}

#[tokio::test(start_paused = true)]
async fn a_namespace_or_a_registry_that_hangs_leaves_room_for_the_others() {
    let transfers = Transfers::<()>::default();
    let (mut queued, mut run) = (Vec::new(), 0);
    for number in 0..10 {
        let at = parties("busy", &format!("silent-{number}.local"));
        match transfers.look(&key(&format!("n{number}")), &at, pending) {
            Ok(Progress::Pending(Pending::Queued { by, .. })) => queued.push(by),
            _ => run += 1,
        }
    }
    assert_eq!(
        (run, queued.first().map(String::as_str)),
        (MOST_OF_A_NAMESPACE, Some("namespace busy"))
    );
    let others = parties("other", "b.local");
    assert_eq!(transfers.look(&key("o"), &others, || ready(())), Ok(running()));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(transfers.look(&key("o"), &others, || ready(())), Ok(Progress::Done(())));
    let mut to_one_host = 0;
    for number in 0..10 {
        let at = Parties {
            hosts: vec!["dead.local".into()],
            ..parties(&format!("n{number}"), "")
        };
        let look = transfers.look(&key(&format!("h{number}")), &at, pending);
        to_one_host += usize::from(look == Ok(running()));
    }
    assert_eq!(to_one_host, MOST_OF_A_ROUTE);
}

#[tokio::test(start_paused = true)]
async fn a_slow_upstream_of_some_namespaces_leaves_a_shared_registry_to_the_others() {
    let transfers = Transfers::<()>::default();
    for number in 0..12 {
        let at = parties(&format!("evil-{}", number % 4), "slow-upstream.local");
        drop(transfers.look(&key(&format!("e{number}")), &at, pending));
    }
    let look = transfers.look(&key("good"), &parties("team", "good-upstream.local"), pending);
    assert_eq!(look, Ok(running()), "only the slow upstream is slow");
}

#[tokio::test(start_paused = true)]
async fn one_that_never_ends_is_given_up_at_its_deadline_and_gives_its_share_back() {
    let transfers = Transfers::<()>::default();
    let at = parties("team", "a.local");
    for number in 0..MOST_OF_A_NAMESPACE {
        assert_eq!(transfers.look(&key(&format!("u{number}")), &at, pending), Ok(running()));
    }
    tokio::time::sleep(DEADLINE + Duration::from_secs(1)).await;
    let what = "the copy to staging";
    assert_eq!(transfers.look(&key("u0"), &at, pending), Err(GivenUp::TooSlow { what }));
    assert_eq!(transfers.look(&key("next"), &at, pending), Ok(running()));
}

#[tokio::test(start_paused = true)]
async fn one_that_is_not_to_be_done_any_more_ends_and_gives_its_share_back() {
    let transfers = Transfers::<u8>::default();
    let at = parties("team", "a.local");
    for number in 0..MOST_OF_A_NAMESPACE {
        let key = key(&format!("u{number}"));
        assert_eq!(transfers.look(&key, &at, pending), Ok(running()));
        transfers.give_up(&key);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(transfers.look(&key("u0"), &at, || ready(7)), Ok(running()));
    tokio::time::sleep(Duration::from_secs(1)).await;
    transfers.give_up(&key("u0"));
    assert_eq!(
        transfers.look(&key("u0"), &at, pending),
        Ok(running()),
        "its result is forgotten"
    );
}

#[tokio::test(start_paused = true)]
async fn without_the_lease_all_are_given_up_and_none_begins() {
    let transfers = Transfers::<()>::default();
    let held = transfers.while_held();
    let (sent, mut heard) = tokio::sync::oneshot::channel::<()>();
    let at = parties("team", "a.local");
    let begun = transfers.look(&key("u"), &at, || async move {
        tokio::time::sleep(Duration::from_secs(10)).await;
        let _heard = sent.send(());
    });
    assert_eq!(begun, Ok(running()));
    drop(held);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(heard.try_recv().is_err(), "it was dropped before it wrote");
    assert_eq!(transfers.look(&key("u"), &at, pending), Ok(running()));
    assert!(lock(&transfers.inner).running.is_empty());
}

/// Four namespaces and two silent registries of one tenant; nobody else's registry has a part in it.
#[tokio::test(start_paused = true)]
async fn registries_that_hang_leave_room_for_transfers_between_other_registries() {
    let transfers = Transfers::<()>::default();
    for number in 0..40 {
        let at = Parties {
            namespace: format!("evil-{}", number % 4),
            name: "c".into(),
            hosts: vec![format!("silent-{}.local", number % 2)],
        };
        drop(transfers.look(&key(&format!("e{number}")), &at, pending));
    }
    let at = Parties {
        namespace: "good".into(),
        name: "c".into(),
        hosts: vec!["docker.io".into(), "r.local".into()],
    };
    let mut waited = 0;
    while transfers.look(&key("good"), &at, || ready(())) != Ok(running()) {
        tokio::time::sleep(Duration::from_secs(10)).await;
        waited += 10;
        assert!(waited < 60, "all {MOST} are taken for {} s", DEADLINE.as_secs());
    }
}
