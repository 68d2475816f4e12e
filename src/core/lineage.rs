//! Which release of which base image an image is, or is built on: by the chain IDs of its layers.
//!
//! The longest prefix of layers that is a known release wins; annotations and names prove nothing and are not read.
//! Only an equal digest makes an image a direct consumer: an image with the same layers and another configuration is a
//! derived one, because giving it the plain base would lose its configuration.
//! Chain IDs: <https://github.com/opencontainers/image-spec/blob/main/config.md#layer-chainid>.

use super::{digest::Digest, image_ref::Repository};
use jiff::Timestamp;
use std::collections::{HashMap, HashSet};

/// A promoted build, as its candidate records it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// The base image.
    pub base_image: String,
    /// The candidate that holds the proof.
    pub candidate: String,
    /// Where it was promoted to.
    pub repository: Repository,
    /// Its digest there.
    pub digest: Digest,
    /// Its immutable tag.
    pub tag: String,
    /// Chain ID of all its layers.
    pub chain_id: Digest,
    /// How many layers that are.
    pub layers: usize,
    /// Its place in the order of releases of its base image: the greater one is the newer.
    pub sequence: u64,
    /// When it was promoted; for people. Order is by `sequence`, which no clock and no second try can move.
    pub promoted_at: Timestamp,
    /// Whether it was taken back: whatever its sequence, it is older than everything that was not, and nothing goes to it.
    pub revoked: bool,
}

/// What an image is to the known releases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lineage {
    /// The image is this release.
    Direct(Release),
    /// The image is built on this release.
    Derived {
        /// The release with the longest common prefix of layers.
        release: Release,
        /// How many layers it adds.
        own_layers: usize,
    },
    /// No known release is a prefix of it, or its layers are not known.
    Unknown,
}

/// The chain ID of every prefix of these layers, shortest first.
pub fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let next = chain.last().map_or_else(
            || diff_id.clone(),
            |parent| Digest::of(format!("{parent} {diff_id}").as_bytes()),
        );
        chain.push(next);
    }
    chain
}

/// Every release that is known, found by digest and by chain ID.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ReleaseIndex {
    by_digest: HashMap<Digest, Release>,
    by_chain: HashMap<Digest, Release>,
    repositories: HashSet<Repository>,
}

impl ReleaseIndex {
    /// Indexes releases. Where two have the same content, the one of `base_image` wins, then a revoked one, then the
    /// greatest sequence.
    pub fn new(base_image: &str, releases: impl IntoIterator<Item = Release>) -> Self {
        let mut index = Self::default();
        for release in releases {
            keep_best(&mut index.by_digest, release.digest.clone(), &release, base_image);
            keep_best(&mut index.by_chain, release.chain_id.clone(), &release, base_image);
            index.repositories.insert(release.repository);
        }
        index
    }

    /// The release with this digest.
    pub fn by_digest(&self, digest: &Digest) -> Option<&Release> {
        self.by_digest.get(digest)
    }

    /// Whether any release comes from this repository.
    pub fn has_repository(&self, repository: &Repository) -> bool {
        self.repositories.contains(repository)
    }

    /// What the image with this digest and these layers is.
    pub fn classify(&self, image: &Digest, diff_ids: &[Digest]) -> Lineage {
        if let Some(release) = self.by_digest.get(image) {
            return Lineage::Direct(release.clone());
        }
        let chain = chain_ids(diff_ids);
        for (at, id) in chain.iter().enumerate().rev() {
            if let Some(release) = self.by_chain.get(id).filter(|r| r.layers == at + 1) {
                return Lineage::Derived {
                    release: release.clone(),
                    own_layers: chain.len() - release.layers,
                };
            }
        }
        Lineage::Unknown
    }
}

