//! Which BaseImage may write to a repository: exactly one, in whatever namespace it is. Pure.
//!
//! Two BaseImages that promote to one repository would take each other's channel tag and workloads, so a tenant could release
//! into another team's estate. Must not tell one tenant who the other one is: only the repository is named.

use super::{Wish, validate};
use crate::{
    api::BaseImage,
    controllers::conditions::{self, Truth},
    domain::image_ref::Repository,
};
use kube::ResourceExt as _;
use std::{borrow::Borrow, cmp::Ordering};

/// Condition: whether the repository that it promotes to is its own. Read by the gate of a run and by a plan.
pub const REPOSITORY_OWNED: &str = "RepositoryOwned";
/// Reason of [`REPOSITORY_OWNED`] when it is another's.
pub const REPOSITORY_TAKEN: &str = "RepositoryTaken";

/// Why releases of this BaseImage must not be used, if so: its repository is another's.
pub fn not_owned(base: &BaseImage) -> Option<&str> {
    let conditions = base.status.as_ref().map(|status| status.conditions.as_slice())?;
    conditions::find(conditions, REPOSITORY_OWNED)
        .filter(|found| found.status == Truth::False.as_str())
        .map(|found| found.message.as_str())
}

/// A repository that a BaseImage names and that belongs to another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The field that names it.
    pub field: &'static str,
    /// The repository.
    pub repository: Repository,
}

impl Taken {
    /// What is so and what to do, for a condition.
    pub fn message(&self) -> String {
        format!(
            "{} {} belongs to another BaseImage: nothing of this one is built, promoted or rolled out. Name another repository, or ask the owner of that one to give it up",
            self.field, self.repository
        )
    }
}

/// What a BaseImage claims, and by which right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    uid: Option<String>,
    age: (i64, String, String),
    production: Repository,
    staging: Repository,
    released_to: Option<Repository>,
}

impl Claim {
    /// The claim of this BaseImage; one that cannot be parsed claims nothing.
    pub fn of(base: &BaseImage) -> Option<Self> {
        validate(base).ok().map(|wish| Self::new(base, &wish))
    }

    /// The claim of a BaseImage that is parsed already.
    pub fn new(base: &BaseImage, wish: &Wish) -> Self {
        let released = base.status.as_ref().and_then(|status| status.released.as_ref());
        // An object without a creation time is one that no API server has seen: it comes last.
        let created = base.creation_timestamp().map_or(i64::MAX, |time| time.0.as_second());
        Self {
            uid: base.uid(),
            age: (created, wish.namespace.clone(), base.name_any()),
            production: wish.production.clone(),
            staging: wish.staging.clone(),
            released_to: released.and_then(|release| release.repository.clone()),
        }
    }

    /// What has released there comes first: who is older could otherwise take over a repository by an edit. Then the older one.
    fn rank(&self, repository: &Repository) -> (bool, &(i64, String, String)) {
        (self.released_to.as_ref() != Some(repository), &self.age)
    }

    fn is_before(&self, other: &Self, repository: &Repository) -> bool {
        self.rank(repository).cmp(&other.rank(repository)) == Ordering::Less
    }
}

