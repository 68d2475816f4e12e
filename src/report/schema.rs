//! The JSON Schema of a report, from the one type that the runner writes and the operator reads.
//!
//! `docs/report.schema.json` is this text; `make verify` compares. Must not describe anything that
//! [`Report::validate`](repave_core::report::Report::validate) would not hold to.

use repave_core::report::{Report, SCHEMA};
use serde_json::Value;

/// The schema as pretty JSON with a final newline.
pub fn json() -> String {
    let mut schema = schemars::schema_for!(Report).to_value();
    if let Value::Object(root) = &mut schema {
        root.insert("title".to_owned(), Value::from(SCHEMA));
    }
    plain(&mut schema);
    format!("{schema:#}\n")
}

/// Takes the marks of our own documentation (links to other items) out of the descriptions. As deep as our types are.
fn plain(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::String(text) if key == "description" => {
                        *text = text.replace("[`", "`").replace("`]", "`");
                    }
                    Value::Null
                    | Value::Bool(_)
                    | Value::Number(_)
                    | Value::String(_)
                    | Value::Array(_)
                    | Value::Object(_) => plain(value),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(plain),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use repave_core::digest::Digest;

    const DOCUMENT: &str = include_str!("../../docs/report.md");

    /// The first JSON block of the document.
    fn example() -> &'static str {
        let (_, rest) = DOCUMENT.split_once("```json\n").unwrap();
        rest.split_once("```").unwrap().0
    }

    fn validator() -> jsonschema::Validator {
        jsonschema::validator_for(&serde_json::from_str(&json()).unwrap()).unwrap()
    }

    #[test]
    fn the_committed_schema_is_the_one_of_the_type() {
        assert_eq!(
            json(),
            include_str!("../../docs/report.schema.json"),
            "run make generate and commit what it wrote"
        );
    }

    #[test]
    fn the_example_of_the_document_is_a_report_that_we_believe_and_the_schema_allows() {
        let report: Report = serde_json::from_str(example()).unwrap();
        let (image, tool) = (report.image.clone(), report.tool.name);
        let believed = report.clone().validate("hardening", &image, tool).unwrap();
        assert_eq!(
            believed, report,
            "the example is already clean, bounded and worst first"
        );
        let value: Value = serde_json::from_str(example()).unwrap();
        assert!(validator().is_valid(&value));
        assert_eq!(
            serde_json::to_value(&report).unwrap(),
            value,
            "the example shows every field as it is written"
        );
    }

    #[test]
    fn the_schema_refuses_what_the_reader_refuses() {
        let validator = validator();
        for (path, odd) in [
            ("/schema", Value::from("repave.dev/report/v2")),
            ("/image", Value::from("latest")),
            ("/tool/name", Value::from("magic")),
            ("/outcome/kind", Value::from("fine")),
            ("/findings/0/severity", Value::from("bad")),
            ("/evaluated", Value::from(-1)),
        ] {
            let mut value: Value = serde_json::from_str(example()).unwrap();
            *value.pointer_mut(path).unwrap() = odd;
            assert!(!validator.is_valid(&value), "{path}");
            let read = serde_json::from_value::<Report>(value).map(|report| {
                let (image, tool) = (report.image.clone(), report.tool.name);
                report.validate("hardening", &image, tool).is_ok()
            });
            assert!(!matches!(read, Ok(true)), "{path}");
        }
        assert!(!validator.is_valid(&serde_json::json!({"schema": SCHEMA, "image": Digest::of(b"")})));
    }

    #[test]
    fn the_document_explains_every_field() {
        let schema: Value = serde_json::from_str(&json()).unwrap();
        let mut fields = Vec::new();
        let mut of = |part: &Value| {
            fields.extend(
                part["properties"]
                    .as_object()
                    .into_iter()
                    .flatten()
                    .map(|(name, _)| name.clone()),
            );
        };
        of(&schema);
        schema["$defs"].as_object().unwrap().values().for_each(of);
        assert!(fields.len() > 25, "{fields:?}");
        for field in fields {
            assert!(
                DOCUMENT.contains(&format!("`{field}`")),
                "docs/report.md does not explain {field}"
            );
        }
    }
}