fn keep_best(map: &mut HashMap<Digest, Release>, key: Digest, new: &Release, base_image: &str) {
    // Of one digest, that which says it was taken back is believed.
    let rank = |r: &Release| (r.base_image == base_image, r.revoked, r.sequence, r.digest.clone());
    match map.get(&key) {
        Some(old) if rank(old) >= rank(new) => {}
        Some(_) | None => {
            map.insert(key, new.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn layers(seeds: &[u8]) -> Vec<Digest> {
        seeds.iter().map(|seed| Digest::of(&[*seed])).collect()
    }

    fn release(name: &str, seeds: &[u8], at: u8) -> Release {
        Release {
            base_image: name.to_owned(),
            candidate: format!("{name}-{at}"),
            repository: "registry.test/base/debian".parse().unwrap(),
            digest: Digest::of(format!("{name}{seeds:?}{at}").as_bytes()),
            tag: format!("t{at}"),
            chain_id: chain_ids(&layers(seeds)).pop().unwrap(),
            layers: seeds.len(),
            sequence: at.into(),
            // The clock ran backwards: it must not matter.
            promoted_at: Timestamp::from_second(-i64::from(at)).unwrap(),
            revoked: false,
        }
    }

    #[test]
    fn chain_ids_are_those_of_the_image_specification() {
        let [a, b] = [Digest::of(b"a"), Digest::of(b"b")];
        let chain = chain_ids(&[a.clone(), b.clone()]);
        assert_eq!(chain[0], a);
        assert_eq!(chain[1], Digest::of(format!("{a} {b}").as_bytes()));
    }

    #[test]
    fn the_same_layers_under_another_digest_are_derived_and_never_direct() {
        let base = release("debian", &[1, 2], 1);
        let index = ReleaseIndex::new("debian", [base.clone()]);
        let other = Digest::of(b"same layers, another CMD");
        assert_eq!(
            index.classify(&other, &layers(&[1, 2])),
            Lineage::Derived {
                release: base.clone(),
                own_layers: 0
            }
        );
        assert_eq!(index.classify(&base.digest, &[]), Lineage::Direct(base));
    }

    #[test]
    fn equal_content_belongs_to_the_wanted_base_image_and_then_to_the_newest() {
        let [old, new, foreign] = [release("a", &[1], 1), release("a", &[1], 2), release("b", &[1], 9)];
        let index = ReleaseIndex::new("a", [new.clone(), old, foreign]);
        let Lineage::Derived { release, .. } = index.classify(&Digest::of(b"x"), &layers(&[1])) else {
            panic!("not derived");
        };
        assert_eq!(release, new);
    }

    proptest! {
        #[test]
        fn the_longest_known_prefix_wins(
            image in proptest::collection::vec(0_u8..3, 0..8),
            bases in proptest::collection::vec(proptest::collection::vec(0_u8..3, 1..6), 0..8),
        ) {
            let releases: Vec<Release> = bases.iter().zip(1..).map(|(b, at)| release("base", b, at)).collect();
            let index = ReleaseIndex::new("base", releases.clone());
            let expected = bases.iter().filter(|b| image.starts_with(b)).map(Vec::len).max();
            match index.classify(&Digest::of(b"an image"), &layers(&image)) {
                Lineage::Derived { release, own_layers } => {
                    prop_assert_eq!(Some(release.layers), expected);
                    prop_assert_eq!(own_layers, image.len() - release.layers);
                }
                Lineage::Unknown => prop_assert_eq!(expected, None),
                Lineage::Direct(_) => prop_assert!(false, "no digest is equal"),
            }
            for known in releases {
                prop_assert_eq!(index.classify(&known.digest.clone(), &[]), Lineage::Direct(known));
            }
        }

        #[test]
        fn another_first_layer_changes_every_chain_id(rest in proptest::collection::vec(0_u8..5, 0..6)) {
            let with = |first: u8| chain_ids(&layers(&[&[first], rest.as_slice()].concat()));
            prop_assert!(with(10).iter().zip(with(11)).all(|(a, b)| *a != b));
        }
    }
}
