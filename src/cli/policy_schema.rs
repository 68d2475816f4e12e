//! What the API server would say to a manifest of ours: its structural schema and its rules, without a server.
//!
//! The schema is the one that is installed, so the bounds and sentences cannot drift apart. A rule in CEL is checked by
//! the function beside its text; a rule that has none is refused, not passed over (a test keeps the list whole).

use jiff::Timestamp;
use regex::Regex;
use repave_api::checks::{KINDS, exactly_one_rule};
use repave_core::{
    digest::Digest,
    duration::{self, Span},
};
use serde_json::Value;

/// Most violations that are told.
const MOST: usize = 20;

/// Everything in `value` that the schema refuses, each with its path.
pub fn violations(value: &Value, schema: &Value, path: &str) -> Vec<String> {
    let mut said = Vec::new();
    check(value, schema, path, &mut said);
    said.truncate(MOST);
    said
}

fn check(value: &Value, schema: &Value, path: &str, said: &mut Vec<String>) {
    if said.len() >= MOST {
        return;
    }
    let kind = schema.get("type").and_then(Value::as_str).unwrap_or_default();
    let is = match (kind, value) {
        ("object", Value::Object(_))
        | ("array", Value::Array(_))
        | ("string", Value::String(_))
        | ("boolean", Value::Bool(_))
        | ("number", Value::Number(_)) => true,
        ("integer", Value::Number(number)) => number.is_i64() || number.is_u64(),
        _ => false,
    };
    if !is {
        said.push(format!("{path}: expected {kind}, found {}", shown(value)));
        return;
    }
    match value {
        Value::Object(_) => object(value, schema, path, said),
        Value::Array(items) => list(items, schema, path, said),
        Value::String(text) => string(text, schema, path, said),
        Value::Number(number) => numeric(number.as_f64().unwrap_or(f64::NAN), schema, path, said),
        Value::Bool(_) | Value::Null => {}
    }
    if let Some(allowed) = schema.get("enum").and_then(Value::as_array)
        && !allowed.contains(value)
    {
        let words: Vec<String> = allowed.iter().map(shown).collect();
        said.push(format!(
            "{path}: expected one of {}, found {}",
            words.join(", "),
            shown(value)
        ));
    }
    rules(value, schema, path, said);
}

fn object(value: &Value, schema: &Value, path: &str, said: &mut Vec<String>) {
    let properties = schema.get("properties").and_then(Value::as_object);
    let others = schema.get("additionalProperties").filter(|schema| schema.is_object());
    for (name, field) in value.as_object().into_iter().flatten() {
        let at = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        match properties.and_then(|known| known.get(name)).or(others) {
            Some(schema) => check(field, schema, &at, said),
            None => said.push(format!("{at}: unknown field{}", known(properties))),
        }
    }
    let required = schema.get("required").and_then(Value::as_array);
    for name in required.into_iter().flatten().filter_map(Value::as_str) {
        if value.get(name).is_none() {
            said.push(format!("{path}.{name}: required, found nothing"));
        }
    }
}

fn known(properties: Option<&serde_json::Map<String, Value>>) -> String {
    let names: Vec<&str> = properties
        .into_iter()
        .flat_map(|map| map.keys())
        .map(String::as_str)
        .collect();
    if names.is_empty() {
        String::new()
    } else {
        format!("; known here are {}", names.join(", "))
    }
}

fn list(items: &[Value], schema: &Value, path: &str, said: &mut Vec<String>) {
    let count = items.len() as u64;
    bounds(count, "entries", ("minItems", "maxItems"), schema, path, said);
    let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
    for (n, item) in items.iter().enumerate().take(1000) {
        let at = format!("{path}[{n}]");
        if let Some(schema) = schema.get("items") {
            check(item, schema, &at, said);
        }
        let same = |other: &Value| {
            keys.is_some_and(|keys| {
                let mut keys = keys.iter().filter_map(Value::as_str);
                keys.all(|key| other.get(key) == item.get(key))
            })
        };
        if items.iter().take(n).any(same) {
            said.push(format!(
                "{at}: another entry has the same name; names are unique in {path}"
            ));
        }
    }
}

fn string(text: &str, schema: &Value, path: &str, said: &mut Vec<String>) {
    let count = text.chars().count() as u64;
    bounds(count, "characters", ("minLength", "maxLength"), schema, path, said);
    if let Some(pattern) = schema.get("pattern").and_then(Value::as_str) {
        let fits = Regex::new(pattern).is_ok_and(|regex| regex.is_match(text));
        let span = (pattern == duration::PATTERN).then(|| text.parse::<Span>());
        if let Some(Err(why)) = span {
            said.push(format!("{path}: {why}"));
        } else if !fits {
            said.push(format!(
                "{path}: expected text like {pattern}, found {}",
                shown(&Value::from(text))
            ));
        }
    }
}

fn bounds(count: u64, what: &str, keys: (&str, &str), schema: &Value, path: &str, said: &mut Vec<String>) {
    let bound = |key: &str| schema.get(key).and_then(Value::as_u64);
    if let Some(least) = bound(keys.0).filter(|least| count < *least) {
        said.push(format!("{path}: expected at least {least} {what}, found {count}"));
    }
    if let Some(most) = bound(keys.1).filter(|most| count > *most) {
        said.push(format!("{path}: expected at most {most} {what}, found {count}"));
    }
}

