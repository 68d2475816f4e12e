//! Cases about the release itself: the channel tag, and what a run says at its end.

use super::{
    act::{Act, When},
    case::{Case, without},
    expect::said,
    place::Group,
};

/// The rows.
pub fn cases() -> Vec<Case> {
    vec![
        without("stolen-tag-is-put-right", Group::Broken, said(&["ChannelTagRestored"]))
            .then(When::RunEnded, Act::StealTag),
        without("rolled-back-is-not-succeeded", Group::Broken, said(&["\"Completed\""])),
    ]
}
