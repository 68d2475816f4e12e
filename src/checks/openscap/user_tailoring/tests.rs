//! A real tailoring, and everything that must not be dropped without a word.

use super::*;
use proptest::prelude::*;

const TAILORING: &str = include_str!("../../testdata/openscap-user-tailoring.xml");

fn refused(xml: &str) -> String {
    parse(xml.as_bytes()).unwrap_err().to_string()
}

/// A tailoring with this in its profile.
fn with(inner: &str) -> String {
    format!("<Tailoring xmlns=\"{XCCDF}\"><Profile id=\"p\" extends=\"b\">{inner}</Profile></Tailoring>")
}

#[test]
fn a_tailoring_is_read_whole() {
    let tailoring = parse(TAILORING.as_bytes()).unwrap();
    assert_eq!(
        tailoring.extends,
        "xccdf_org.ssgproject.content_profile_cis_level1_server"
    );
    assert_eq!(tailoring.changes.len(), 7);
    let value = Change::SetValue {
        id: "xccdf_org.ssgproject.content_value_var_accounts_user_umask".into(),
        value: "022".into(),
    };
    assert!(tailoring.changes.contains(&value));
    let rule = Change::RefineRule {
        id: "xccdf_org.ssgproject.content_rule_file_permissions_etc_shadow".into(),
        severity: Some("high".into()),
        selector: None,
    };
    assert!(tailoring.changes.contains(&rule));
    assert!(matches!(&tailoring.changes[0], Change::Select { selected: false, .. }));
}

#[test]
fn prefixes_and_remarks_are_fine() {
    let xml = format!(
        "<x:Tailoring xmlns:x=\"{XCCDF}\"><x:Profile id=\"p\" extends=\"b\"><x:title>t</x:title>\
         <x:select idref=\"r\" selected=\"1\"><x:remark>why</x:remark></x:select></x:Profile></x:Tailoring>"
    );
    let select = Change::Select {
        id: "r".into(),
        selected: true,
    };
    assert_eq!(parse(xml.as_bytes()).unwrap().changes, [select]);
    assert!(parse(with("<refine-value idref=\"v\" selector=\"strict\"/>").as_bytes()).is_ok());
}

#[test]
fn whatever_is_not_understood_is_refused_with_words() {
    for (inner, words) in [
        ("<select idref=\"r\"/>", "expected selected=\"true\" or \"false\""),
        (
            "<select idref=\"r\" selected=\"yes\"/>",
            "expected selected=\"true\" or \"false\"",
        ),
        ("<select selected=\"true\"/>", "no plain idref"),
        ("<select idref=\"a b\" selected=\"true\"/>", "no plain idref"),
        (
            "<refine-rule idref=\"r\" role=\"unchecked\"/>",
            "\"role\" of refine-rule r is not read",
        ),
        ("<refine-rule idref=\"r\" severity=\"none\"/>", "expected severity high"),
        ("<refine-value idref=\"r\"/>", "names no selector"),
        (
            "<platform idref=\"cpe:/o:x\"/>",
            "\"platform\" in \"Tailoring/Profile\" is not read",
        ),
        ("<set-complex-value idref=\"r\"/>", "is not read"),
        (
            "<select idref=\"r\" selected=\"true\"><select idref=\"s\" selected=\"true\"/></select>",
            "is not read",
        ),
        (
            "<select idref=\"r\" selected=\"true\"/><select idref=\"r\" selected=\"false\"/>",
            "two select of r",
        ),
    ] {
        let error = refused(&with(inner));
        assert!(
            error.contains("your tailoring: ") && error.contains(words),
            "{inner}: {error}"
        );
    }
    let two = with("").replace("</Tailoring>", "<Profile id=\"q\" extends=\"b\"/></Tailoring>");
    for (xml, words) in [
        (two.as_str(), "expected one Profile, found several"),
        (&with("").replace(" extends=\"b\"", ""), "its Profile extends none"),
        (
            &format!("<Tailoring xmlns=\"{XCCDF}\"/>"),
            "expected one Profile, found none",
        ),
        (&with("").replace("1.2", "1.1"), "expected an XCCDF 1.2 tailoring"),
        ("<Benchmark/>", "expected an element Tailoring"),
        ("", "expected one Profile"),
    ] {
        assert!(refused(xml).contains(words), "{xml}: {}", refused(xml));
    }
}

#[test]
fn hostile_tailorings_are_refused_within_bounds() {
    let select = |n| format!("<select idref=\"r{n}\" selected=\"false\"/>");
    let many = (0..=MAX_CHANGES).map(select).collect::<Vec<_>>().concat();
    let long = format!("<set-value idref=\"v\">{}</set-value>", "x".repeat(MAX_VALUE + 1));
    let deep = format!("<title>{}{}</title>", "<a>".repeat(300), "</a>".repeat(300));
    for (xml, words) in [
        (with(&many), "more than 5000 changes"),
        (with(&long), "more than 4096 bytes"),
        (with(&deep), "nested too deeply"),
        (with("<title>&bomb;</title>"), "unknown entity"),
        (format!("<!DOCTYPE a [<!ENTITY b \"c\">]>{}", with("")), "DTD"),
        (with("").replace("</Tailoring>", ""), "ends in the middle"),
    ] {
        assert!(refused(&xml).contains(words), "{}", refused(&xml));
    }
}

proptest! {
    #[test]
    fn reading_never_panics(text in "\\PC{0,200}", at in 0..TAILORING.len()) {
        prop_assert!(parse(text.as_bytes()).is_err());
        let _ = parse(&TAILORING.as_bytes()[..at]);
        let _ = parse(with(&text).as_bytes());
    }
}
