//! What a plan may do in a namespace: what its service account may do there, asked of the API server.
//!
//! The operator may patch Deployments in many namespaces; whoever writes a plan may not. So nothing is written, and nothing
//! is shown, on the operator's own rights: a plan without a service account is at home in its own namespace only. Answers
//! are kept for a short time, and asked again right before a write. An answer that does not come is no permission.

use super::{
    bounded::BoundedMap,
    error::{Class, Classified},
};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::{Api, Client, api::PostParams};
use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long an answer serves to show something.
pub const TO_SHOW: Duration = Duration::from_secs(60);
/// How long an answer serves to write something.
pub const TO_WRITE: Duration = Duration::from_secs(2);
/// Answers that are kept. Where more are asked for, what goes is asked again.
const MAX_KEPT: usize = 20_000;
/// The role of the chart that allows what a plan needs.
const ROLE: &str = "repave-mover";

/// Who a plan acts as.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Account {
    /// Namespace of the plan, and of its service account.
    pub namespace: String,
    /// The service account; `None` for the plan's own namespace only.
    pub name: Option<String>,
}

/// What it may do with the Deployments of a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum May {
    /// Neither see nor change them.
    Nothing,
    /// See them.
    Read,
    /// See and patch them.
    Write,
}

/// Why a workload that could be moved may not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Barred {
    /// The plan's service account may not patch there.
    NotAllowed {
        /// Who.
        account: Account,
        /// Where.
        namespace: String,
    },
    /// The plan was changed and does not select it any more; the run was made before that.
    NotInPlan,
    /// The plan was changed and has no such wave any more.
    WaveRemoved(String),
}

impl Barred {
    /// PascalCase word.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NotAllowed { .. } => "NotAllowed",
            Self::NotInPlan => "NotInPlan",
            Self::WaveRemoved(_) => "WaveRemoved",
        }
    }
}

impl fmt::Display for Barred {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAllowed { account, namespace } => {
                let (home, name) = (&account.namespace, account.name.as_deref().unwrap_or("default"));
                write!(
                    f,
                    "NotAllowed: ServiceAccount {home}/{name} may not patch Deployments in {namespace}. To allow it: kubectl create \
                     rolebinding repave-{home}-{name} --namespace={namespace} --clusterrole={ROLE} --serviceaccount={home}:{name}"
                )
            }
            Self::NotInPlan => f.write_str("NotInPlan: the plan was changed and does not select it any more"),
            Self::WaveRemoved(wave) => write!(f, "WaveRemoved: the plan was changed and has no wave {wave} any more"),
        }
    }
}

/// Nobody answered whether an account may do something.
#[derive(Debug, thiserror::Error)]
#[error("whether {account} may change Deployments in {namespace:?} could not be asked: {cause}")]
pub struct NoAnswer {
    account: String,
    namespace: String,
    cause: kube::Error,
}

impl Classified for NoAnswer {
    fn reason(&self) -> &'static str {
        "AccessUnknown"
    }

    fn class(&self) -> Class {
        Class::Transient
    }
}

/// Group and plural of a kind.
pub type Resource = (&'static str, &'static str);

/// What plans move.
pub const DEPLOYMENTS: Resource = ("apps", "deployments");

