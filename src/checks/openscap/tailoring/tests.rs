//! A small data stream in which every kind of rule that an image cannot answer occurs once.

use super::*;
use proptest::prelude::*;

const STREAM: &str = include_str!("../../testdata/openscap-small-ds.xml");

fn excluded() -> Excluded {
    analyse(STREAM.as_bytes()).unwrap().excluded(&[])
}

fn reason(rule: &str) -> Option<&'static str> {
    excluded().get(&format!("{RULE_PREFIX}{rule}")).copied()
}

#[test]
fn rules_that_an_image_cannot_answer_are_left_out_with_the_reason() {
    for (rule, expected) in [
        ("plain_file", None),
        ("for_containers_too", None),
        ("machine_only", Some("only for machines")),
        ("in_a_machine_group", Some("only for machines")),
        ("not_for_containers", Some("only for machines")),
        ("kernel", Some("about the kernel or the boot loader")),
        ("sysctl", Some("reads the running system")),
        ("live_by_extension", Some("reads the running system")),
        ("world_writable", Some("partition probe: passes whatever is there")),
        (
            "partition_by_variable",
            Some("partition probe: passes whatever is there"),
        ),
        ("partition_by_set", Some("partition probe: passes whatever is there")),
    ] {
        assert_eq!(reason(rule), expected, "{rule}");
    }
}

#[test]
fn what_the_policy_leaves_out_is_left_out_too() {
    let excluded = analyse(STREAM.as_bytes()).unwrap().excluded(&["plain_file".into()]);
    assert_eq!(excluded[&format!("{RULE_PREFIX}plain_file")], "left out by the policy");
}

#[test]
fn rules_that_the_profile_had_selected_are_counted_through_its_ancestors() {
    let analysis = analyse(STREAM.as_bytes()).unwrap();
    let excluded = analysis.excluded(&[]);
    // Level 1 selects sysctl, world_writable and plain_file; level 2 adds kernel and takes sysctl out.
    assert_eq!(analysis.left_out("cis_level1_server", &excluded), 2);
    assert_eq!(analysis.left_out("cis_level2_server", &excluded), 2);
    assert_eq!(analysis.left_out("none", &excluded), 0);
}

#[test]
fn profiles_are_known_by_their_short_and_full_names() {
    let analysis = analyse(STREAM.as_bytes()).unwrap();
    assert_eq!(analysis.profiles(), ["cis_level1_server", "cis_level2_server", "loop"]);
    assert!(analysis.has_profile("cis_level1_server"));
    assert!(analysis.has_profile("xccdf_org.ssgproject.content_profile_cis_level1_server"));
    assert!(!analysis.has_profile("stig"));
}

#[test]
fn the_document_deselects_every_excluded_rule_and_escapes_what_it_is_told() {
    let excluded = excluded();
    let xml = document("cis_level1_server", &excluded);
    assert_eq!(xml.matches("selected=\"false\"").count(), excluded.len());
    assert!(xml.contains("extends=\"xccdf_org.ssgproject.content_profile_cis_level1_server\""));
    let hostile: Excluded = [("\"/><select idref=\"x".to_owned(), "r")].into();
    let xml = document("a\"><b", &hostile);
    assert!(!xml.contains("<b") && !xml.contains("idref=\"x\""), "{xml}");
}

#[test]
fn what_is_no_data_stream_is_refused() {
    for xml in ["", "<a/>", "<a>", "<!DOCTYPE a><Rule id=\"x\"/>"] {
        assert!(
            matches!(analyse(xml.as_bytes()), Err(ReadError::Malformed { .. })),
            "{xml}"
        );
    }
}

proptest! {
    #[test]
    fn analysing_never_panics(text in "\\PC{0,300}", at in 0..STREAM.len()) {
        prop_assert!(analyse(text.as_bytes()).is_err());
        let _ = analyse(&STREAM.as_bytes()[..at]);
    }
}
