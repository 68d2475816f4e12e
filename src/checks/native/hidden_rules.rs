//! Rules over what lower layers hold and the merged image no longer shows: secrets, and set-id files.

#![expect(
    clippy::unnecessary_wraps,
    reason = "all rules share one signature, and some can fail"
)]

use super::error::LayerFault;
use super::files::allowed;
use super::rules::{Applies, Context, FindingSink, show};

type Result<T = Applies> = std::result::Result<T, LayerFault>;

pub(super) fn secret(context: &Context<'_>, found: &mut FindingSink<'_>) -> Result {
    for noted in context.hidden.files() {
        // Test keys that packages ship are public; an update replaces them in every image.
        let is_public = noted.path.starts_with(b"/usr/lib/") || noted.path.starts_with(b"/usr/share/");
        for what in noted.held.words().into_iter().filter(|_| !is_public) {
            let (path, layer) = (show(&noted.path), noted.origin.0);
            found.add(
                &noted.path,
                format!("{path} holds {what} in layer {layer}, although a later layer hides it"),
            );
        }
    }
    Ok(Applies::Yes)
}

pub(super) fn set_id(context: &Context<'_>, found: &mut FindingSink<'_>) -> Result {
    for noted in context.hidden.files().iter().filter(|n| n.set_id) {
        if !allowed(&context.options.suid_allowed, &noted.path) {
            let (path, layer) = (show(&noted.path), noted.origin.0);
            found.add(
                &noted.path,
                format!("{path} is SUID or SGID in layer {layer}, although a later layer hides it"),
            );
        }
    }
    Ok(Applies::Yes)
}
