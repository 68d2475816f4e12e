//! The one write that Repave makes to a workload, as data: a JSON patch of image fields and our annotations.
//!
//! Every patch first tests what it was decided on, so that it fails instead of undoing what somebody else did between
//! the read and the write. No other field can be written: there is no function for it.

use crate::{
    api::refs::{ANNOTATION_HOLD, ANNOTATION_MOVED, ANNOTATION_MOVED_AT, ANNOTATION_PREVIOUS, ANNOTATION_RUN},
    domain::{
        image_ref::ImageRef,
        moved::Moved,
        workload::{Container, Workload},
        workload_annotations::{Hold, HoldAnnotation},
    },
};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// One operation of RFC 6902.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Op {
    /// The value must be this.
    Test {
        /// JSON pointer.
        path: String,
        /// The value.
        value: Value,
    },
    /// Sets an existing value.
    Replace {
        /// JSON pointer.
        path: String,
        /// The value.
        value: Value,
    },
    /// Sets a value.
    Add {
        /// JSON pointer.
        path: String,
        /// The value.
        value: Value,
    },
    /// Takes an existing value away.
    Remove {
        /// JSON pointer.
        path: String,
    },
}

fn test(path: impl Into<String>, value: impl Into<Value>) -> Op {
    Op::Test {
        path: path.into(),
        value: value.into(),
    }
}

fn annotation(key: &str) -> String {
    format!("/metadata/annotations/{}", key.replace('~', "~0").replace('/', "~1"))
}

fn annotate(key: &str, value: impl Into<Value>) -> Op {
    Op::Add {
        path: annotation(key),
        value: value.into(),
    }
}

/// Tests that nothing at all has changed since the read: a hold, a pause or a new owner in between must win, and the image
/// alone proves nothing, because a rolled-back workload has its old one again. A status that changes meanwhile costs one
/// more reconcile, which sees the newer state.
fn unchanged(workload: &Workload) -> Vec<Op> {
    vec![
        test("/metadata/uid", workload.uid.as_str()),
        test("/metadata/resourceVersion", workload.resource_version.as_str()),
    ]
}

/// Tests that the container is the one that was seen, and gives it another image.
fn change_image(container: &Container, image: &ImageRef) -> [Op; 3] {
    let list = if container.init { "initContainers" } else { "containers" };
    let path = format!("/spec/template/spec/{list}/{}", container.index);
    [
        test(format!("{path}/name"), container.name.as_str()),
        test(format!("{path}/image"), container.image.as_str()),
        Op::Replace {
            path: format!("{path}/image"),
            value: image.to_string().into(),
        },
    ]
}

/// Says which template this write makes. The annotation of an older version would contradict it.
fn record(workload: &Workload, moved: &Moved) -> Vec<Op> {
    let mut ops = vec![annotate(ANNOTATION_MOVED, json!(moved).to_string())];
    if workload.annotations.has_moved_at {
        ops.push(Op::Remove {
            path: annotation(ANNOTATION_MOVED_AT),
        });
    }
    ops
}

/// Moves containers to an image. Each change comes with what that container runs now, by digest; `moved` is the record.
pub fn move_to(
    workload: &Workload,
    changes: &[(&Container, ImageRef)],
    image: &ImageRef,
    run_ref: &str,
    moved: &Moved,
) -> Vec<Op> {
    let previous: BTreeMap<&str, String> = changes
        .iter()
        .map(|(c, before)| (c.name.as_str(), before.to_string()))
        .collect();
    let mut ops = unchanged(workload);
    ops.extend(changes.iter().flat_map(|(container, _)| change_image(container, image)));
    if !workload.has_annotations {
        ops.push(Op::Add {
            path: "/metadata/annotations".to_owned(),
            value: json!({}),
        });
    }
    ops.push(annotate(ANNOTATION_RUN, run_ref));
    ops.push(annotate(ANNOTATION_PREVIOUS, json!(previous).to_string()));
    ops.extend(record(workload, moved));
    // What is left of the failure of another digest says nothing about this one.
    if let Some(HoldAnnotation::Valid(hold)) = workload.annotations.hold.as_deref()
        && hold.is_for_another(&moved.digest)
    {
        ops.push(Op::Remove {
            path: annotation(ANNOTATION_HOLD),
        });
    }
    ops
}

/// Gives containers their old images back and holds the workload.
pub fn roll_back(
    workload: &Workload,
    changes: &[(&Container, &ImageRef)],
    run_ref: &str,
    moved: &Moved,
    hold: &Hold,
) -> Vec<Op> {
    let mut ops = unchanged(workload);
    ops.push(test(annotation(ANNOTATION_RUN), run_ref));
    ops.extend(
        changes
            .iter()
            .flat_map(|(container, image)| change_image(container, image)),
    );
    ops.extend(record(workload, moved));
    ops.push(annotate(ANNOTATION_HOLD, json!(hold).to_string()));
    ops
}
