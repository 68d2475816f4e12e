//! The pure core: what things are and what is decided about them.
//!
//! Nothing here knows a client, a clock or the environment; `now` is always a parameter.

pub mod annotations;
pub mod byte_size;
pub mod cause;
pub mod containerfile;
pub mod deployment;
pub mod difference;
pub mod digest;
pub mod duration;
pub mod history;
pub mod image_ref;
pub mod inputs;
pub mod labels;
pub mod lineage;
pub mod moved;
pub mod native_rules;
pub mod object_name;
pub mod orders;
pub mod os_release;
pub mod ownership;
pub mod page;
pub mod pod;
pub mod promotion;
pub mod proof;
pub mod prune;
pub mod purl;
pub mod queue;
pub mod recall;
pub mod report;
pub mod revisions;
pub mod rules;
pub mod self_test;
pub mod template;
pub mod text;
pub mod tool;
pub mod transport;
pub mod usage;
pub mod verdict;
pub mod vex;
pub mod waiver;
pub mod wave;
pub mod workload;
pub mod workload_annotations;
