//! Every way in which a pod log can lie: torn, doubled, forged, oversized, or a bomb.

use super::*;
use crate::report::{Finding, Severity, Tool, ToolName};
use proptest::prelude::*;

fn report(findings: usize) -> Report {
    let tool = Tool::new(ToolName::Native, "1");
    let mut report = Report::error("a", &Digest::of(b"image"), tool, "x");
    report.findings = (0..findings)
        .map(|n| Finding {
            id: format!("f{n:06}"),
            severity: Severity::High,
            title: "world-writable".into(),
            subject: Some("/etc/motd".into()),
            remedy: None,
            reference: None,
            ..Finding::default()
        })
        .collect();
    report
}

/// A frame around any bytes, with a right length and hash.
fn frame_of(packed: &[u8]) -> Frame {
    frame(packed)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn refused(log: &[u8], sha256: &Digest) -> &'static str {
    decode(log, sha256).unwrap_err().reason()
}

#[test]
fn a_report_survives_the_round_trip_between_foreign_lines() {
    let report = report(3000);
    let frame = encode(&report, &[]).unwrap();
    assert!(frame.text.lines().all(|line| line.len() <= LINE));
    let log = format!("warning: x\n{}goodbye\n", frame.text.replace('\n', "\r\n"));
    assert_eq!(decode(log.as_bytes(), &frame.sha256).unwrap().report, report.bounded());
}

#[test]
fn attachments_arrive_as_they_were_packed_and_the_largest_goes_first_when_they_do_not_fit() {
    // A text that does not compress: each of its digests is the digest of the one before.
    let noise = |blocks: usize| {
        let mut bytes = Vec::new();
        let mut last = Digest::of(b"seed");
        for _ in 0..blocks {
            last = Digest::of(last.as_str().as_bytes());
            bytes.extend(last.hex().as_bytes());
        }
        bytes
    };
    let page = Attached::pack("report.html", "text/html", b"<p>all well</p>").unwrap();
    let huge = Attached::pack("raw.json", "application/json", &noise(150_000)).unwrap();
    let frame = encode(&report(3), &[huge, page.clone()]).unwrap();
    let back = decode(frame.text.as_bytes(), &frame.sha256).unwrap();
    assert_eq!((back.report.findings.len(), back.report.truncated), (3, false));
    assert_eq!(back.attached, [page]);
    assert_eq!(back.attached[0].unpack(100).unwrap(), b"<p>all well</p>");
    assert!(back.attached[0].unpack(5).is_err());
}

#[test]
fn a_report_that_packs_well_is_cut_to_what_will_be_unpacked() {
    let mut long = report(10_000);
    for finding in &mut long.findings {
        finding.title = "x".repeat(2000);
        finding.remedy = Some("y".repeat(2000));
    }
    let frame = encode(&long, &[]).unwrap();
    let back = decode(frame.text.as_bytes(), &frame.sha256).unwrap().report;
    assert!(back.truncated && !back.findings.is_empty(), "{}", back.findings.len());
}

#[test]
fn an_attachment_that_is_not_the_named_one_is_refused() {
    let page = Attached::pack("report.html", "text/html", b"fine").unwrap();
    let mut named = report(0);
    named.attachments = vec![page.described()];
    for attached in [vec![], vec![gzip(b"other")], vec![page.gzip.clone(), page.gzip.clone()]] {
        let parcel = Payload {
            report: named.clone(),
            attached: attached.iter().map(|bytes| STANDARD.encode(bytes)).collect(),
        };
        let frame = frame_of(&gzip(&serde_json::to_vec(&parcel).unwrap()));
        assert!(decode(frame.text.as_bytes(), &frame.sha256).is_err());
    }
}

#[test]
fn a_torn_frame_is_refused_wherever_it_is_torn() {
    let frame = encode(&report(3000), &[]).unwrap();
    let lines: Vec<&str> = frame.text.lines().collect();
    assert!(lines.len() > 3, "the frame must have a middle");
    for missing in 0..lines.len() {
        let mut left = lines.clone();
        left.remove(missing);
        let reason = refused(left.join("\n").as_bytes(), &frame.sha256);
        assert_eq!(
            reason,
            if missing == 0 { "ReportMissing" } else { "ReportTorn" },
            "{missing}"
        );
    }
    assert_eq!(refused(b"", &frame.sha256), "ReportMissing");
    let mixed = frame.text.replacen('\n', "\nlevel=warn msg=hello\n", 1);
    assert_eq!(refused(mixed.as_bytes(), &frame.sha256), "ReportTorn");
}

#[test]
fn two_frames_are_refused_even_when_they_are_equal() {
    let frame = encode(&report(1), &[]).unwrap();
    let log = format!("{}{}", frame.text, frame.text);
    assert_eq!(refused(log.as_bytes(), &frame.sha256), "ReportDuplicate");
    let nested = frame.text.replacen('\n', &format!("\n{}", frame.text), 1);
    assert_eq!(refused(nested.as_bytes(), &frame.sha256), "ReportDuplicate");
}

#[test]
fn a_frame_that_the_termination_message_does_not_announce_is_forged() {
    let (mine, other) = (encode(&report(1), &[]).unwrap(), encode(&report(2), &[]).unwrap());
    assert_eq!(refused(other.text.as_bytes(), &mine.sha256), "ReportForged");
    // The header may claim the announced hash: the bytes decide.
    let claims = other.text.replace(other.sha256.hex(), mine.sha256.hex());
    assert_eq!(refused(claims.as_bytes(), &mine.sha256), "ReportForged");
}

