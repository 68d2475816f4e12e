//! Whether a candidate is exactly what its BaseImage wants now: asked before anything is promoted. Reads only.
//!
//! Everything is read live, because a cache may be old and a promotion cannot be taken back. Must not change anything, and
//! must not guess: what is not known yet is waited for.

use super::{
    decision::{self, Unhashable},
    observe::{self, Inputs},
    owner::{self, Taken},
    validate,
};
use crate::controllers::named::Named as _;
use crate::{
    api::{BaseImage, ImageCandidate},
    controllers::{
        context::Context,
        error::{Class, Classified},
    },
};
use kube::{Api, ResourceExt};

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// It is wanted now, with today's policies and customisation.
    Yes,
    /// The BaseImage has not said yet what it follows: ask again. `why` is for a condition.
    NotYetKnown {
        /// What is awaited.
        why: &'static str,
    },
    /// Something else is wanted; this candidate never goes on.
    No {
        /// What is wanted instead, as a clause for people.
        instead: String,
    },
    /// The BaseImage that it was made for is gone; one of the same name that was made later does not count.
    BaseImageGone,
    /// Its repository belongs to another BaseImage.
    NotOwner(Taken),
}

/// It could not be told.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What the BaseImage refers to cannot be read.
    #[error(transparent)]
    Observe(#[from] observe::Error),
    /// The BaseImage cannot be parsed.
    #[error("BaseImage: {0}")]
    Invalid(#[from] validate::Error),
    /// The inputs cannot be compared.
    #[error(transparent)]
    Unhashable(#[from] Unhashable),
    /// The Kubernetes API.
    #[error("Kubernetes API: {0}")]
    Api(#[from] kube::Error),
}

impl Classified for Error {
    fn reason(&self) -> &'static str {
        match self {
            Self::Observe(error) => error.reason(),
            Self::Invalid(error) => error.reason(),
            Self::Unhashable(error) => error.reason(),
            Self::Api(_) => "ApiError",
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::Observe(error) => error.class(),
            Self::Invalid(error) => error.class(),
            Self::Unhashable(error) => error.class(),
            Self::Api(_) => Class::Transient,
        }
    }
}

/// Reads the BaseImage and all that it refers to, and answers. Costs one GET for the BaseImage, each policy and each ConfigMap.
pub async fn wanted(ctx: &Context, candidate: &ImageCandidate) -> Result<Wanted, Error> {
    let namespace = candidate.namespace().unwrap_or_default();
    let live = Api::<BaseImage>::namespaced(ctx.client.clone(), &namespace)
        .named(&candidate.spec.base_image)
        .await?;
    let Some(base) = live.filter(|base| is_made_for(candidate, base)) else {
        return Ok(Wanted::BaseImageGone);
    };
    let Some(rivals) = ctx.base_images.rivals(&base) else {
        return Ok(Wanted::NotYetKnown {
            why: "the list of all BaseImages is still being read",
        });
    };
    if let Some(taken) = owner::taken(&owner::Claim::of(&base), &rivals) {
        return Ok(Wanted::NotOwner(taken));
    }
    let wish = validate::validate(&base)?;
    let inputs = observe::inputs(&base, &wish, ctx).await?;
    Ok(judge(candidate, &base, &wish, &inputs)?)
}

/// Whether the candidate belongs to this very object, and it is not being deleted.
fn is_made_for(candidate: &ImageCandidate, base: &BaseImage) -> bool {
    base.metadata.deletion_timestamp.is_none() && observe::is_of(candidate, base)
}

/// Compares the candidate with what this BaseImage asks for. Pure.
pub fn judge(
    candidate: &ImageCandidate,
    base: &BaseImage,
    wish: &validate::Wish,
    inputs: &Inputs,
) -> Result<Wanted, Unhashable> {
    let status = base.status.as_ref();
    let source = format!("{}:{}", wish.source, wish.tag);
    let upstream = status
        .filter(|status| status.source.as_deref() == Some(source.as_str()))
        .and_then(|status| status.upstream.as_ref());
    let Some(upstream) = upstream else {
        return Ok(Wanted::NotYetKnown {
            why: "the BaseImage has not looked its upstream tag up yet",
        });
    };
    let digest = upstream.held.as_ref().unwrap_or(&upstream.digest);
    let spec = decision::wanted_spec(base, wish, inputs, digest)?;
    if spec.inputs_hash != candidate.spec.inputs_hash {
        return Ok(Wanted::No {
            instead: instead(candidate, &spec),
        });
    }
    // The same inputs can have been wanted before: then the candidate that was made last answers for them.
    let current = status.and_then(|status| status.candidate.as_ref());
    Ok(
        match current.filter(|current| current.sequence > candidate.spec.sequence) {
            Some(current) => Wanted::No {
                instead: format!("candidate {} was made for the same inputs later", current.name),
            },
            None => Wanted::Yes,
        },
    )
}

/// The first difference that a person understands.
fn instead(candidate: &ImageCandidate, wanted: &crate::api::ImageCandidateSpec) -> String {
    let own = &candidate.spec;
    if (&own.source, &own.source_tag) != (&wanted.source, &wanted.source_tag) {
        return format!("the BaseImage follows {}:{} now", wanted.source, wanted.source_tag);
    }
    if own.source_digest != wanted.source_digest {
        return format!(
            "the BaseImage wants {} of {}:{} now",
            wanted.source_digest.short(),
            wanted.source,
            wanted.source_tag
        );
    }
    let changed = if own.policies != wanted.policies {
        "another policy"
    } else if own.build != wanted.build {
        "another customisation"
    } else if own.verify != wanted.verify {
        "another verification of upstream"
    } else if own.promote != wanted.promote || own.staging != wanted.staging {
        "another place for the result"
    } else {
        "other inputs"
    };
    format!("the BaseImage asks for {changed} now")
}

#[cfg(test)]
mod tests {
    use super::{super::testing::World, *};
    use crate::domain::digest::Digest;

    /// Judges the candidate of this name with what the world says now, its status included as a reconcile leaves it.
    fn judged(world: &World, name: &str) -> Wanted {
        let candidate = world
            .observed
            .candidates
            .iter()
            .find(|one| one.name_any() == name)
            .unwrap();
        judge(candidate, &world.base, &world.wish(), &world.observed.inputs).unwrap()
    }

    /// A reconcile that also says what it followed.
    fn reconcile(world: &mut World) -> String {
        let decision = world.decide();
        let name = world.step();
        let sequence = world.candidate(&name).spec.sequence;
        let status = world.base.status.as_mut().unwrap();
        status.source = Some("up.example.com/debian:12".to_owned());
        status.upstream = serde_json::from_value(serde_json::json!({
            "tag": "12", "digest": world.observed.upstream, "firstSeen": "2026-01-01T00:00:00Z",
            "held": match &decision.followed {
                decision::Followed::Tag(_) => None,
                decision::Followed::Replay { held, .. } => Some(held),
            },
        }))
        .unwrap();
        status.candidate =
            serde_json::from_value(serde_json::json!({"name": name, "sequence": sequence, "step": "New"})).unwrap();
        name
    }

    fn instead(wanted: &Wanted) -> &str {
        match wanted {
            Wanted::No { instead } => instead,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_the_base_image_asks_for_is_wanted_and_everything_that_changes_it_is_named() {
        let mut world = World::new();
        let name = reconcile(&mut world);
        assert_eq!(judged(&world, &name), Wanted::Yes);
        world.base.spec.suspend = true;
        assert_eq!(judged(&world, &name), Wanted::Yes, "what runs is finished");
        world.containerfile("USER 1");
        assert!(instead(&judged(&world, &name)).contains("another customisation"));
        world.containerfile("");
        world.base.spec.verify = serde_json::from_value(serde_json::json!([{"digests": [Digest::of(b"v1")]}])).unwrap();
        assert!(instead(&judged(&world, &name)).contains("another verification"));
        world.base.spec.verify.clear();
        world.base.spec.promote.channel_tag = "13".to_owned();
        assert!(instead(&judged(&world, &name)).contains("another place"));
        world.base.spec.promote.channel_tag = "12".to_owned();
        let policy = serde_json::json!([{"name": "strict", "spec": {"checks": [{"name": "hardening", "native": {}}]}}]);
        world.observed.inputs.policies = serde_json::from_value(policy).unwrap();
        assert!(instead(&judged(&world, &name)).contains("another policy"));
    }

    #[test]
    fn a_newer_digest_supersedes_and_the_newer_candidate_is_wanted_before_the_status_says_so() {
        let mut world = World::new();
        let first = reconcile(&mut world);
        world.upstream("v2");
        assert_eq!(
            judged(&world, &first),
            Wanted::Yes,
            "the base image has not seen it yet"
        );
        let second = reconcile(&mut world);
        assert!(instead(&judged(&world, &first)).contains(Digest::of(b"v2").short()));
        let status = world.base.status.as_mut().unwrap();
        status.candidate.as_mut().unwrap().sequence = 1;
        assert_eq!(judged(&world, &second), Wanted::Yes);
    }

    #[test]
    fn of_two_with_the_same_inputs_the_later_one_is_wanted() {
        let mut world = World::new();
        let first = reconcile(&mut world);
        world.reject(&first);
        world.containerfile("ENV A=2");
        reconcile(&mut world);
        world.containerfile("");
        let again = reconcile(&mut world);
        assert!(instead(&judged(&world, &first)).contains(&again));
        assert_eq!(judged(&world, &again), Wanted::Yes);
    }

    #[test]
    fn while_upstream_plays_back_an_older_digest_the_released_one_stays_wanted() {
        let mut world = World::new();
        let first = reconcile(&mut world);
        world.promote(&first, "b1");
        world.upstream("v2");
        let second = reconcile(&mut world);
        world.promote(&second, "b2");
        reconcile(&mut world);
        world.upstream("v1");
        reconcile(&mut world);
        assert_eq!(judged(&world, &second), Wanted::Yes);
        assert!(instead(&judged(&world, &first)).contains(Digest::of(b"v2").short()));
    }

    #[test]
    fn before_the_tag_of_the_spec_has_been_looked_up_nothing_is_said() {
        let mut world = World::new();
        let name = reconcile(&mut world);
        world.base.spec.source.track.tag = "13".to_owned();
        assert!(matches!(judged(&world, &name), Wanted::NotYetKnown { .. }));
        world.base.spec.source.track.tag = "12".to_owned();
        world.base.status = None;
        assert!(matches!(judged(&world, &name), Wanted::NotYetKnown { .. }));
    }

    #[test]
    fn a_base_image_of_the_same_name_that_was_made_later_is_not_its_own() {
        let mut world = World::new();
        let name = reconcile(&mut world);
        let candidate = world.candidate(&name).clone();
        assert!(is_made_for(&candidate, &world.base));
        world.base.metadata.uid = Some("later".to_owned());
        assert!(!is_made_for(&candidate, &world.base));
        world.base.metadata.uid = Some("u".to_owned());
        world.base.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
            jiff::Timestamp::UNIX_EPOCH,
        ));
        assert!(!is_made_for(&candidate, &world.base), "it is being deleted");
    }
}
