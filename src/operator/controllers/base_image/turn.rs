//! One turn of a BaseImage as data: what was seen, and what follows from it. Pure.
//!
//! What is released does not depend on upstream or on a policy, and can be taken back without them. So a turn in which that
//! changes asks nobody else: it writes the history and the status, and the next one follows at once.

use super::{
    channel::{self, Order},
    decision::{self, Decision},
    observe::{self, Observed},
};
use crate::{
    api::{BaseImage, ImageCandidate},
    controllers::{
        desired::{ValidatedBaseImage, owner::Taken, spec::Inputs},
        history::{NextHistory, Past},
        reconciler::Failure,
    },
    domain::digest::Digest,
};
use jiff::Timestamp;
use std::time::Duration;

/// What was seen.
#[derive(Debug)]
pub enum Seen {
    /// Its repository is another's: nothing else was looked at.
    NotOwner(Taken),
    /// It may promote to its repository.
    Owner(Box<Facts>),
}

/// What the owner of a repository sees.
#[derive(Debug)]
pub struct Facts {
    /// All candidates that were made for this very BaseImage.
    pub candidates: Vec<ImageCandidate>,
    /// Its history.
    pub past: Past,
    /// What is not its own; nothing where something is to be announced first.
    pub outside: Option<Result<Outside, Failed>>,
}

/// What a BaseImage refers to.
#[derive(Debug)]
pub struct Outside {
    /// What upstream's tag points to.
    pub upstream: Digest,
    /// How long that is good for.
    pub good_for: Duration,
    /// What decides about a build besides.
    pub inputs: Inputs,
}

/// A step that failed, but for which the history is known.
#[derive(Debug)]
pub struct Failed {
    /// What failed.
    pub failure: Failure,
    /// Whether it is upstream that could not be looked up.
    pub of_upstream: bool,
}

impl<E: Into<Failure>> From<E> for Failed {
    fn from(failure: E) -> Self {
        Self {
            failure: failure.into(),
            of_upstream: false,
        }
    }
}

impl Failed {
    /// A look that failed.
    pub fn to_observe(error: observe::Error) -> Self {
        Self {
            of_upstream: error.is_of_upstream(),
            failure: error.into(),
        }
    }
}

/// What is done.
#[derive(Debug)]
pub enum Turn {
    /// Nothing: its repository is another's.
    NotOwner(Taken),
    /// The history is stored if it is new, and then the rest.
    Owner(Box<Owner>),
}

/// What the owner of a repository does.
#[derive(Debug)]
pub struct Owner {
    /// The history after this turn.
    pub history: NextHistory,
    /// What comes after it.
    pub rest: Rest,
}

/// What comes after the history.
#[derive(Debug)]
pub enum Rest {
    /// Nothing in this turn: what is released or taken back now is announced first.
    AfterTheNews,
    /// Nothing: this is missing.
    Failed(Failed),
    /// A candidate is made if one is due, and the channel tag asserted.
    Decided {
        /// What it was decided on.
        observed: Box<Observed>,
        /// What is wanted, and what is made.
        decision: Box<Decision>,
        /// What the channel tag has to say.
        order: Option<Order>,
    },
}

/// Decides.
pub fn decide(base: &BaseImage, validated: &ValidatedBaseImage, seen: Seen, now: Timestamp) -> Turn {
    let facts = match seen {
        Seen::NotOwner(taken) => return Turn::NotOwner(taken),
        Seen::Owner(facts) => *facts,
    };
    let history = facts.past.next(base, &facts.candidates, now);
    let rest = match facts.outside {
        Some(_) if !history.is_announced(base) => Rest::AfterTheNews,
        None => Rest::AfterTheNews,
        Some(Err(failed)) => Rest::Failed(failed),
        Some(Ok(outside)) => {
            let observed = Observed {
                upstream: outside.upstream,
                good_for: outside.good_for,
                inputs: outside.inputs,
                candidates: facts.candidates,
                last_sequence: history.decided.history.counters().last,
                released: history.decided.released.clone(),
            };
            decided(base, validated, observed)
        }
    };
    Turn::Owner(Box::new(Owner { history, rest }))
}

fn decided(base: &BaseImage, validated: &ValidatedBaseImage, observed: Observed) -> Rest {
    match decision::decide(base, validated, &observed) {
        Ok(decision) => {
            let stored = base.status.as_ref().and_then(|status| status.released.as_ref());
            Rest::Decided {
                order: channel::order(stored, observed.released.as_ref(), validated),
                observed: Box::new(observed),
                decision: Box::new(decision),
            }
        }
        Err(unusable) => Rest::Failed(unusable.into()),
    }
}
