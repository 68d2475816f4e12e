//! What must come of a case. Pure: what was seen in, what is wrong about it out.

use serde_json::Value;

/// Which image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Image {
    /// The new release, by digest, in the production repository.
    Target,
    /// As it was deployed.
    AsDeployed,
    /// The old release, by digest: as deployed, or after a rollback.
    Old,
    /// There is no Deployment.
    Gone,
    /// Not looked at.
    Any,
}

/// What must come of a case.
#[derive(Debug, Clone)]
pub struct Expect {
    /// The image of the container at `at`.
    pub image: Image,
    /// JSON pointer to the image that is looked at.
    pub at: &'static str,
    /// Other places, with what must be there.
    pub also: Vec<(&'static str, Value)>,
    /// How often the spec was written: 1 is the first deployment.
    pub generation: Option<i64>,
    /// Whether there is a hold.
    pub held: Option<bool>,
    /// Words that must be in what the operator says of it.
    pub said: Vec<String>,
    /// Words that must not.
    pub not_said: Vec<&'static str>,
    /// Words that no status and no event may have.
    pub nowhere: Vec<&'static str>,
    /// At most so many Deployments of the group were written.
    pub touched: Option<usize>,
}

const FIRST: &str = "/spec/template/spec/containers/0/image";

fn expect(image: Image) -> Expect {
    Expect {
        image,
        at: FIRST,
        also: Vec::new(),
        generation: None,
        held: None,
        said: Vec::new(),
        not_said: vec!["Status {", "Some("],
        nowhere: Vec::new(),
        touched: None,
    }
}

/// Moved by exactly one write.
pub fn moved() -> Expect {
    Expect {
        generation: Some(2),
        held: Some(false),
        ..expect(Image::Target)
    }
}

/// On the target, after other writes of its spec.
pub fn on_target() -> Expect {
    expect(Image::Target)
}

/// Never written.
pub fn untouched() -> Expect {
    Expect {
        generation: Some(1),
        ..expect(Image::AsDeployed)
    }
}

/// Moved and rolled back by exactly one write each, and held.
pub fn rolled_back() -> Expect {
    Expect {
        generation: Some(3),
        held: Some(true),
        ..expect(Image::Old)
    }
}

/// On the old release, whoever brought it there.
pub fn on_old() -> Expect {
    expect(Image::Old)
}

/// Not there.
pub fn gone() -> Expect {
    expect(Image::Gone)
}

/// Only what is said counts.
pub fn said(words: &[&'static str]) -> Expect {
    expect(Image::Any).said(words)
}

impl Expect {
    /// Words that must be in what the operator says of it.
    #[must_use]
    pub fn said(mut self, words: &[&'static str]) -> Self {
        self.said.extend(words.iter().map(|word| (*word).to_owned()));
        self
    }

    /// Words that no status and no event may have.
    #[must_use]
    pub fn nowhere(mut self, word: &'static str) -> Self {
        self.nowhere.push(word);
        self
    }

    /// At most so many Deployments of the group were written.
    #[must_use]
    pub fn touched(mut self, most: usize) -> Self {
        self.touched = Some(most);
        self
    }

    /// The image is looked at there.
    #[must_use]
    pub fn at(mut self, pointer: &'static str) -> Self {
        self.at = pointer;
        self
    }

    /// Something else must be there too.
    #[must_use]
    pub fn also(mut self, pointer: &'static str, value: Value) -> Self {
        self.also.push((pointer, value));
        self
    }

    /// Written so often.
    #[must_use]
    pub fn generation(mut self, generation: i64) -> Self {
        self.generation = Some(generation);
        self
    }

    /// Held, or not.
    #[must_use]
    pub fn held(mut self, held: bool) -> Self {
        self.held = Some(held);
        self
    }
}

/// What was seen of a case.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its Deployment.
    pub live: Option<Value>,
    /// Its Deployment as it was applied.
    pub deployed: Option<Value>,
    /// What the operator says of it: rows, conditions, its annotations, events on it.
    pub said: String,
    /// All statuses and events.
    pub everything: String,
    /// Deployments of the group that were written.
    pub touched: usize,
    /// The old release, `repository@digest`.
    pub old: String,
    /// The new one.
    pub target: String,
}

impl Expect {
    /// What is wrong; nothing when all is as it must be.
    pub fn wrong(&self, seen: &Seen) -> Vec<String> {
        let mut wrong = self.wrong_image(seen);
        let live = seen.live.as_ref();
        let generation = live
            .and_then(|live| live.pointer("/metadata/generation"))
            .and_then(Value::as_i64);
        if self.generation.is_some() && self.generation != generation {
            wrong.push(format!("generation {generation:?}, expected {:?}", self.generation));
        }
        let held = live.is_some_and(|live| live.pointer("/metadata/annotations/repave.dev~1hold").is_some());
        if self.held.is_some_and(|wanted| wanted != held) {
            wrong.push(format!("held: {held}"));
        }
        for (pointer, value) in &self.also {
            let found = live.and_then(|live| live.pointer(pointer));
            if found != Some(value) {
                wrong.push(format!("{pointer} is {found:?}, expected {value}"));
            }
        }
        let missing = self.said.iter().filter(|word| !seen.said.contains(word.as_str()));
        wrong.extend(missing.map(|word| format!("nothing says {word:?}")));
        let too_much = self.not_said.iter().filter(|word| seen.said.contains(**word));
        wrong.extend(too_much.map(|word| format!("something says {word:?}")));
        let leaked = self.nowhere.iter().filter(|word| seen.everything.contains(**word));
        wrong.extend(leaked.map(|word| format!("{word:?} is in a status or an event")));
        if self.touched.is_some_and(|most| seen.touched > most) {
            wrong.push(format!(
                "{} were written, at most {:?} may be",
                seen.touched, self.touched
            ));
        }
        wrong
    }

    fn wrong_image(&self, seen: &Seen) -> Vec<String> {
        let image_of = |object: &Option<Value>| {
            let image = object.as_ref().and_then(|object| object.pointer(self.at));
            image.and_then(Value::as_str).map(ToOwned::to_owned)
        };
        let found = image_of(&seen.live);
        let wanted = match self.image {
            Image::Any => return Vec::new(),
            Image::Gone => None,
            Image::Target => Some(seen.target.clone()),
            Image::Old => Some(seen.old.clone()),
            Image::AsDeployed => image_of(&seen.deployed),
        };
        if found == wanted {
            Vec::new()
        } else {
            vec![format!("image {}, expected {}", short(found), short(wanted))]
        }
    }
}

fn short(image: Option<String>) -> String {
    image.map_or_else(
        || "none".to_owned(),
        |image| match image.split_once("@sha256:") {
            Some((name, digest)) => format!("{name}@{}", digest.get(..12).unwrap_or(digest)),
            None => image,
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn seen(image: &str, generation: i64, said: &str) -> Seen {
        let object = |image: &str| json!({"metadata": {"generation": generation}, "spec": {"template": {"spec": {"containers": [{"image": image}]}}}});
        Seen {
            live: Some(object(image)),
            deployed: Some(object("r:12")),
            said: said.to_owned(),
            everything: said.to_owned(),
            touched: 2,
            old: "r@old".to_owned(),
            target: "r@new".to_owned(),
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(moved().wrong(&seen("r@new", 2, "")), Vec::<String>::new());
        assert_eq!(
            moved().wrong(&seen("r@old", 1, "")),
            ["image r@old, expected r@new", "generation Some(1), expected Some(2)"]
        );
        assert_eq!(untouched().wrong(&seen("r:12", 1, "")), Vec::<String>::new());
        assert_eq!(
            untouched()
                .said(&["Helm"])
                .wrong(&seen("r:12", 1, "owned by Argo, Some(x)")),
            ["nothing says \"Helm\"", "something says \"Some(\""]
        );
        assert_eq!(
            rolled_back().wrong(&seen("r@old", 3, "")),
            ["held: false"],
            "a rollback without a hold would be moved again"
        );
    }

    #[test]
    fn what_is_gone_is_expected_to_be_gone() {
        let nothing = Seen {
            live: None,
            ..seen("", 1, "")
        };
        assert_eq!(gone().wrong(&nothing), Vec::<String>::new());
        assert_eq!(moved().wrong(&nothing).len(), 2);
    }
}