#[test]
fn oversized_frames_and_logs_are_refused_before_they_are_decoded() {
    let digest = Digest::of(b"");
    let header = format!(
        "{BEGIN_V1}length={} sha256={}-----\n{END}\n",
        MAX_FRAME + 1,
        digest.hex()
    );
    assert_eq!(refused(header.as_bytes(), &digest), "ReportTooLarge");
    assert_eq!(refused(&vec![b'\n'; MAX_LOG + 1], &digest), "ReportTooLarge");
    for length in ["-1", "+1", "99999999999999999999999", "", "0x10"] {
        let header = format!("{BEGIN_V1}length={length} sha256={}-----\n{END}\n", digest.hex());
        assert_eq!(refused(header.as_bytes(), &digest), "ReportTorn", "{length}");
    }
    let other_version = format!("{BEGIN} v2 length=0 sha256={}-----\n{END}\n", digest.hex());
    assert_eq!(refused(other_version.as_bytes(), &digest), "ReportTorn");
}

#[test]
fn a_gzip_bomb_stops_at_the_bound() {
    // White space is valid JSON around a report, so only the bound can stop it.
    let blanks = vec![b' '; usize::try_from(MAX_UNPACKED).unwrap() + 1];
    let frame = frame_of(&gzip(&blanks));
    assert!(frame.text.len() < 200_000, "it must be small when packed");
    assert_eq!(refused(frame.text.as_bytes(), &frame.sha256), "ReportTooLarge");
}

#[test]
fn ten_thousand_findings_of_the_same_six_kilobytes_are_an_error_that_says_what_to_do() {
    let mut hostile = report(10_000);
    for finding in &mut hostile.findings {
        finding.title = "x".repeat(6_000);
    }
    let parcel = Payload {
        report: hostile,
        attached: Vec::new(),
    };
    let frame = frame_of(&gzip(&serde_json::to_vec(&parcel).unwrap()));
    assert!(frame.text.len() < 1_000_000, "it must be small when packed");
    let error = decode(frame.text.as_bytes(), &frame.sha256).unwrap_err();
    assert_eq!(
        error.to_string(),
        "expected at most 10485760 bytes of the unpacked report, found more: let the check report fewer findings, or shorter ones"
    );
}

#[test]
fn more_entries_than_a_list_may_have_are_refused_before_they_are_in_memory() {
    let mut many = report(1);
    many.findings[0].aliases = vec![String::new(); 3_000_000];
    let parcel = Payload {
        report: many,
        attached: Vec::new(),
    };
    let frame = frame_of(&gzip(&serde_json::to_vec(&parcel).unwrap()));
    let error = decode(frame.text.as_bytes(), &frame.sha256).unwrap_err();
    assert!(error.to_string().contains("expected a list of at most 16"), "{error}");
}

#[test]
fn a_json_bomb_and_foreign_json_are_unreadable() {
    for json in ["[".repeat(100_000), "{}".into(), "null".into(), String::new()] {
        let frame = frame_of(&gzip(json.as_bytes()));
        assert_eq!(refused(frame.text.as_bytes(), &frame.sha256), "ReportUnreadable");
    }
    let plain = frame_of(b"not gzip");
    assert_eq!(refused(plain.text.as_bytes(), &plain.sha256), "ReportUnreadable");
}

#[test]
fn a_second_document_or_a_second_gzip_member_is_refused() {
    let parcel = Payload {
        report: report(1),
        attached: Vec::new(),
    };
    let json = serde_json::to_vec(&parcel).unwrap();
    let twice = frame_of(&gzip(&[json.clone(), json.clone()].concat()));
    assert_eq!(refused(twice.text.as_bytes(), &twice.sha256), "ReportUnreadable");
    let members = frame_of(&[gzip(&json), gzip(&json)].concat());
    assert_eq!(refused(members.text.as_bytes(), &members.sha256), "ReportTorn");
}

#[test]
fn a_report_that_does_not_fit_keeps_its_worst_findings_and_says_so() {
    // Text that gzip cannot shrink: hashes.
    let mut big = report(9_000);
    for (n, finding) in big.findings.iter_mut().enumerate() {
        let noise = |salt: usize| -> String {
            (0..15)
                .map(|k| Digest::of(format!("{n}/{salt}/{k}").as_bytes()).hex().to_owned())
                .collect()
        };
        finding.title = noise(0);
        finding.remedy = Some(noise(1));
        finding.severity = if n == 8_999 { Severity::Critical } else { Severity::Low };
    }
    let frame = encode(&big, &[]).unwrap();
    assert!(frame.text.len() < MAX_LOG);
    let back = decode(frame.text.as_bytes(), &frame.sha256).unwrap().report;
    assert!(back.truncated);
    assert_eq!(back.findings[0].id, "f008999");
}

proptest! {
    #[test]
    fn decoding_never_panics(log in proptest::collection::vec(any::<u8>(), 0..2000)) {
        prop_assert!(decode(&log, &Digest::of(b"")).is_err());
    }

    #[test]
    fn a_changed_byte_is_never_believed(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let report = report(5);
        let frame = encode(&report, &[]).unwrap();
        let mut log = frame.text.into_bytes();
        let at = at.index(log.len());
        log[at] = byte;
        if let Ok(read) = decode(&log, &frame.sha256) {
            prop_assert_eq!(read.report, report.bounded());
        }
    }

    #[test]
    fn any_text_survives_the_round_trip(title in "\\PC{0,300}", id in "\\PC{0,50}", subject in proptest::option::of("\\PC{0,50}")) {
        let mut report = report(1);
        report.findings[0].title = title;
        report.findings[0].id = id;
        report.findings[0].subject = subject;
        let frame = encode(&report, &[]).unwrap();
        prop_assert_eq!(decode(frame.text.as_bytes(), &frame.sha256).unwrap().report, report.bounded());
    }
}
