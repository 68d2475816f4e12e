//! `kubectl repave revoke`: takes a release back, or lifts that. The only command that writes: one annotation of a BaseImage.
//!
//! It orders; the operator records the order in the ReleaseHistory, goes back to the last good release and moves the channel
//! tag. Must not write if the annotation that is there cannot be read: it might hold an order of somebody else.

use crate::names;
use anyhow::{Context as _, bail, ensure};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams, PostParams},
};
use repave_api::{BaseImage, ReleaseHistory, refs::ANNOTATION_REVOKE};
use repave_core::{
    digest::Digest,
    history::History,
    orders::{self, Named, Order},
    promotion::{Entry, State},
};
use serde_json::json;

/// How often a lost race with another writer is tried again.
const ATTEMPTS: u32 = 5;
/// Field manager of the annotation.
const MANAGER: &str = "kubectl-repave";

/// `kubectl repave revoke`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The release: its digest, its immutable tag, or the channel tag for what is released now
    #[arg(value_name = "DIGEST|TAG")]
    release: String,
    /// The BaseImage
    #[arg(long, value_name = "NAME", value_parser = names::object)]
    base: String,
    /// Namespace of the BaseImage; the client's own unless given
    #[arg(long, short, value_parser = names::namespace)]
    namespace: Option<String>,
    /// Why, on one line; it is kept and shown
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Ends a revocation
    #[arg(long)]
    lift: bool,
}

/// Orders it.
pub async fn run(client: &Client, args: &Args) -> anyhow::Result<()> {
    let namespace = args
        .namespace
        .clone()
        .unwrap_or_else(|| client.default_namespace().to_owned());
    let bases: Api<BaseImage> = Api::namespaced(client.clone(), &namespace);
    let histories: Api<ReleaseHistory> = Api::namespaced(client.clone(), &namespace);
    let by = user(client).await;
    for _ in 0..ATTEMPTS {
        let base = bases
            .get(&args.base)
            .await
            .with_context(|| format!("BaseImage {namespace}/{} could not be read", args.base))?;
        let history = histories.get_opt(&args.base).await?;
        let history = history.map_or_else(History::default, |found| History::from(&found.spec));
        let (annotation, said) = ordered(&base, &history, args, by.clone())?;
        let patch = json!({"metadata": {
            "resourceVersion": base.resource_version(),
            "annotations": {ANNOTATION_REVOKE: annotation},
        }});
        let params = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        match bases.patch(&args.base, &params, &Patch::Merge(&patch)).await {
            Ok(_) => {
                println!("{said}");
                return Ok(());
            }
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("BaseImage {namespace}/{} could not be annotated", args.base));
            }
        }
    }
    bail!(
        "BaseImage {namespace}/{} was changed by somebody else {ATTEMPTS} times: try again",
        args.base
    )
}

/// Who the API server takes us for; for the record only.
async fn user(client: &Client) -> Option<String> {
    let api: Api<SelfSubjectReview> = Api::all(client.clone());
    let asked = api.create(&PostParams::default(), &SelfSubjectReview::default()).await;
    asked.ok()?.status?.user_info?.username
}

/// The new annotation, and what is said to the person. Pure.
fn ordered(base: &BaseImage, history: &History, args: &Args, by: Option<String>) -> anyhow::Result<(String, String)> {
    let name = base.name_any();
    let Meant { tag, digest, state } = find(base, history, &args.release)?;
    match (args.lift, &state) {
        (false, State::Revoked(revocation)) => {
            bail!(
                "{tag} is revoked already, since {}: {}",
                revocation.at,
                revocation.reason
            )
        }
        (true, State::Released | State::Superseded) => bail!("{tag} is not revoked: nothing to lift"),
        (false, State::Released | State::Superseded) | (true, State::Revoked(_)) => {}
    }
    let there = base.annotations().get(ANNOTATION_REVOKE).map_or("[]", String::as_str);
    let there = orders::orders(there).with_context(|| {
        format!("the annotation {ANNOTATION_REVOKE} of BaseImage {name} cannot be read: repair it first (kubectl edit baseimage {name})")
    })?;
    let order = Order {
        release: Named::Digest(digest.clone()),
        reason: args.reason.clone(),
        by,
        lift: args.lift,
    };
    let annotation = orders::with_order(&there, &order)?;
    // What we write must be what the operator can read.
    orders::orders(&annotation).context("the order cannot be written")?;
    let next = match (args.lift, &state) {
        (true, _) => "It may be gone back to again; if nothing was promoted after it, it is released again now, and plans move workloads to it."
            .to_owned(),
        (false, State::Released) => {
            let out = history.released();
            let good = out.and_then(|out| history.previous(&out.promotion.repository));
            good.map_or_else(
                || "No good release is left to go back to: the next one that passes is released.".to_owned(),
                |good| {
                    format!(
                        "The operator releases {} again, and plans move workloads to it.",
                        good.promotion.tag
                    )
                },
            )
        }
        (false, _) => "It is not what is released; nothing is rolled back to it any more.".to_owned(),
    };
    let what = if args.lift {
        "is not revoked any more"
    } else {
        "is revoked"
    };
    let said = format!(
        "{tag} ({digest}) {what}. {next}\nSee: kubectl get baseimage {name}; kubectl get releasehistory {name} -o yaml"
    );
    Ok((annotation, said))
}

/// The release that a person means.
struct Meant {
    tag: String,
    digest: Digest,
    state: State,
}

