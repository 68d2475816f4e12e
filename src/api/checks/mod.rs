//! The kinds of checks that a policy may name: the one list of them, and what every kind says of itself.
//!
//! One file per kind with its fields. A new kind is a row of the table below; names, schema, the rule "exactly one" and
//! its sentence are made from the rows, and what matches on [`CheckKind`] does not compile until it knows the new one.
//! Must not know how a check is judged or run: `src/policy/kinds.rs` and the Jobs do.

mod container;
mod goss;
mod native;
mod openscap;
mod vulnerabilities;

pub use container::{ContainerCheck, ResultFormat};
pub use goss::{GOSS_VARIABLES, GOSSFILE, GossCheck, GossMode};
pub use native::NativeCheck;
pub use openscap::{OpenscapCheck, TAILORING};
pub use vulnerabilities::{Scanner, VulnerabilityCheck};

use crate::{domain::report::ToolName, refs::KeyRef};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::Value;
use std::{borrow::Cow, collections::BTreeMap};

/// What every kind says of itself. Nothing has a default: whoever adds a kind answers each.
pub trait CheckSpec {
    /// The tool that makes its reports.
    fn tool(&self) -> ToolName;
    /// The files that are written in the policy itself, by their names in the check's Job.
    fn texts(&self) -> Vec<(&'static str, &String)>;
    /// The files that it refers to, by their names in the check's Job; the name is the key too, unless one is given.
    fn files(&self) -> Vec<(&'static str, &KeyRef)>;
    /// The OpenVEX documents that it refers to. The examination does not see them: they take findings out afterwards.
    fn vex(&self) -> &[KeyRef];
}

/// One row of the table.
pub struct Kind {
    /// Its field in a check, and the runner's subcommand.
    pub name: &'static str,
    about: &'static str,
    schema: fn(&mut SchemaGenerator) -> Schema,
    read: fn(Value) -> Result<CheckKind, serde_json::Error>,
}

/// Makes the type and the table of the same rows, so that neither can lack one.
macro_rules! kinds {
    ($($name:literal => $kind:ident($spec:ty), $about:literal;)+) => {
        /// What a check is: exactly one of its kinds. In a manifest it is the field of that name.
        // A policy has at most 16 checks: their size does not matter.
        #[allow(clippy::large_enum_variant)]
        #[derive(Serialize, Clone, Debug, PartialEq)]
        pub enum CheckKind {
            $(
                #[doc = $about]
                #[serde(rename = $name)]
                $kind($spec),
            )+
        }

        /// Every kind, in the order in which they are told.
        pub const KINDS: &[Kind] = &[
            $(Kind {
                name: $name,
                about: $about,
                schema: |generator| generator.subschema_for::<Option<$spec>>(),
                read: |value| serde_json::from_value(value).map(CheckKind::$kind),
            },)+
        ];

        impl CheckKind {
            /// Its name in a manifest.
            pub const fn name(&self) -> &'static str {
                match self {
                    $(Self::$kind(_) => $name,)+
                }
            }

            /// What the policy says.
            pub fn spec(&self) -> &dyn CheckSpec {
                match self {
                    $(Self::$kind(spec) => spec,)+
                }
            }
        }
    };
}

kinds! {
    "native" => Native(NativeCheck), "Our own hardening rules, read from the layers; nothing of the candidate is executed.";
    "goss" => Goss(GossCheck), "Goss tests, run inside the candidate.";
    "openscap" => Openscap(OpenscapCheck), "An OpenSCAP profile.";
    "vulnerabilities" => Vulnerabilities(VulnerabilityCheck), "Known vulnerabilities of the packages.";
    "container" => Container(ContainerCheck), "A check of your own.";
}

/// The rule that the API server holds, in CEL.
pub fn exactly_one_rule() -> String {
    let has: Vec<String> = KINDS.iter().map(|kind| format!("has(self.{})", kind.name)).collect();
    format!("[{}].filter(x, x).size() == 1", has.join(", "))
}

/// What is said where it is broken.
pub fn exactly_one_message() -> String {
    let names: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
    let (last, before) = names.split_last().unwrap_or((&"nothing", &[]));
    format!("each check names exactly one of {} or {last}", before.join(", "))
}

/// Reads what is beside the other fields of a check. What is no kind is not for us; `null` is a field that is left out.
impl<'de> Deserialize<'de> for CheckKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut fields = BTreeMap::<String, Value>::deserialize(deserializer)?;
        let mut named = KINDS
            .iter()
            .filter_map(|kind| Some((kind, fields.remove(kind.name).filter(|value| !value.is_null())?)));
        let (Some((kind, value)), None) = (named.next(), named.next()) else {
            return Err(de::Error::custom(exactly_one_message()));
        };
        (kind.read)(value).map_err(|error| de::Error::custom(format!("{}: {error}", kind.name)))
    }
}

/// One optional field a kind; that it is exactly one is [`exactly_one_rule`]'s.
impl JsonSchema for CheckKind {
    fn schema_name() -> Cow<'static, str> {
        "CheckKind".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let property = |kind: &Kind| {
            let mut schema = (kind.schema)(generator);
            schema.insert("description".to_owned(), kind.about.into());
            (kind.name.to_owned(), schema.to_value())
        };
        let properties: serde_json::Map<String, Value> = KINDS.iter().map(property).collect();
        json_schema!({"type": "object", "properties": properties})
    }
}

#[cfg(test)]
mod tests;
