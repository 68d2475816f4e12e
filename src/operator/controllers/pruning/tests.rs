//! Pruning against a registry: what leaves production, and what never does.

use super::*;
use crate::{
    api::{ImageCandidate, ReleaseHistory, release_history::ReleaseHistorySpec},
    controllers::testing::Api as Server,
    domain::{
        digest::Digest,
        history::{History, Shown},
        image_ref::Repository,
        promotion::Promotion,
    },
    registry::{
        Artifact, Auth, Client,
        testing::{TestRegistry, push_image},
    },
};
use bytes::Bytes;
use kube::runtime::reflector;
use serde_json::{Value, json};

/// Four releases of a base image that keeps one, at a registry.
struct Estate {
    server: Server,
    client: Client,
    production: Repository,
    staging: Repository,
    releases: Vec<Digest>,
    state: State,
}

impl Estate {
    async fn new(registry: &TestRegistry, delete_from_production: bool) -> Self {
        let (server, client) = (Server::default(), registry.client());
        let (production, staging) = (registry.repository("debian"), registry.repository("debian-staging"));
        let mut releases = Vec::new();
        for number in 1..=4_u8 {
            push_image(&client, &staging, &format!("b{number}"), &[&[number]]).await;
            let image = push_image(&client, &production, &format!("12-{number}"), &[&[number]]).await;
            let report = Artifact::single("application/vnd.x", "text/plain", Bytes::from_static(b"r"), [].into());
            let attached = client.attach(&production, &image, &report, &Auth::anonymous()).await;
            attached.unwrap();
            releases.push(image.digest);
        }
        let base = server.put(&json!({
            "apiVersion": "repave.dev/v1alpha1", "kind": "BaseImage", "metadata": {"name": "debian-12", "namespace": "team"},
            "spec": {"source": {"image": "up.local/debian", "track": {"tag": "12"}}, "policyRefs": [{"name": "hardened"}],
                "history": {"releases": 1, "deleteFromProduction": delete_from_production},
                "promote": {"repository": production.to_string(), "channelTag": "12", "signing": {"keyRef": {"name": "key"}}}},
        }));
        let mut promotions = Vec::new();
        for (digest, number) in releases.iter().zip(1..) {
            let promotion = promotion(number, digest, &production);
            server.put(&candidate(&promotion, &staging, &base["metadata"]["uid"]));
            promotions.push(promotion);
        }
        let history = History::begin(promotions, [], Shown::default()).0;
        let mut stored = ReleaseHistory::new("debian-12", ReleaseHistorySpec::of(&history, Some(&production)));
        stored.metadata.namespace = Some("team".into());
        server.put(&stored);
        let mut ctx = server.context();
        ctx.registry = client.clone();
        Self {
            server,
            client,
            production,
            staging,
            releases,
            state: State {
                ctx,
                bases: reflector::store().0,
                told: apply::Told::default(),
            },
        }
    }

    /// A Deployment elsewhere in the cluster with this image.
    fn runs(&self, image: &str) {
        self.server.put(&json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"selector": {}, "template": {"spec": {"containers": [{"name": "web", "image": image}]}}},
        }));
    }

    async fn look(&self) {
        let base = self.server.get("baseimages", "team/debian-12").unwrap();
        let base = serde_json::from_value(base).unwrap();
        super::look(&base, &self.state).await.unwrap();
    }

    /// The numbers of the releases that a repository has.
    async fn there(&self, repository: &Repository) -> Vec<usize> {
        let mut there = Vec::new();
        for (digest, number) in self.releases.iter().zip(1..) {
            let found = self
                .client
                .head(&repository.at(digest), &Auth::anonymous())
                .await
                .unwrap();
            there.extend(found.map(|_| number));
        }
        there
    }
}

fn promotion(sequence: u64, digest: &Digest, production: &Repository) -> Promotion {
    Promotion {
        sequence,
        digest: digest.clone(),
        source_digest: Digest::of(&sequence.to_be_bytes()),
        chain_id: Some(Digest::of(b"c")),
        layers: 1,
        repository: production.clone(),
        tag: format!("12-{sequence}"),
        candidate: format!("c{sequence}"),
        promoted_at: "2026-01-01T00:00:00Z".parse().unwrap(),
    }
}

