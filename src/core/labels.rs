//! The labels of an object that is kept in memory, packed: a map needs 550 bytes for its first entry, and there is one for each
//! workload of an estate.

use kube::core::{Selector, SelectorExt as _};
use std::collections::BTreeMap;

/// Labels, sorted by their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels(Box<[(Box<str>, Box<str>)]>);

impl Labels {
    /// Whether a selector selects an object with these labels.
    pub fn are_selected_by(&self, selector: &Selector) -> bool {
        selector.selects_all() || selector.matches(&self.to_map())
    }

    fn to_map(&self) -> BTreeMap<String, String> {
        let pairs = self.0.iter();
        pairs
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect()
    }
}

impl From<BTreeMap<String, String>> for Labels {
    fn from(map: BTreeMap<String, String>) -> Self {
        let pairs = map.into_iter();
        Self(pairs.map(|(name, value)| (name.into(), value.into())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map() -> impl Strategy<Value = BTreeMap<String, String>> {
        proptest::collection::btree_map("[ab]", "[xy]", 0..3)
    }

    proptest! {
        #[test]
        fn packed_labels_are_selected_as_the_map_is(map in map(), wanted in map()) {
            let selector: Selector = wanted.into_iter().collect();
            prop_assert_eq!(Labels::from(map.clone()).are_selected_by(&selector), selector.matches(&map));
        }
    }
}
