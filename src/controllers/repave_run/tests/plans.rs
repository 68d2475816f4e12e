//! Single decisions, each with the whole patch or sentence that comes of it.

use super::world::{Behaviour::*, Kind, World, patched};
use serde_json::json;

#[test]
fn placeholder_is_replaced() {
    let _ = (World::new(&json!({}), &[(Kind::Direct, Healthy, false)]), patched);
}