impl From<&Entry> for Meant {
    fn from(entry: &Entry) -> Self {
        Self {
            tag: entry.promotion.tag.clone(),
            digest: entry.promotion.digest.clone(),
            state: entry.state.clone(),
        }
    }
}

fn find(base: &BaseImage, history: &History, release: &str) -> anyhow::Result<Meant> {
    let name = base.name_any();
    ensure!(
        !history.entries().is_empty() || !history.unlisted().is_empty(),
        "BaseImage {name} has no ReleaseHistory yet, so nothing was released: kubectl get releasehistory {name}"
    );
    if release == base.spec.promote.channel_tag {
        let out = history.released();
        return out
            .map(Meant::from)
            .with_context(|| format!("nothing is released by BaseImage {name}, so {release} names nothing"));
    }
    let named =
        orders::named(release).with_context(|| format!("expected a digest (sha256:…) or a tag, found {release:?}"))?;
    let listed = history.entries().iter().map(Meant::from);
    let unlisted = history.unlisted().iter().map(|one| Meant {
        tag: one.tag.clone(),
        digest: one.digest.clone(),
        state: State::Revoked(one.revocation.clone()),
    });
    let found = listed.chain(unlisted).find(|one| match &named {
        Named::Digest(digest) => one.digest == *digest,
        Named::Tag(tag) => one.tag == *tag,
    });
    let known: Vec<&str> = history
        .entries()
        .iter()
        .take(5)
        .map(|entry| entry.promotion.tag.as_str())
        .collect();
    found.with_context(|| {
        format!(
            "{release} is no release of BaseImage {name}; its newest ones are {}",
            known.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use repave_core::promotion::Promotion;

    fn base(annotation: Option<&str>) -> BaseImage {
        let mut base: BaseImage = serde_json::from_value(json!({
            "apiVersion": "repave.dev/v1alpha1", "kind": "BaseImage",
            "metadata": {"name": "debian-12", "namespace": "platform"},
            "spec": {"source": {"image": "up.test/debian", "track": {"tag": "12"}}, "policyRefs": [{"name": "hardened"}],
                     "promote": {"repository": "r.test/debian", "channelTag": "12", "signing": {"keyRef": {"name": "k"}}}}
        }))
        .unwrap();
        if let Some(annotation) = annotation {
            base.annotations_mut()
                .insert(ANNOTATION_REVOKE.to_owned(), annotation.to_owned());
        }
        base
    }

    fn history(revoked: bool) -> History {
        let promotion = |sequence: u64| Promotion {
            sequence,
            digest: Digest::of(&sequence.to_be_bytes()),
            source_digest: Digest::of(b"s"),
            chain_id: Some(Digest::of(b"c")),
            layers: 1,
            repository: "r.test/debian".parse().unwrap(),
            tag: format!("12-{sequence}"),
            candidate: "c".into(),
            promoted_at: Timestamp::UNIX_EPOCH,
        };
        let order = Order {
            release: Named::Tag("12-2".into()),
            reason: "bad".into(),
            by: None,
            lift: false,
        };
        let orders = if revoked { vec![order] } else { Vec::new() };
        let production = "r.test/debian".parse().unwrap();
        let all = [promotion(1), promotion(2)];
        History::default()
            .advance(&all, &orders, &production, Timestamp::UNIX_EPOCH)
            .history
    }

    fn args(release: &str, lift: bool) -> Args {
        Args {
            release: release.to_owned(),
            base: "debian-12".to_owned(),
            namespace: None,
            reason: "CVE-2026-1".to_owned(),
            lift,
        }
    }

    #[test]
    fn the_channel_tag_means_what_is_out_and_the_order_names_its_digest() {
        let (annotation, said) = ordered(&base(None), &history(false), &args("12", false), Some("ann".into())).unwrap();
        let digest = Digest::of(&2_u64.to_be_bytes());
        assert_eq!(
            annotation,
            format!(r#"[{{"release":"{digest}","reason":"CVE-2026-1","by":"ann"}}]"#)
        );
        assert!(
            said.contains("12-2 (") && said.contains("releases 12-1 again"),
            "{said}"
        );
        let (_, said) = ordered(&base(None), &history(false), &args("12-1", false), None).unwrap();
        assert!(said.contains("not what is released"), "{said}");
        let (annotation, said) = ordered(&base(None), &history(true), &args("12-2", true), None).unwrap();
        assert!(
            annotation.contains(r#""lift":true"#) && said.contains("not revoked any more"),
            "{said}"
        );
    }

    #[test]
    fn what_cannot_be_ordered_is_refused_with_what_to_do() {
        for (base, history, args, says) in [
            (
                base(None),
                History::default(),
                args("12-1", false),
                "has no ReleaseHistory yet",
            ),
            (
                base(None),
                history(false),
                args("12-9", false),
                "its newest ones are 12-2, 12-1",
            ),
            (base(None), history(false), args("a b", false), "expected a digest"),
            (base(None), history(true), args("12-2", false), "revoked already"),
            (base(None), history(false), args("12-1", true), "nothing to lift"),
            (base(Some("{")), history(false), args("12-1", false), "repair it first"),
            (
                base(None),
                history(false),
                Args {
                    reason: "a\nb".into(),
                    ..args("12-1", false)
                },
                "the order cannot be written",
            ),
        ] {
            let error = format!("{:#}", ordered(&base, &history, &args, None).unwrap_err());
            assert!(error.contains(says), "{error}");
        }
    }
}