/// The first repository of `base` that another one owns, if any. Two may share a staging repository; nobody may promote, or
/// put what is unproven, where another one promotes to.
pub fn taken<C: Borrow<Claim>>(base: &Claim, all: impl IntoIterator<Item = C>) -> Option<Taken> {
    all.into_iter()
        .filter_map(|other| {
            let other = other.borrow();
            if other.uid == base.uid {
                return None;
            }
            let production = (other.production == base.production || other.staging == base.production)
                .then_some(("promote.repository", &base.production));
            let staging = (other.production == base.staging).then_some(("promote.stagingRepository", &base.staging));
            [production, staging]
                .into_iter()
                .flatten()
                .find(|(_, repository)| other.is_before(base, repository))
                .map(|(field, repository)| Taken {
                    field,
                    repository: repository.clone(),
                })
        })
        .min_by_key(|found| found.field)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::digest::Digest;
    use proptest::prelude::*;
    use serde_json::json;

    /// `at` is seconds of 2026-01-01; `released` is the repository of its release.
    fn base(name: &str, at: u32, production: &str, staging: Option<&str>, released: Option<&str>) -> BaseImage {
        let mut object = json!({
            "apiVersion": "repave.dev/v1alpha1", "kind": "BaseImage",
            "metadata": {"name": name, "namespace": format!("team-{name}"), "uid": name,
                "creationTimestamp": format!("2026-01-01T00:00:{at:02}Z")},
            "spec": {
                "source": {"image": "up.example.com/debian", "track": {"tag": "12"}}, "policyRefs": [{"name": "p"}],
                "promote": {"repository": production, "channelTag": "12", "signing": {"keyRef": {"name": "k"}}}
            }
        });
        if let Some(staging) = staging {
            object["spec"]["promote"]["stagingRepository"] = json!(staging);
        }
        if let Some(repository) = released {
            object["status"] = json!({"released": {
                "digest": Digest::of(b"d"), "tag": "t", "sourceDigest": Digest::of(b"s"), "candidate": "c", "sequence": 1,
                "repository": repository, "promotedAt": "2026-01-01T00:00:00Z"}});
        }
        serde_json::from_value(object).unwrap()
    }

    fn conflict(of: &str, all: &[BaseImage]) -> Option<(&'static str, String)> {
        let claims: Vec<Claim> = all.iter().filter_map(Claim::of).collect();
        let own = claims.iter().find(|claim| claim.uid.as_deref() == Some(of)).unwrap();
        taken(own, &claims).map(|found| (found.field, found.repository.to_string()))
    }

    #[test]
    fn the_older_base_image_owns_the_repository_and_the_other_is_told_which_one() {
        let all = [
            base("a", 1, "r.test/base/light", None, None),
            base("b", 2, "r.test/base/light", None, None),
        ];
        assert_eq!(conflict("a", &all), None);
        let found = conflict("b", &all);
        assert_eq!(found, Some(("promote.repository", "r.test/base/light".to_owned())));
        let message = Taken {
            field: "promote.repository",
            repository: "r.test/base/light".parse().unwrap(),
        }
        .message();
        assert!(
            message.contains("r.test/base/light") && !message.contains("team-a"),
            "{message}"
        );
    }

    #[test]
    fn of_two_of_the_same_second_the_name_decides() {
        let all = [
            base("b", 1, "r.test/x", None, None),
            base("a", 1, "r.test/x", None, None),
        ];
        assert_eq!(conflict("a", &all), None);
        assert!(conflict("b", &all).is_some());
    }

    #[test]
    fn an_older_one_cannot_take_over_by_an_edit_what_has_been_released() {
        let all = [
            base("tenant", 1, "r.test/base/light", None, Some("r.test/tenant/light")),
            base("platform", 2, "r.test/base/light", None, Some("r.test/base/light")),
        ];
        assert_eq!(conflict("platform", &all), None);
        assert!(conflict("tenant", &all).is_some());
    }

    #[test]
    fn unproven_images_never_go_where_another_one_promotes_to() {
        let older = [
            base("a", 1, "r.test/prod", None, None),
            base("b", 2, "r.test/other", Some("r.test/prod"), None),
        ];
        assert_eq!(conflict("a", &older), None);
        let found = conflict("b", &older);
        assert_eq!(found, Some(("promote.stagingRepository", "r.test/prod".to_owned())));
        let newer = [
            base("a", 1, "r.test/one", Some("r.test/shared"), None),
            base("b", 2, "r.test/shared", None, None),
        ];
        assert_eq!(
            conflict("a", &newer),
            None,
            "a newcomer does not stop it by claiming its staging repository"
        );
        assert!(conflict("b", &newer).is_some());
    }

    #[test]
    fn two_may_share_a_staging_repository() {
        let all = [
            base("a", 1, "r.test/one", Some("r.test/staging"), None),
            base("b", 2, "r.test/two", Some("r.test/staging"), None),
        ];
        assert_eq!((conflict("a", &all), conflict("b", &all)), (None, None));
    }

    proptest! {
        #[test]
        fn of_all_that_promote_to_one_repository_exactly_one_may(
            ages in proptest::collection::vec((0_u32..4, any::<bool>()), 1..8),
        ) {
            let all: Vec<BaseImage> = ages
                .iter()
                .enumerate()
                .map(|(at, (age, released))| base(&format!("b{at}"), *age, "r.test/x", None, released.then_some("r.test/x")))
                .collect();
            let owners = (0..all.len()).filter(|at| conflict(&format!("b{at}"), &all).is_none()).count();
            prop_assert_eq!(owners, 1);
        }
    }
}
