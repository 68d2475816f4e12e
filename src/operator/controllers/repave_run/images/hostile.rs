//! What images that a tenant names on his workloads do to the lookups of everybody else in a shared plan.

use super::*;
use crate::registry::testing::client_for;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A registry that takes every connection and never says a word; counts them.
async fn silent() -> (String, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (host, asked) = (
        listener.local_addr().unwrap().to_string(),
        Arc::<AtomicUsize>::default(),
    );
    let count = asked.clone();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            held.push(stream);
        }
    });
    (host, asked)
}

/// Three hundred containers are in one Deployment; their images need not exist.
#[tokio::test(start_paused = true)]
async fn a_registry_of_a_tenant_that_hangs_keeps_nobody_elses_image_from_being_looked_up() {
    let (slow, _) = silent().await;
    let (other, asked) = silent().await;
    let client = client_for(&[&slow, &other]);
    let honest = Digest::of(b"honest");
    let made_up = (0_usize..)
        .map(|seed| Digest::of(&seed.to_be_bytes()))
        .filter(|digest| *digest < honest);
    let at = |host: &str| -> Sources { [(format!("{host}/app").parse().unwrap(), ["team".to_owned()].into())].into() };
    let mut wanted: Wanted = made_up.take(300).map(|digest| (digest, at(&slow))).collect();
    wanted.insert(honest, at(&other));
    let images = Images::default();
    let asker = Asker {
        name: "platform/debian",
        auths: &[],
    };
    let mut now = Timestamp::from_second(1_000_000).unwrap();
    let (looks, mut waited) = (200, Duration::ZERO);
    for _ in 0..looks {
        let before = tokio::time::Instant::now();
        images.look_up(&client, &wanted, asker, now).await;
        waited += before.elapsed();
        now += SignedDuration::from_secs(35);
        tokio::time::sleep(Duration::from_secs(35)).await;
    }
    tokio::task::yield_now().await;
    assert!(waited < looks * Duration::from_secs(1), "a look waits a moment only");
    let held_up = wanted
        .iter()
        .filter(|(digest, places)| images.layers(digest, places, asker.name, now) == Layers::NotYet);
    assert_eq!(held_up.count(), 0, "no run waits for what has failed");
    assert!(
        asked.load(Ordering::SeqCst) > 0,
        "{looks} looks, two hours: it was never asked about, every look took 5 s longer, and what is not yet looked up keeps a run \
         from ever finishing: {}",
        images.has_missing(&wanted, asker.name, now)
    );
}

/// As many as failures are kept of: each look asks for 64, and what is forgotten is due at once.
#[test]
fn names_of_images_that_nobody_can_read_are_not_asked_for_over_and_over() {
    let images = Images::default();
    let now = Timestamp::from_second(1_000_000).unwrap();
    let there: Sources = [("nowhere.test/app".parse().unwrap(), ["evil".to_owned()].into())].into();
    let wanted: Wanted = (0..=MAX_KEPT)
        .map(|seed| (Digest::of(&seed.to_be_bytes()), there.clone()))
        .collect();
    for digest in wanted.keys() {
        let place = (
            digest.clone(),
            "nowhere.test/app".parse().unwrap(),
            "platform/debian".to_owned(),
        );
        images.memory().failures.note(&place, "evil", now);
    }
    assert!(
        !images.has_missing(&wanted, "platform/debian", now),
        "all have just failed, and one is to be looked up again at once: a run of this plan never finishes"
    );
    let others: Sources = [("nowhere.test/app".parse().unwrap(), ["team".to_owned()].into())].into();
    let digest = Digest::of(b"honest");
    let known = images.layers(&digest, &others, "platform/debian", now);
    assert_eq!(known, Layers::NotYet, "somebody else's is looked up");
}
