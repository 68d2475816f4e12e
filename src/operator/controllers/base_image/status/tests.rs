//! What a BaseImage's status says: after success, for one that is not the owner, and after each kind of failure.

use super::{
    super::{
        channel::{self, Order},
        facts, observe,
        testing::World,
    },
    *,
};
use crate::{
    controllers::{
        base_image::facts::Failed,
        desired::{
            self,
            owner::{REPOSITORY_OWNED, REPOSITORY_TAKEN, Taken, not_owned},
        },
        inputs, writes,
    },
    domain::{digest::Digest, image_ref::Repository},
    registry,
};
use std::sync::Arc;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn summarized(world: &World, channel: &Channel) -> (BaseImageStatus, Vec<EventRecord>) {
    let (validated, decision, history) = (world.validated(), world.decide(), world.history());
    let round = Round {
        validated: &validated,
        observed: &world.observed,
        decision: &decision,
        history: &history,
        created: None,
        channel,
    };
    summarize(&world.base, &round, NOW)
}

/// One that has released v1, and whose status says so.
fn released() -> World {
    let mut world = World::new();
    let first = world.step();
    world.promote(&first, "b1").step();
    let (status, _) = summarized(&world, &Channel::Nothing);
    world.base.status = Some(status);
    world
}

fn condition(status: &BaseImageStatus, type_: &str) -> Option<(String, String)> {
    conditions::find(&status.conditions, type_).map(|found| (found.status.clone(), found.reason.clone()))
}

// It is compared with what is perhaps not there.
#[allow(clippy::unnecessary_wraps)]
fn is(status: &str, reason: &str) -> Option<(String, String)> {
    Some((status.to_owned(), reason.to_owned()))
}

fn order() -> Order {
    Order {
        repository: "prod.example.com/debian".parse().unwrap(),
        tag: "12".to_owned(),
        digest: Digest::of(b"b1"),
    }
}

fn right(found: Found) -> Channel {
    Channel::Right { order: order(), found }
}

#[test]
fn an_unchanged_world_changes_nothing_and_tells_nothing() {
    let mut world = released();
    let (status, events) = summarized(&world, &right(Found::Behind));
    assert_eq!(events.len(), 1, "{events:?}");
    world.base.status = Some(status.clone());
    for channel in [Channel::NotDue, right(Found::Right)] {
        let (again, events) = summarized(&world, &channel);
        assert_eq!((&again, events.len()), (&status, 0));
    }
}

#[test]
fn a_channel_tag_that_somebody_moved_is_told_with_the_foreign_digest() {
    let world = released();
    let foreign = Digest::of(b"foreign");
    let found = Found::Foreign {
        digest: Some(foreign.clone()),
    };
    let (status, events) = summarized(&world, &right(found));
    assert_eq!(condition(&status, "ChannelTag"), is("True", "PointsToRelease"));
    let [notice] = events.as_slice() else {
        panic!("{events:?}")
    };
    assert_eq!((notice.reason, notice.warning), ("ChannelTagRestored", true));
    assert!(notice.message.contains(foreign.as_str()), "{}", notice.message);
    assert_eq!(status.channel_tag, Some(order().record()));
}

#[test]
fn a_channel_tag_that_cannot_be_set_is_said_and_the_release_stays() {
    let world = released();
    let channel = Channel::Failed {
        order: order(),
        error: channel::Error::Input(inputs::Error::Missing {
            kind: "Secret",
            name: "push".to_owned(),
            namespace: "platform".to_owned(),
        }),
    };
    let (status, _) = summarized(&world, &channel);
    assert_eq!(condition(&status, "ChannelTag"), is("False", "SecretMissing"));
    assert_eq!(condition(&status, "UpstreamResolved"), is("True", "Resolved"));
    assert_eq!(status.released.unwrap().digest, Digest::of(b"b1"));
}

#[test]
fn a_tag_that_went_back_is_told_once_and_what_to_do_is_said() {
    let mut world = released();
    let second = world.upstream("v2").step();
    world.promote(&second, "b2").step();
    world.upstream("v1");
    let (status, events) = summarized(&world, &Channel::NotDue);
    let found = conditions::find(&status.conditions, "UpstreamRolledBack").unwrap();
    assert!(found.message.contains("onUpstreamRollback"), "{}", found.message);
    assert_eq!(status.upstream.as_ref().unwrap().held, Some(Digest::of(b"v2")));
    assert_eq!(condition(&status, "Ready"), is("True", "Released"));
    assert!(events.iter().any(|notice| notice.reason == "UpstreamRolledBack"));
    world.base.status = Some(status);
    assert!(summarized(&world, &Channel::NotDue).1.is_empty());
    world.upstream("v2");
    let (status, _) = summarized(&world, &Channel::NotDue);
    assert_eq!(condition(&status, "UpstreamRolledBack"), None);
}

#[test]
fn one_that_is_not_the_owner_is_stalled_and_its_release_is_not_usable() {
    let mut world = released();
    assert_eq!(not_owned(&world.base), None);
    let repository: Repository = "prod.example.com/debian".parse().unwrap();
    let found = Taken {
        field: "promote.repository",
        repository,
    };
    let (status, events) = unsettled::taken(&world.base, &found, NOW);
    assert_eq!(condition(&status, "Stalled"), is("True", REPOSITORY_TAKEN));
    assert_eq!(events.len(), 1);
    world.base.status = Some(status);
    assert!(not_owned(&world.base).unwrap().contains("prod.example.com/debian"));
    assert!(unsettled::taken(&world.base, &found, NOW).1.is_empty(), "told once");
    let (status, _) = summarized(&world, &Channel::NotDue);
    assert_eq!(condition(&status, REPOSITORY_OWNED), is("True", "Owner"));
    assert_eq!(condition(&status, "Stalled"), None);
}

#[test]
fn a_failure_names_the_step_that_failed_and_keeps_what_was_known() {
    let throttled = |seconds| {
        Failed::to_observe(facts::Error::Registry(Arc::new(registry::Error::Throttled {
            host: "up.example.com".to_owned(),
            verb: "HEAD",
            code: 429,
            retry_after: Some(std::time::Duration::from_secs(seconds)),
        })))
    };
    let world = released();
    let missing = desired::inputs::Error::PolicyMissing("hardened".to_owned());
    let missing = Failed::to_observe(missing.into());
    let taken = Failed::from(writes::WriteError::Taken {
        kind: "ImageCandidate",
        namespace: "platform".to_owned(),
        name: "debian-12-a".to_owned(),
    });
    let starting = Failed::from(observe::not_listed());
    for (failed, resolved, ready) in [
        (
            throttled(600),
            is("False", "RegistryThrottled"),
            is("False", "RegistryThrottled"),
        ),
        (missing, is("True", "Resolved"), is("False", "PolicyMissing")),
        (taken, is("True", "Resolved"), is("False", "NameTaken")),
        (starting, is("True", "Resolved"), is("False", "Starting")),
    ] {
        let Outcome { status, events, next } = unsettled::failed(&world.base, &failed, None, NOW);
        assert_eq!(condition(&status, "UpstreamResolved"), resolved, "{failed:?}");
        assert_eq!(condition(&status, "Ready"), ready, "{failed:?}");
        assert_eq!(
            status.released,
            world.base.status.as_ref().unwrap().released,
            "{failed:?}"
        );
        assert_eq!((events.len(), next), (1, failed.failure.class.into()), "{failed:?}");
    }
    let first = failed(&world.base, &throttled(600), None, NOW);
    let second = failed(&world.base, &throttled(599), None, NOW);
    assert_eq!(first.status, second.status, "no number in it changes from look to look");
}
