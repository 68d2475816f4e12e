//! One turn of a BaseImage as data: what follows from what was seen. Pure.
//!
//! What is released does not depend on upstream or on a policy, and can be taken back without them. So a turn in which that
//! changes asks nobody else: it writes the history and the status, and the next one follows at once.

use super::{
    channel::{self, Order},
    decision::{self, Decision},
    facts::{Failed, Observed, Seen},
};
use crate::{
    api::BaseImage,
    controllers::{
        desired::{ValidatedBaseImage, owner::Taken},
        history::NextHistory,
    },
};
use jiff::Timestamp;

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