fn candidate(of: &Promotion, staging: &Repository, base_uid: &Value) -> ImageCandidate {
    let mut one = crate::controllers::candidate::example();
    one.metadata = serde_json::from_value(json!({
        "name": of.candidate, "namespace": "team", "labels": {"repave.dev/base-image": "debian-12"},
        "ownerReferences": [{"apiVersion": "repave.dev/v1alpha1", "kind": "BaseImage", "name": "debian-12", "uid": base_uid,
            "controller": true}],
    }))
    .unwrap();
    one.spec.sequence = of.sequence;
    one.spec.staging = staging.clone();
    one.spec.source_digest = of.source_digest.clone();
    one.status = serde_json::from_value(json!({"result": "Passed", "builtDigest": of.digest, "promoted": {
        "repository": of.repository, "digest": of.digest, "tag": of.tag, "chainId": of.chain_id, "layers": 1,
        "at": "2026-01-01T00:00:00Z"}}))
    .unwrap();
    one
}

#[tokio::test]
async fn past_releases_stay_in_production_unless_their_deletion_is_asked_for() {
    let registry = TestRegistry::docker().await;
    let estate = Estate::new(&registry, false).await;
    estate.look().await;
    assert_eq!(estate.there(&estate.production).await, [1, 2, 3, 4]);
    assert_eq!(estate.there(&estate.staging).await, [3, 4]);
    assert_eq!(estate.server.names("imagecandidates"), ["team/c3", "team/c4"]);
    assert_eq!(estate.server.count("LIST", "pods"), 0, "nobody asks what is in use");
}

#[tokio::test]
async fn a_past_release_that_is_in_use_stays_and_one_that_nothing_uses_goes_with_all_that_is_said_about_it() {
    let registry = TestRegistry::docker().await;
    let estate = Estate::new(&registry, true).await;
    let (first, second) = (estate.releases[0].clone(), estate.releases[1].clone());
    estate.runs(&estate.production.at(&second).to_string());
    estate.look().await;
    assert_eq!(estate.there(&estate.production).await, [2, 3, 4]);
    assert_eq!(
        estate.server.names("imagecandidates"),
        ["team/c2", "team/c3", "team/c4"]
    );
    let auth = Auth::anonymous();
    let attached = estate.client.referrers(&estate.production, &first, None, &auth).await;
    assert_eq!(attached.unwrap(), []);
    let tag = estate.production.tagged("12-1").unwrap();
    assert_eq!(estate.client.head(&tag, &Auth::anonymous()).await.unwrap(), None);
    // Once nothing uses it any more, it goes too; what is out and what may be gone back to never does.
    estate.runs("elsewhere.local/other:1");
    estate.look().await;
    estate.look().await;
    assert_eq!(estate.there(&estate.production).await, [3, 4]);
    assert_eq!(estate.server.names("imagecandidates"), ["team/c3", "team/c4"]);
}

#[tokio::test]
async fn without_knowing_what_is_in_use_nothing_leaves_production() {
    let registry = TestRegistry::docker().await;
    let estate = Estate::new(&registry, true).await;
    estate.server.faults(|seen| {
        let fault = crate::controllers::testing::Fault::Refused(403, "Forbidden");
        (seen.resource == "pods").then_some(fault)
    });
    estate.look().await;
    assert_eq!(estate.there(&estate.production).await, [1, 2, 3, 4]);
    assert_eq!(
        estate.server.names("imagecandidates").len(),
        4,
        "they are asked about again"
    );
}

#[tokio::test]
async fn a_registry_that_deletes_nothing_keeps_its_images_and_the_candidates_go() {
    let registry = TestRegistry::without_deletion().await;
    let estate = Estate::new(&registry, true).await;
    estate.look().await;
    assert_eq!(estate.there(&estate.production).await, [1, 2, 3, 4]);
    assert_eq!(estate.server.names("imagecandidates"), ["team/c3", "team/c4"]);
}

#[tokio::test]
async fn without_the_lease_nothing_is_deleted_anywhere() {
    let registry = TestRegistry::docker().await;
    let mut estate = Estate::new(&registry, true).await;
    estate.state.ctx.leader = crate::runtime::lease::Leader::never("test");
    estate.look().await;
    assert_eq!(estate.there(&estate.production).await, [1, 2, 3, 4]);
    assert_eq!(estate.there(&estate.staging).await, [1, 2, 3, 4]);
    assert_eq!(estate.server.names("imagecandidates").len(), 4);
}
