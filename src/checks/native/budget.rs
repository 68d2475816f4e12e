//! Rules over what an image costs: age, size, layers. Each applies only where the policy sets a bound.

#![expect(
    clippy::unnecessary_wraps,
    reason = "all rules share one signature, and some can fail"
)]

use super::error::LayerFault;
use super::rules::{Applies, Context, FindingSink, show};
use repave_core::byte_size::ByteSize;

type Result<T = Applies> = std::result::Result<T, LayerFault>;

pub(super) fn age(context: &Context<'_>, found: &mut FindingSink<'_>) -> Result {
    let Some(most) = context.options.max_age else {
        return Ok(Applies::No);
    };
    let text = &context.config.created;
    let Ok(created) = text.parse::<jiff::Timestamp>() else {
        let title = format!(
            "the image does not say when it was created (created is {:?})",
            show(text.as_bytes())
        );
        found.add(b"created", title);
        return Ok(Applies::Yes);
    };
    let age = context.now.duration_since(created);
    // Clocks of builders may be a little ahead.
    if age < jiff::SignedDuration::from_hours(-1) {
        found.add(b"created", format!("the image was created in the future ({created})"));
    } else if age > most.signed() {
        let days = age.as_hours() / 24;
        found.add(
            b"created",
            format!("the image was created on {created}, {days} days ago; at most {most} are allowed"),
        );
    }
    Ok(Applies::Yes)
}

pub(super) fn size(context: &Context<'_>, found: &mut FindingSink<'_>) -> Result {
    let Some(most) = context.options.max_size else {
        return Ok(Applies::No);
    };
    if context.unpacked > most.get() {
        let is = ByteSize::bytes(context.unpacked);
        found.add(
            b"size",
            format!("the layers unpack to {is} bytes; at most {most} are allowed"),
        );
    }
    Ok(Applies::Yes)
}

pub(super) fn layers(context: &Context<'_>, found: &mut FindingSink<'_>) -> Result {
    let Some(most) = context.options.max_layers else {
        return Ok(Applies::No);
    };
    let count = context.config.layers();
    if count > u64::from(most) {
        found.add(
            b"layers",
            format!("the image has {count} layers; at most {most} are allowed"),
        );
    }
    Ok(Applies::Yes)
}
