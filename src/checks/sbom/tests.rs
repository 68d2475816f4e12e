//! Real lists of Syft and Trivy about one image, and lists that must not be scanned.

use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

const SYFT: &[u8] = include_bytes!("../testdata/sbom-syft.json");
const TRIVY: &[u8] = include_bytes!("../testdata/sbom-trivy.json");

fn changed(change: impl FnOnce(&mut Value)) -> Inventory {
    let mut document: Value = serde_json::from_slice(SYFT).unwrap();
    change(&mut document);
    read(&serde_json::to_vec(&document).unwrap(), "T").unwrap()
}

#[test]
fn both_writers_are_read_and_agree() {
    let (syft, trivy) = (read(SYFT, "T").unwrap(), read(TRIVY, "T").unwrap());
    for inventory in [&syft, &trivy] {
        assert_eq!(inventory.os, Some(("debian".into(), "12.15".into())));
        assert_eq!((inventory.os_packages, inventory.language_packages), (6, 2));
        assert_eq!(inventory.scannable(8, "T"), Ok(()));
        assert!(
            inventory
                .scannable(9, "T")
                .unwrap_err()
                .to_string()
                .contains("at least 9 packages, found 8")
        );
    }
    assert!(syft.manifest.is_some() && syft.config.is_none() && trivy.manifest.is_none() && trivy.config.is_some());
    assert_eq!(syft.tools[0].0, "syft");
    assert_eq!(trivy.tools[0], ("trivy".into(), "0.70.0".into()));
}

#[test]
fn nothing_to_scan_is_unsupported_and_half_of_it_an_error() {
    let empty = changed(|sbom| sbom["components"] = json!([]));
    assert!(matches!(empty.scannable(1, "T"), Err(ReadError::Unsupported { .. })));
    let of_kinds = |keep: &[&str]| {
        changed(|sbom| {
            let kind = |component: &Value| match component["purl"].as_str() {
                Some(purl) if purl.starts_with("pkg:deb") => "deb",
                Some(_) => "go",
                None => "os",
            };
            sbom["components"]
                .as_array_mut()
                .unwrap()
                .retain(|component| keep.contains(&kind(component)));
        })
    };
    let no_packages = of_kinds(&["os"]).scannable(1, "T").unwrap_err();
    assert!(
        no_packages
            .to_string()
            .contains("expected packages of debian 12.15, found none")
    );
    assert!(
        of_kinds(&["os", "go"])
            .scannable(1, "T")
            .unwrap_err()
            .to_string()
            .contains("found none")
    );
    let no_os = of_kinds(&["deb", "go"]).scannable(1, "T").unwrap_err();
    assert!(
        matches!(&no_os, ReadError::Untrusted { why, .. } if why.contains("expected the distribution of 6 packages"))
    );
    assert!(matches!(
        of_kinds(&["go"]).scannable(1, "T"),
        Err(ReadError::Unsupported { .. })
    ));
}

#[test]
fn torn_huge_deep_and_foreign_lists_are_refused() {
    let bomb = format!("{{\"bomFormat\":{}", "[".repeat(100_000));
    let huge = vec![b' '; usize::try_from(MAX_SBOM).unwrap() + 1];
    let foreign = String::from_utf8_lossy(SYFT).replace("\"CycloneDX\"", "\"SPDX\"");
    let odd = String::from_utf8_lossy(SYFT).replace("pkg:deb/", "deb:");
    for (bytes, words) in [
        (&SYFT[..SYFT.len() / 2], "expected its list of packages"),
        (b"".as_slice(), "expected its list of packages"),
        (b"{}", "missing field"),
        (bomb.as_bytes(), "expected its list of packages"),
        (&huge, "more than"),
        (foreign.as_bytes(), "in CycloneDX, found \"SPDX\""),
        (odd.as_bytes(), "expected a package URL"),
    ] {
        let error = read(bytes, "T").unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

proptest! {
    #[test]
    fn reading_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(read(&bytes, "T").is_err());
    }
}
