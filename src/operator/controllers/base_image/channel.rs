//! The channel tag: asserted from `status.released`, over and over, and never from anything else.
//!
//! The status says first what is released, then the tag follows: a crash in between is made good by the next look. Nobody else
//! writes the tag, so that two promotions can never race for it. Must not tag a digest that is not the release.

use super::polls::Pace;
use crate::{
    api::{
        BaseImage,
        base_image::{ChannelTag, Release},
    },
    controllers::{
        bounded::BoundedMap,
        context::Context,
        desired::ValidatedBaseImage,
        error::{Class, Classified, WAIT},
        inputs,
    },
    domain::{digest::Digest, image_ref::Repository},
    registry,
    runtime::lease::NotLeader,
};
use kube::ResourceExt as _;
use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// What the tag has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Where.
    pub repository: Repository,
    /// The tag.
    pub tag: String,
    /// What it has to point to.
    pub digest: Digest,
}

impl Order {
    /// As the status records it.
    pub fn record(&self) -> ChannelTag {
        ChannelTag {
            image: format!("{}:{}", self.repository, self.tag),
            digest: self.digest.clone(),
        }
    }
}

/// The order of a release, if it is one that this BaseImage may carry out: only where it promotes to now, because that is the
/// repository that it owns.
pub fn order(stored: Option<&Release>, decided: Option<&Release>, validated: &ValidatedBaseImage) -> Option<Order> {
    // What is decided and not stored yet is not announced yet: the status goes first.
    let release = stored.filter(|_| stored == decided)?;
    let repository = release.repository.clone().filter(|at| *at == validated.production)?;
    Some(Order {
        repository,
        tag: validated.channel_tag.clone(),
        digest: release.digest.clone(),
    })
}

/// What was found at the tag, and what that means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It is as it should be.
    Right,
    /// It is where we left it for the release before, or nowhere, or this is the first release: it has to be moved.
    Behind,
    /// Somebody else moved or removed it after we had set it.
    Foreign {
        /// What it points to; nothing if it was removed.
        digest: Option<Digest>,
    },
}

/// Tells them apart. `left` is what the status says that we left there.
pub fn judge(order: &Order, left: Option<&ChannelTag>, found: Option<&Digest>) -> Found {
    if found == Some(&order.digest) {
        return Found::Right;
    }
    let ours = left.filter(|left| left.image == order.record().image);
    match ours {
        Some(left) if found != Some(&left.digest) => Found::Foreign { digest: found.cloned() },
        Some(_) | None => Found::Behind,
    }
}

/// What came of it, for the status.
#[derive(Debug)]
pub enum Outcome {
    /// There is nothing to assert; `why` is for a condition where there is a release.
    Nothing,
    /// It was looked at a while ago.
    NotDue,
    /// The tag is right now.
    Right {
        /// What was ordered.
        order: Order,
        /// What it took.
        found: Found,
    },
    /// It could not be made right.
    Failed {
        /// What was ordered.
        order: Order,
        /// Why.
        error: Error,
    },
}

/// Why the tag could not be looked at or moved.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The registry.
    #[error("production registry: {0}")]
    Registry(#[from] registry::Error),
    /// The lease is lost: another process asserts the tag now.
    #[error(transparent)]
    NotLeader(#[from] NotLeader),
    /// The credentials.
    #[error(transparent)]
    Input(#[from] inputs::Error),
    /// The tag is no tag.
    #[error(transparent)]
    Tag(#[from] crate::domain::image_ref::InvalidImageRef),
}

impl Classified for Error {
    fn reason(&self) -> &'static str {
        match self {
            Self::Registry(error) => error.reason(),
            Self::NotLeader(_) => "NotLeader",
            Self::Input(error) => error.reason(),
            Self::Tag(_) => "InvalidReference",
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::Registry(error) => error.retry_after().map_or(Class::Transient, Class::Waiting),
            Self::NotLeader(_) => Class::Transient,
            Self::Input(error) => error.class(),
            Self::Tag(_) => Class::Stalled,
        }
    }
}

/// When each tag was asserted last. A restart asserts each one once more, spread over up to five minutes; nothing depends on it.
#[derive(Debug)]
pub struct Looks {
    started: Instant,
    last: Mutex<BoundedMap<String, (Instant, Order)>>,
}

impl Default for Looks {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            last: Mutex::new(BoundedMap::new(MAX)),
        }
    }
}

