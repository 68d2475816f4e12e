//! What is believed of a report that came from a pod, and what its texts are cut to.

use super::*;

#[test]
fn a_received_report_reaches_no_terminal_raw_in_any_of_its_texts() {
    let escape = format!("\u{1b}[2J{}", "x".repeat(2 * MAX_TEXT));
    let tool = Tool {
        name: ToolName::Native,
        version: escape.clone(),
        content: Some(escape.clone()),
        database_built: None,
        database: Some(escape.clone()),
    };
    let image = Digest::of(b"image");
    let mut report = Report::error("hard", &image, tool, "");
    report.outcome = Outcome::Unsupported { message: escape };
    let report = report.validate("hard", &image, ToolName::Native).unwrap();
    let Outcome::Unsupported { message } = report.outcome else {
        panic!("{:?}", report.outcome)
    };
    let texts = [
        message,
        report.tool.version,
        report.tool.content.unwrap(),
        report.tool.database.unwrap(),
    ];
    for text in texts {
        assert!(text.starts_with("\u{fffd}[2J") && text.len() <= MAX_TEXT, "{text}");
    }
}

fn tool() -> Tool {
    Tool::new(ToolName::Native, "1")
}

fn finding(id: &str, severity: Severity) -> Finding {
    Finding {
        id: id.into(),
        severity,
        title: "x".into(),
        ..Finding::default()
    }
}

#[test]
fn a_report_about_another_image_check_or_tool_is_refused() {
    let (mine, other) = (Digest::of(b"mine"), Digest::of(b"other"));
    let report = Report::error("a", &mine, tool(), "x");
    assert!(report.clone().validate("a", &mine, ToolName::Native).is_ok());
    assert!(
        report
            .clone()
            .validate("a", &other, ToolName::Native)
            .unwrap_err()
            .why
            .contains("expected image")
    );
    assert!(
        report
            .clone()
            .validate("b", &mine, ToolName::Native)
            .unwrap_err()
            .why
            .contains("names check")
    );
    assert!(
        report
            .validate("a", &mine, ToolName::Grype)
            .unwrap_err()
            .why
            .contains("expected tool")
    );
}

#[test]
fn findings_come_worst_first_and_terminal_escapes_are_removed() {
    let mut report = Report::error("a", &Digest::of(b""), tool(), "x");
    report.findings = vec![finding("b", Severity::Low), finding("a\u{1b}[31m", Severity::Critical)];
    let report = report.bounded();
    assert_eq!(report.findings[0].severity, Severity::Critical);
    assert_eq!(report.findings[0].id, "a\u{fffd}[31m");
}

#[test]
fn an_attachment_whose_name_could_be_a_path_is_refused() {
    let image = Digest::of(b"i");
    for (name, fine) in [
        ("report.html", true),
        ("../etc/passwd", false),
        (".hidden", false),
        ("", false),
    ] {
        let mut report = Report::error("a", &image, tool(), "x");
        report.attachments = vec![Attachment {
            name: name.into(),
            media_type: "text/html".into(),
            digest: Digest::of(b""),
            size: 0,
        }];
        assert_eq!(report.validate("a", &image, ToolName::Native).is_ok(), fine, "{name}");
    }
}

#[test]
fn a_cut_report_says_so() {
    let mut report = Report::error("a", &Digest::of(b""), tool(), "x");
    report.findings = (0..=MAX_FINDINGS)
        .map(|n| finding(&n.to_string(), Severity::Low))
        .collect();
    assert!(report.bounded().truncated);
}
