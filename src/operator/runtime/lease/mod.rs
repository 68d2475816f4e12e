//! Our leader lease: at most one replica acts at a time, also when the network, the API server or the clocks misbehave.
//!
//! The rules, and why two replicas never lead together:
//!
//! | rule | reason |
//! |---|---|
//! | every write is a create or a `replace` with the `resourceVersion` that was read | a 409 means that somebody else was first; nothing is forced |
//! | a claim runs from the moment a successful request was **sent**, by our own monotonic clock | the answer may be late; wall clocks disagree |
//! | a claim ends at 4/5 of the lease, others wait the whole lease | the last fifth is for writes on their way and for clocks that run at different speeds |
//! | another's lease has run out when it has not changed for its whole duration **since we first saw it so** | its time stamps are from another clock and are never compared |
//! | any new `resourceVersion` is a sign of life | a renewal can then never be missed, not even one with an unchanged time |
//! | an identity belongs to one process, and a process that lost the lease ends | nobody resumes on an old right, not even after the cluster's state was restored from a backup |
//!
//! [`Leader::is_leader`] is true only until the claim's end, whatever this file's loop is doing: a process that was
//! stopped and goes on later reads `false` at once. Ask before each write.
//! Not covered: a machine that is suspended as a whole, since its monotonic clock then stands still, and a person who
//! empties `holderIdentity` of a held Lease by hand. Writes therefore carry their own preconditions as well.
//!
//! Must not retry through the client (see `runtime::client`), and must not write anything but the one Lease.

mod election;
mod leader;
#[cfg(test)]
mod tests;

pub use election::{Elector, Ended, LeaseParams, Lost};
pub use leader::{Claim, Leader, NotLeader};