/// Tags that are remembered.
const MAX: usize = 20_000;

impl Looks {
    /// How long until the tag is to be looked at; zero: now. `left` is what the status says of it, `spread` how long the first
    /// look after a start is put off if that is right.
    pub fn due(&self, uid: &str, order: &Order, left: Option<&ChannelTag>, pace: Pace, now: Instant) -> Duration {
        let looks = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match looks.get(uid) {
            Some((at, last)) if last == order => pace.interval.saturating_sub(now.saturating_duration_since(*at)),
            None if left == Some(&order.record()) => {
                let since_start = now.saturating_duration_since(self.started);
                pace.first_look().saturating_sub(since_start)
            }
            Some(_) | None => Duration::ZERO,
        }
    }

    /// It was asserted.
    pub fn done(&self, uid: &str, order: &Order, now: Instant) {
        let mut looks = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        looks.insert(uid.to_owned(), (now, order.clone()));
    }
}

/// Looks at the tag if that is due, and puts it right. Gives the outcome and when to look again.
pub async fn assert(
    ctx: &Context,
    looks: &Looks,
    base: &BaseImage,
    order: Option<Order>,
    pace: Pace,
) -> (Outcome, Duration) {
    let interval = pace.interval;
    let Some(order) = order else {
        return (Outcome::Nothing, interval);
    };
    let uid = base.uid().unwrap_or_default();
    let left = base.status.as_ref().and_then(|status| status.channel_tag.as_ref());
    let wait = looks.due(&uid, &order, left, pace, Instant::now());
    if !wait.is_zero() {
        return (Outcome::NotDue, wait);
    }
    match put_right(ctx, base, &order, left).await {
        Ok(found) => {
            looks.done(&uid, &order, Instant::now());
            (Outcome::Right { order, found }, interval)
        }
        Err(error) => {
            let wait = match error.class() {
                Class::Waiting(wait) => wait,
                Class::Transient => WAIT,
                Class::Stalled => interval,
            };
            (Outcome::Failed { order, error }, wait)
        }
    }
}

