//! A small data stream in which every kind of rule that an image cannot answer occurs once.

use super::*;
use proptest::prelude::*;

const STREAM: &str = include_str!("../../testdata/openscap-small-ds.xml");

fn excluded() -> Excluded {
    analyse(STREAM.as_bytes()).unwrap().excluded()
}

fn tailored() -> Tailored {
    analyse(STREAM.as_bytes())
        .unwrap()
        .tailor("cis_level1_server", None)
        .unwrap()
}

fn rule(name: &str) -> String {
    format!("{RULE_PREFIX}{name}")
}

/// What becomes of a user's changes to level 1.
fn merged(changes: &[Change]) -> Result<Tailored, ReadError> {
    let user = UserTailoring {
        extends: full_profile("cis_level1_server"),
        changes: changes.to_vec(),
    };
    analyse(STREAM.as_bytes())
        .unwrap()
        .tailor("cis_level1_server", Some(user))
}

fn select(name: &str, selected: bool) -> Change {
    Change::Select {
        id: rule(name),
        selected,
    }
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
fn what_the_user_deselects_is_left_out_and_counted() {
    let tailored = merged(&[select("plain_file", false)]).unwrap();
    assert_eq!(tailored.excluded[&rule("plain_file")], BY_POLICY);
    let left_out = analyse(STREAM.as_bytes())
        .unwrap()
        .left_out("cis_level1_server", &tailored);
    assert_eq!(left_out[BY_POLICY], 1);
}

#[test]
fn a_rule_that_no_image_can_answer_stays_out_whatever_the_user_selects() {
    let tailored = merged(&[
        select("world_writable", true),
        select("sysctl", false),
        select("for_containers_too", true),
    ])
    .unwrap();
    assert_eq!(
        tailored.excluded[&rule("world_writable")],
        "partition probe: passes whatever is there"
    );
    assert_eq!(tailored.excluded[&rule("sysctl")], "reads the running system");
    assert_eq!(tailored.refused, 1);
    let xml = document("cis_level1_server", &tailored);
    assert!(
        !xml.contains(&format!("{}\" selected=\"true\"", rule("world_writable"))),
        "{xml}"
    );
    assert!(
        xml.contains(&format!("{}\" selected=\"true\"", rule("for_containers_too"))),
        "{xml}"
    );
}

#[test]
fn values_and_severities_of_the_user_are_in_the_document() {
    let value = || "xccdf_org.ssgproject.content_value_var_umask".to_owned();
    let changes = [
        Change::SetValue {
            id: value(),
            value: "0<77".into(),
        },
        Change::RefineValue {
            id: value(),
            selector: "strict".into(),
        },
        Change::RefineRule {
            id: rule("plain_file"),
            severity: Some("high".into()),
            selector: None,
        },
    ];
    insta::assert_snapshot!(document("cis_level1_server", &merged(&changes).unwrap()));
}

#[test]
fn a_tailoring_of_another_profile_or_of_what_the_stream_has_not_is_refused() {
    let other = UserTailoring {
        extends: full_profile("stig"),
        changes: Vec::new(),
    };
    let analysis = analyse(STREAM.as_bytes()).unwrap();
    let error = analysis
        .tailor("cis_level1_server", Some(other))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("found xccdf_org.ssgproject.content_profile_stig: name the same profile in both"),
        "{error}"
    );
    for change in [
        select("plain_fill", false),
        Change::SetValue {
            id: rule("plain_file"),
            value: "1".into(),
        },
        Change::RefineValue {
            id: "x".into(),
            selector: "1".into(),
        },
        Change::RefineRule {
            id: "g1".into(),
            severity: None,
            selector: None,
        },
    ] {
        let error = merged(&[change]).unwrap_err().to_string();
        assert!(error.contains("the data stream 0.1.82 has no "), "{error}");
    }
    assert!(
        merged(&[Change::Select {
            id: "g1".into(),
            selected: true
        }])
        .is_ok()
    );
}

#[test]
fn rules_that_the_profile_had_selected_are_counted_through_its_ancestors() {
    let analysis = analyse(STREAM.as_bytes()).unwrap();
    let count = |profile| analysis.left_out(profile, &tailored()).values().sum::<u64>();
    // Level 1 selects sysctl, world_writable and plain_file; level 2 adds kernel and takes sysctl out.
    assert_eq!(count("cis_level1_server"), 2);
    assert_eq!(count("cis_level2_server"), 2);
    assert_eq!(count("none"), 0);
}

#[test]
fn the_need_for_chroot_is_known_from_the_rules_that_will_be_evaluated() {
    let rpm = STREAM.replace("file_object id=\"oval:ssg-plain", "rpminfo_object id=\"oval:ssg-plain");
    let analysis = analyse(rpm.replacen("</u:file_object>", "</u:rpminfo_object>", 1).as_bytes()).unwrap();
    assert_eq!(
        analysis.needs_chroot("cis_level1_server", &tailored()),
        Some("plain_file")
    );
    let without = merged(&[select("plain_file", false)]).unwrap();
    assert_eq!(analysis.needs_chroot("cis_level1_server", &without), None);
    assert_eq!(
        analyse(STREAM.as_bytes())
            .unwrap()
            .needs_chroot("cis_level1_server", &tailored()),
        None
    );
}

#[test]
fn the_benchmark_is_known_by_its_id_and_version() {
    let benchmark = analyse(STREAM.as_bytes()).unwrap().benchmark().clone();
    assert_eq!(benchmark.id, "xccdf_org.ssgproject.content_benchmark_DEBIAN-12");
    assert_eq!(benchmark.version, "0.1.82");
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
    let tailored = tailored();
    let xml = document("cis_level1_server", &tailored);
    assert_eq!(xml.matches("selected=\"false\"").count(), tailored.excluded.len());
    assert!(xml.contains("extends=\"xccdf_org.ssgproject.content_profile_cis_level1_server\""));
    let hostile = Tailored {
        excluded: [("\"/><select idref=\"x".to_owned(), "r")].into(),
        ..Tailored::default()
    };
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