pub(super) type Question = (Account, String, &'static str, Resource);

/// The answers of the API server, for a short time.
#[derive(Debug)]
pub struct Answers(Mutex<BoundedMap<Question, (bool, Instant)>>);

impl Default for Answers {
    fn default() -> Self {
        Self(Mutex::new(BoundedMap::new(MAX_KEPT)))
    }
}

/// The name of a service account as a user.
fn user(account: &Account) -> String {
    let name = account.name.as_deref().unwrap_or("default");
    format!("system:serviceaccount:{}:{name}", account.namespace)
}

fn review((account, namespace, verb, (group, resource)): &Question) -> SubjectAccessReview {
    SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(user(account)),
            // The groups that every token of a service account carries.
            groups: Some(vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{}", account.namespace),
                "system:authenticated".to_owned(),
            ]),
            resource_attributes: Some(ResourceAttributes {
                group: Some((*group).to_owned()),
                resource: Some((*resource).to_owned()),
                namespace: Some(namespace.clone()),
                verb: Some((*verb).to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    }
}

impl Answers {
    /// What `account` may do with the Deployments of `namespace`, by an answer that is at most `age` old.
    pub async fn may(
        &self,
        client: &Client,
        account: &Account,
        namespace: &str,
        age: Duration,
    ) -> Result<May, NoAnswer> {
        if account.name.is_none() {
            return Ok(if account.namespace == namespace {
                May::Write
            } else {
                May::Nothing
            });
        }
        // The empty namespace is all of them: one question for a whole estate where that is the answer.
        for place in ["", namespace] {
            if self.may_here(client, account, place, "list", age).await? {
                let patches = self.may_here(client, account, place, "patch", age).await?
                    || (place.is_empty() && self.may_here(client, account, namespace, "patch", age).await?);
                return Ok(if patches { May::Write } else { May::Read });
            }
        }
        Ok(May::Nothing)
    }

    /// Whether `account` may list that kind in `namespace`: what it may not list, it is not told the names of.
    pub async fn may_list(
        &self,
        client: &Client,
        account: &Account,
        namespace: &str,
        kind: Resource,
        age: Duration,
    ) -> Result<bool, NoAnswer> {
        if account.name.is_none() {
            return Ok(account.namespace == namespace);
        }
        for place in ["", namespace] {
            if self
                .ask(client, (account.clone(), place.to_owned(), "list", kind), age)
                .await?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn may_here(
        &self,
        client: &Client,
        account: &Account,
        namespace: &str,
        verb: &'static str,
        age: Duration,
    ) -> Result<bool, NoAnswer> {
        let question = (account.clone(), namespace.to_owned(), verb, DEPLOYMENTS);
        self.ask(client, question, age).await
    }

    async fn ask(&self, client: &Client, question: Question, age: Duration) -> Result<bool, NoAnswer> {
        if let Some(known) = self.known(&question, age, Instant::now()) {
            return Ok(known);
        }
        let review = review(&question);
        let answered = Api::<SubjectAccessReview>::all(client.clone())
            .create(&PostParams::default(), &review)
            .await
            .map_err(|cause| NoAnswer {
                account: user(&question.0),
                namespace: question.1.clone(),
                cause,
            })?;
        let allowed = answered
            .status
            .is_some_and(|status| status.allowed && status.denied != Some(true));
        self.keep(question, allowed, Instant::now());
        Ok(allowed)
    }

    fn known(&self, question: &Question, age: Duration, now: Instant) -> Option<bool> {
        let answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (allowed, at) = answers.get(question)?;
        (now.saturating_duration_since(*at) <= age).then_some(*allowed)
    }

    pub(super) fn keep(&self, question: Question, allowed: bool, now: Instant) {
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        answers.insert(question, (allowed, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_says_the_command_that_would_allow_it() {
        let account = Account {
            namespace: "platform".to_owned(),
            name: Some("mover".to_owned()),
        };
        let barred = Barred::NotAllowed {
            account,
            namespace: "shop".to_owned(),
        };
        assert_eq!(
            barred.to_string(),
            "NotAllowed: ServiceAccount platform/mover may not patch Deployments in shop. To allow it: kubectl create rolebinding \
             repave-platform-mover --namespace=shop --clusterrole=repave-mover --serviceaccount=platform:mover"
        );
    }

    #[test]
    fn an_answer_is_believed_for_a_short_time_only_and_for_its_question_only() {
        let answers = Answers::default();
        let account = Account {
            namespace: "platform".to_owned(),
            name: Some("mover".to_owned()),
        };
        let question = (account.clone(), "shop".to_owned(), "patch", DEPLOYMENTS);
        let start = Instant::now();
        answers.keep(question.clone(), true, start);
        assert_eq!(answers.known(&question, TO_WRITE, start), Some(true));
        assert_eq!(
            answers.known(
                &(account.clone(), "shop".to_owned(), "list", DEPLOYMENTS),
                TO_SHOW,
                start
            ),
            None
        );
        assert_eq!(
            answers.known(&(account, "pay".to_owned(), "patch", DEPLOYMENTS), TO_SHOW, start),
            None
        );
        let later = start + TO_WRITE + Duration::from_millis(1);
        assert_eq!(answers.known(&question, TO_WRITE, later), None);
        assert_eq!(answers.known(&question, TO_SHOW, later), Some(true));
        assert_eq!(answers.known(&question, TO_SHOW, later + TO_SHOW), None);
    }

    #[test]
    fn at_the_bound_the_oldest_answer_makes_room_for_the_new_one() {
        let answers = Answers::default();
        let question = |namespace: usize| {
            let account = Account {
                namespace: "platform".to_owned(),
                name: Some("mover".to_owned()),
            };
            (account, format!("n-{namespace}"), "patch", DEPLOYMENTS)
        };
        let now = Instant::now();
        for namespace in 0..=MAX_KEPT {
            answers.keep(question(namespace), true, now);
        }
        let known = [0, 1, MAX_KEPT].map(|namespace| answers.known(&question(namespace), TO_WRITE, now));
        assert_eq!(known, [None, Some(true), Some(true)]);
    }
}
