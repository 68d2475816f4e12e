//! What a policy means for one image: its checks with their gates, its rules, its exceptions, and what is said of them.
//!
//! | module | what it does |
//! |---|---|
//! | [`checks`] | a policy's checks and rules, parsed, each with its gate |
//! | [`rules`] | which rules of a policy cannot be used, and why |
//! | [`kinds`] | what opens the gate of each kind of check, and what its Job is told |
//! | [`exceptions`] | waivers and VEX documents: what does not count, and why |
//! | [`waiver`] | from when to when a Waiver has an effect, and on what |
//! | [`summary`] | what is said about a judged check; which rules do not hold |
//!
//! Used by the operator and by `repave check` alike, so that both say the same. Must not reach anything outside: no
//! client, no clock, no file.

pub mod checks;
pub mod exceptions;
pub mod kinds;
pub mod rules;
pub mod summary;
pub mod waiver;

pub use checks::{Error, PlannedCheck, PlannedRule, checks_of, own_name, rules_of};
pub use exceptions::{accepted, judged_at, shown};
pub use kinds::ImageFacts;
pub use rules::{InvalidRule, read_rules, read_rules_alone};
pub use summary::{Broken, CHECK_MESSAGE, FINDING_LINE, broken_rules, summary};