async fn put_right(ctx: &Context, base: &BaseImage, order: &Order, left: Option<&ChannelTag>) -> Result<Found, Error> {
    let secret = base.spec.promote.push_secret_ref.as_ref();
    let namespace = base.namespace().unwrap_or_default();
    let auth = inputs::registry_auth(ctx, &namespace, secret).await?;
    let image = order.repository.tagged(&order.tag)?;
    let now = ctx.registry.head(&image, &auth).await?;
    let found = judge(order, left, now.as_ref().map(|descriptor| &descriptor.digest));
    if found != Found::Right {
        ctx.leader.require()?;
        ctx.registry
            .tag(&order.repository, &order.digest, &order.tag, &auth)
            .await?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    fn release(digest: &[u8], repository: &str) -> Release {
        Release {
            digest: Digest::of(digest),
            repository: Some(repository.parse().unwrap()),
            tag: "12-x".to_owned(),
            source_digest: Digest::of(b"up"),
            candidate: "debian-a".to_owned(),
            sequence: 1,
            promoted_at: Time(jiff::Timestamp::UNIX_EPOCH),
        }
    }

    fn validated() -> ValidatedBaseImage {
        ValidatedBaseImage {
            namespace: "platform".to_owned(),
            source: "up.test/debian".parse().unwrap(),
            tag: "12".to_owned(),
            staging: "r.test/debian-staging".parse().unwrap(),
            production: "r.test/debian".parse().unwrap(),
            channel_tag: "12".to_owned(),
            interval: Duration::from_secs(60),
        }
    }

    fn an_order() -> Order {
        let release = release(b"v2", "r.test/debian");
        order(Some(&release), Some(&release), &validated()).unwrap()
    }

    #[test]
    fn only_what_the_stored_status_calls_released_is_ever_tagged() {
        let (v1, v2) = (release(b"v1", "r.test/debian"), release(b"v2", "r.test/debian"));
        assert_eq!(order(Some(&v2), Some(&v2), &validated()).unwrap().digest, v2.digest);
        assert_eq!(
            order(Some(&v1), Some(&v2), &validated()),
            None,
            "decided, and not stored yet"
        );
        assert_eq!(order(None, Some(&v2), &validated()), None);
        let elsewhere = release(b"v1", "r.test/other");
        assert_eq!(
            order(Some(&elsewhere), Some(&elsewhere), &validated()),
            None,
            "not its repository any more"
        );
        let unknown = Release { repository: None, ..v2 };
        assert_eq!(order(Some(&unknown), Some(&unknown), &validated()), None);
    }

    #[test]
    fn a_tag_that_follows_a_release_and_one_that_somebody_moved_are_told_apart() {
        let order = an_order();
        let [v1, v2, foreign] = [b"v1".as_slice(), b"v2", b"foreign"].map(Digest::of);
        let left = |digest: &Digest, image: &str| ChannelTag {
            image: image.to_owned(),
            digest: digest.clone(),
        };
        let (ours, here) = ("r.test/debian:12", |digest: &Digest| left(digest, "r.test/debian:12"));
        for (name, left, found, expected) in [
            ("right", Some(here(&v2)), Some(&v2), Found::Right),
            ("right, first look", None, Some(&v2), Found::Right),
            ("first release, no tag", None, None, Found::Behind),
            ("first release, a tag is there", None, Some(&foreign), Found::Behind),
            (
                "where the release before left it",
                Some(here(&v1)),
                Some(&v1),
                Found::Behind,
            ),
            (
                "another tag before",
                Some(left(&v1, "r.test/debian:11")),
                Some(&foreign),
                Found::Behind,
            ),
            (
                "moved",
                Some(here(&v2)),
                Some(&foreign),
                Found::Foreign {
                    digest: Some(foreign.clone()),
                },
            ),
            (
                "moved back",
                Some(here(&v2)),
                Some(&v1),
                Found::Foreign {
                    digest: Some(v1.clone()),
                },
            ),
            ("removed", Some(here(&v2)), None, Found::Foreign { digest: None }),
            (
                "moved before the next release",
                Some(here(&v1)),
                Some(&foreign),
                Found::Foreign {
                    digest: Some(foreign.clone()),
                },
            ),
        ] {
            assert_eq!(judge(&order, left.as_ref(), found), expected, "{name}");
        }
        assert_eq!(order.record().image, ours);
    }

    #[test]
    fn a_tag_is_looked_at_once_an_interval_and_at_once_for_another_release() {
        let (looks, hour) = (Looks::default(), Duration::from_secs(3600));
        let (now, order) = (looks.started, an_order());
        let pace = Pace {
            interval: hour,
            seed: 500,
        };
        let due = |uid, order: &Order, left: Option<&ChannelTag>, at| looks.due(uid, order, left, pace, at);
        assert_eq!(due("u", &order, None, now), Duration::ZERO);
        assert_eq!(
            due("u", &order, Some(&order.record()), now),
            Duration::from_secs(150),
            "spread after a start"
        );
        looks.done("u", &order, now);
        let later = now + Duration::from_secs(600);
        assert_eq!(due("u", &order, None, later), Duration::from_secs(3000));
        assert_eq!(due("u", &order, None, now + hour), Duration::ZERO);
        assert_eq!(due("other", &order, Some(&order.record()), later), Duration::ZERO);
        let next = Order {
            digest: Digest::of(b"v3"),
            ..order.clone()
        };
        assert_eq!(due("u", &next, Some(&order.record()), later), Duration::ZERO);
    }
}
