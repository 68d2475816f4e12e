//! A pod template as it is stored, in 64 bits: as text, because that is all that tells one from another. Must not decide anything.

use super::digest::Digest;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::value::RawValue;
use std::{collections::BTreeMap, fmt, str::FromStr};

/// The fields of a JSON object, each as text.
type Fields<'a> = BTreeMap<String, &'a RawValue>;

/// The fields of a pod spec that are lists of containers with images of their own: first the init containers.
const LISTS: [&str; 2] = ["initContainers", "containers"];

/// One container of the pod template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// The image as it is written there.
    pub image: String,
    /// Whether it is an init container.
    pub init: bool,
    /// Its place in its list.
    pub index: usize,
}

/// A pod template in 64 bits: equal for equal templates as the API server stores them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TemplateHash(u64);

impl fmt::Display for TemplateHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A text that is no hash of a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected 16 hex digits, found {0:?}: leave the annotation to Repave")]
pub struct InvalidHash(String);

impl FromStr for TemplateHash {
    type Err = InvalidHash;

    fn from_str(text: &str) -> Result<Self, InvalidHash> {
        let invalid = || InvalidHash(text.chars().take(40).collect());
        let digits = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let hash = digits.then(|| u64::from_str_radix(text, 16).ok()).flatten();
        hash.map(Self).ok_or_else(invalid)
    }
}

impl Serialize for TemplateHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TemplateHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// A pod template without its images, so that the hash of the template with other images can be told without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TemplateShape(u64);

impl TemplateShape {
    /// The shape of a stored template, and its containers: init containers first, each list in its order. The API server writes the
    /// same object in the same way each time.
    pub fn read(template: &str) -> serde_json::Result<(Self, Vec<Container>)> {
        let fields: Fields<'_> = serde_json::from_str(template)?;
        let spec: Fields<'_> = fields
            .get("spec")
            .map_or_else(|| Ok(Fields::new()), |spec| serde_json::from_str(spec.get()))?;
        let mut text = String::new();
        write(&mut text, fields.iter().filter(|(key, _)| *key != "spec"));
        write(&mut text, spec.iter().filter(|(key, _)| !LISTS.contains(&key.as_str())));
        let mut containers = Vec::new();
        for (key, init) in LISTS.into_iter().zip([true, false]) {
            let Some(all) = spec.get(key).filter(|all| all.get() != "null") else {
                continue;
            };
            text.push_str(key);
            for (index, one) in serde_json::from_str::<Vec<&RawValue>>(all.get())?
                .into_iter()
                .enumerate()
            {
                let fields: Fields<'_> = serde_json::from_str(one.get())?;
                write(&mut text, fields.iter().filter(|(key, _)| *key != "image"));
                let word = |key: &str| {
                    let field = fields.get(key).map(|field| serde_json::from_str(field.get()));
                    field.transpose().map(Option::<Option<String>>::flatten)
                };
                containers.push(Container {
                    name: word("name")?.unwrap_or_default(),
                    image: word("image")?.unwrap_or_default(),
                    init,
                    index,
                });
            }
        }
        Ok((Self(hash(text.as_bytes())), containers))
    }

    /// The template with these images, init containers first, each list in its order.
    pub fn with_images<'a>(self, images: impl Iterator<Item = &'a str>) -> TemplateHash {
        let mut text = format!("{:016x}", self.0);
        for image in images {
            text.push('\n');
            text.push_str(image);
        }
        TemplateHash(hash(text.as_bytes()))
    }
}

/// Lengths are in it, so that no two different objects have one text.
fn write<'a>(out: &mut String, fields: impl Iterator<Item = (&'a String, &'a &'a RawValue)>) {
    out.push('{');
    for (key, value) in fields {
        let (key, value) = (key.as_str(), value.get());
        let lengths = (key.len().to_string(), value.len().to_string());
        out.extend([&lengths.0, ":", key, "=", &lengths.1, ":", value, ";"]);
    }
    out.push('}');
}

fn hash(bytes: &[u8]) -> u64 {
    // The first 64 bits of a SHA-256: nobody gains by a collision with his own earlier template.
    Digest::of(bytes).hex().bytes().take(16).fold(0, |value, digit| {
        value << 4 | u64::from(char::from(digit).to_digit(16).unwrap_or(0))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn template(changes: &[(&str, Value)]) -> (TemplateShape, Vec<Container>) {
        let mut object = json!({"metadata": {"labels": {"app": "a"}}, "spec": {
            "initContainers": [{"name": "i", "image": "r.test/i:1"}], "volumes": [{"name": "v", "emptyDir": {}}],
            "containers": [{"name": "c", "image": "r.test/c:1", "env": [{"name": "X", "value": "1"}]}]}});
        for (path, value) in changes {
            *object.pointer_mut(path).unwrap() = value.clone();
        }
        TemplateShape::read(&object.to_string()).unwrap()
    }

    #[test]
    fn a_template_with_other_images_is_told_from_its_shape_and_every_other_change_is_another_shape() {
        let (shape, containers) = template(&[]);
        let images: Vec<(&str, &str, bool, usize)> = containers
            .iter()
            .map(|one| (one.name.as_str(), one.image.as_str(), one.init, one.index))
            .collect();
        assert_eq!(images, [("i", "r.test/i:1", true, 0), ("c", "r.test/c:1", false, 0)]);
        assert_eq!(template(&[("/spec/containers/0/image", json!("r.test/c:2"))]).0, shape);
        for (path, value) in [
            ("/metadata/labels", json!({"app": "a", "restarted": "now"})),
            ("/spec/containers/0/env/0/value", json!("2")),
            ("/spec/containers/0/name", json!("d")),
            ("/spec/volumes/0/name", json!("w")),
            ("/spec/initContainers", json!(null)),
        ] {
            assert_ne!(template(&[(path, value)]).0, shape, "{path}");
        }
        let hash = |images: [&str; 2]| shape.with_images(images.into_iter());
        assert_eq!(hash(["a", "b"]), hash(["a", "b"]));
        assert_ne!(hash(["a", "b"]), hash(["b", "a"]));
        assert_ne!(hash(["a", "b"]), hash(["a", "c"]));
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for text in [
            "[]",
            "{\"spec\": []}",
            "{\"spec\": {\"containers\": {}}}",
            "{\"spec\": {\"containers\": [{\"name\": 1}]}}",
        ] {
            assert!(TemplateShape::read(text).is_err(), "{text}");
        }
    }
}