fn numeric(number: f64, schema: &Value, path: &str, said: &mut Vec<String>) {
    let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
    if let Some(least) = bound("minimum").filter(|least| number < *least) {
        said.push(format!("{path}: expected at least {least}, found {number}"));
    }
    if let Some(most) = bound("maximum").filter(|most| number > *most) {
        said.push(format!("{path}: expected at most {most}, found {number}"));
    }
}

/// Every rule right at this schema that the value breaks; fields are not looked at.
pub fn broken_rules(value: &Value, schema: &Value, path: &str) -> Vec<String> {
    let mut said = Vec::new();
    rules(value, schema, path, &mut said);
    said
}

fn rules(value: &Value, schema: &Value, path: &str, said: &mut Vec<String>) {
    let rules = schema.get("x-kubernetes-validations").and_then(Value::as_array);
    for rule in rules.into_iter().flatten() {
        let text = |key: &str| rule.get(key).and_then(Value::as_str).unwrap_or_default();
        match holds(text("rule"), value) {
            Some(true) => {}
            Some(false) => said.push(format!("{path}: {}", text("message"))),
            None => said.push(format!(
                "{path}: the rule {:?} cannot be checked here: validate the policy against a cluster",
                text("rule")
            )),
        }
    }
}

/// Whether a value fulfils a rule of the schema, by the rule's text; `None` for a rule that is not known.
fn holds(rule: &str, value: &Value) -> Option<bool> {
    let has = |name: &str| value.get(name).is_some();
    Some(match rule {
        "self.size() > 0" => value.as_array().is_some_and(|list| !list.is_empty()),
        rule if rule == exactly_one_rule() => KINDS.iter().filter(|kind| has(kind.name)).count() == 1,
        "self.size() >= 10" => value.as_str().is_some_and(|text| text.chars().count() >= 10),
        "self.metadata.name.size() <= 63" => {
            let name = value.pointer("/metadata/name").and_then(Value::as_str);
            name.is_some_and(|name| name.chars().count() <= 63)
        }
        "!has(self.notBefore) || self.notBefore < self.expiresAt" => {
            let time = |name: &str| value.get(name)?.as_str()?.parse::<Timestamp>().ok();
            !has("notBefore") || matches!((time("notBefore"), time("expiresAt")), (Some(a), Some(b)) if a < b)
        }
        "self.all(d, d.matches('^sha256:[0-9a-f]{64}$'))" => {
            let digest = |text: &Value| text.as_str().is_some_and(|text| text.parse::<Digest>().is_ok());
            value.as_array().is_some_and(|list| list.iter().all(digest))
        }
        "self.id != '*' || has(self.package) || has(self.subject)" => {
            value.get("id").and_then(Value::as_str) != Some("*") || has("package") || has("subject")
        }
        "!self.matches('[*].')" => value
            .as_str()
            .is_some_and(|text| !text.strip_suffix('*').unwrap_or(text).contains('*')),
        "has(self.gossfile) != has(self.gossfileRef)" => has("gossfile") != has("gossfileRef"),
        "!(has(self.vars) && has(self.varsRef))" => !(has("vars") && has("varsRef")),
        "self.matches('@sha256:[0-9a-f]{64}$')" => {
            let digest = value
                .as_str()
                .and_then(|text| text.rsplit_once('@'))
                .map(|(_, digest)| digest);
            digest.is_some_and(|digest| digest.parse::<Digest>().is_ok())
        }
        "duration(self) <= duration('1h') && duration(self) >= duration('1s')" => {
            let span = value.as_str().and_then(|text| text.parse::<Span>().ok());
            span.is_some_and(|span| (1..=3600).contains(&span.get().as_secs()))
        }
        _ => return None,
    })
}

fn shown(value: &Value) -> String {
    let text = match value {
        Value::Null => "null; leave the field out".to_owned(),
        Value::Object(_) => "a map".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    };
    repave_core::report::bounded(&text).chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_rule_of_the_installed_policy_schema_is_known() {
        fn walk(value: &Value, found: &mut Vec<String>) {
            if let Some(rules) = value.get("x-kubernetes-validations").and_then(Value::as_array) {
                found.extend(rules.iter().filter_map(|rule| rule["rule"].as_str().map(str::to_owned)));
            }
            match value {
                Value::Object(map) => map.values().for_each(|value| walk(value, found)),
                Value::Array(list) => list.iter().for_each(|value| walk(value, found)),
                _ => {}
            }
        }
        let mut rules = Vec::new();
        walk(&crate::policy_file::schema(), &mut rules);
        let of_policies = rules.len();
        walk(&crate::policy_file::waiver_definition(), &mut rules);
        assert!(of_policies >= 6 && rules.len() >= of_policies + 7, "{rules:?}");
        let unknown: Vec<_> = rules.iter().filter(|rule| holds(rule, &json!({})).is_none()).collect();
        assert!(unknown.is_empty(), "write a function for {unknown:?}");
    }

    #[test]
    fn a_rule_without_a_function_is_refused() {
        let schema = json!({"type": "string", "x-kubernetes-validations": [{"rule": "self == 'x'", "message": "m"}]});
        let said = violations(&json!("x"), &schema, "spec");
        assert!(said[0].contains("cannot be checked here"), "{said:?}");
    }
}
