//! Waves: which workload belongs to which one, and how many may roll or fail.
//!
//! Membership depends on nothing but the workload's name and labels, so that a preview, a restart and a second look all
//! see the same waves. Must not look at the state of a workload.

use super::{
    digest::Digest,
    labels::Labels,
    workload::{WorkloadKey, WorkloadKind},
};
use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString};
use kube::core::{ParseExpressionError, Selector};

/// Which workloads a wave takes of those that no earlier wave took.
#[derive(Debug, Clone, PartialEq)]
pub enum WaveSelector {
    /// Those with these labels.
    Labelled(Selector),
    /// This share of all targets, by stable hash.
    Percent(u32),
    /// All that are left.
    Rest,
}

/// One wave, parsed.
#[derive(Debug, Clone, PartialEq)]
pub struct WaveRule {
    /// Its name.
    pub name: String,
    /// Which workloads it takes.
    pub takes: WaveSelector,
    /// How many of them roll at the same time.
    pub max_concurrent: Amount,
    /// How long it must stay healthy before the next one begins.
    pub soak: SignedDuration,
}

/// A number, or a share of a total.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// So many.
    Count(u32),
    /// So many of a hundred.
    Percent(u32),
}

/// Why an amount is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a number of at least 0 or a percentage from 0% to 100%, found {0}: write for example 5 or 10%")]
pub struct InvalidAmount(String);

impl TryFrom<&IntOrString> for Amount {
    type Error = InvalidAmount;

    fn try_from(value: &IntOrString) -> Result<Self, InvalidAmount> {
        let invalid = |found: &dyn std::fmt::Debug| InvalidAmount(format!("{found:?}").chars().take(50).collect());
        match value {
            IntOrString::Int(number) => u32::try_from(*number).map(Self::Count).map_err(|_| invalid(number)),
            IntOrString::String(text) => text
                .strip_suffix('%')
                .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))
                .and_then(|digits| digits.parse().ok())
                .filter(|percent| *percent <= 100)
                .map(Self::Percent)
                .ok_or_else(|| invalid(text)),
        }
    }
}

impl Amount {
    /// As a limit of what may happen at once: percentages rounded up, and never less than one.
    pub fn as_limit(self, total: usize) -> usize {
        let share = match self {
            Self::Count(number) => number as usize,
            Self::Percent(percent) => total.saturating_mul(percent as usize).div_ceil(100),
        };
        share.max(1)
    }

    /// As a budget of what may go wrong: percentages rounded down, zero allowed.
    pub fn as_budget(self, total: usize) -> usize {
        match self {
            Self::Count(number) => number as usize,
            Self::Percent(percent) => total.saturating_mul(percent as usize) / 100,
        }
    }
}

/// Parses a label selector; an unknown operator is refused.
pub fn parse_selector(selector: &LabelSelector) -> Result<Selector, ParseExpressionError> {
    selector.clone().try_into()
}

/// The wave that takes this workload, as an index; `None` when none does.
pub fn assign(waves: &[WaveRule], workload: &WorkloadKey, labels: &Labels) -> Option<usize> {
    let place = hash_percentile(workload);
    let mut from = 0_u32;
    for (at, wave) in waves.iter().enumerate() {
        let taken = match &wave.takes {
            WaveSelector::Labelled(selector) => labels.are_selected_by(selector),
            WaveSelector::Rest => true,
            WaveSelector::Percent(percent) => {
                // Shares follow each other: 30 and 30 are two different thirds and not the same one twice.
                let share = from..from.saturating_add(*percent);
                from = share.end;
                share.contains(&place)
            }
        };
        if taken {
            return Some(at);
        }
    }
    None
}

/// A number from 0 to 99 that depends on the kind and the name only. A Deployment has had it without its kind from the
/// beginning, and keeps it: nothing may change its wave in the middle of a run.
fn hash_percentile(workload: &WorkloadKey) -> u32 {
    let WorkloadKey { kind, namespace, name } = workload;
    let text = match kind {
        WorkloadKind::Deployment => format!("{namespace}/{name}"),
        WorkloadKind::StatefulSet => format!("{} {namespace}/{name}", kind.as_str()),
    };
    let hash = Digest::of(text.as_bytes());
    u32::from_str_radix(&hash.hex()[..8], 16).unwrap_or_default() % 100
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement;
    use kube::core::SelectorExt as _;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn wave(name: &str, takes: WaveSelector) -> WaveRule {
        WaveRule {
            name: name.to_owned(),
            takes,
            max_concurrent: Amount::Percent(10),
            soak: SignedDuration::ZERO,
        }
    }

    fn key(name: &str) -> WorkloadKey {
        WorkloadKey::deployment("ns", name)
    }

    #[test]
    fn two_kinds_of_one_name_are_two_and_a_deployment_keeps_the_place_that_it_has_always_had() {
        let places = |kind: WorkloadKind| -> Vec<u32> {
            let key = |n: i32| WorkloadKey {
                kind,
                ..key(&format!("app-{n}"))
            };
            (0..4).map(|n| hash_percentile(&key(n))).collect()
        };
        let plain = |n: i32| {
            let hash = Digest::of(format!("ns/app-{n}").as_bytes());
            u32::from_str_radix(&hash.hex()[..8], 16).unwrap() % 100
        };
        assert_eq!(places(WorkloadKind::Deployment), (0..4).map(plain).collect::<Vec<_>>());
        assert_ne!(places(WorkloadKind::StatefulSet), places(WorkloadKind::Deployment));
        let set = WorkloadKey {
            kind: WorkloadKind::StatefulSet,
            ..key("app")
        };
        assert_ne!(set, key("app"));
        assert_eq!(
            (set.to_string(), key("app").to_string()),
            ("StatefulSet ns/app".into(), "Deployment ns/app".into())
        );
    }

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn expression(operator: &str, values: Option<&[&str]>) -> Result<Selector, ParseExpressionError> {
        parse_selector(&LabelSelector {
            match_expressions: Some(vec![LabelSelectorRequirement {
                key: "tier".to_owned(),
                operator: operator.to_owned(),
                values: values.map(|v| v.iter().map(|v| (*v).to_owned()).collect()),
            }]),
            match_labels: Some(labels(&[("team", "a")])),
        })
    }

    #[test]
    fn every_operator_of_a_label_selector_is_read_as_kubernetes_reads_it() {
        let canary = labels(&[("team", "a"), ("tier", "canary")]);
        let plain = labels(&[("team", "a")]);
        let other_team = labels(&[("team", "b"), ("tier", "canary")]);
        for (operator, values, of_canary, of_plain) in [
            ("In", Some(&["canary", "x"][..]), true, false),
            ("NotIn", Some(&["canary"][..]), false, true),
            ("Exists", None, true, false),
            ("DoesNotExist", None, false, true),
        ] {
            let selector = expression(operator, values).unwrap();
            assert_eq!(selector.matches(&canary), of_canary, "{operator}");
            assert_eq!(selector.matches(&plain), of_plain, "{operator}");
            assert!(
                !selector.matches(&other_team),
                "{operator}: matchLabels are a condition too"
            );
        }
        assert!(expression("Near", None).is_err());
    }

    #[test]
    fn a_workload_belongs_to_the_first_wave_that_takes_it() {
        let canary = parse_selector(&LabelSelector {
            match_labels: Some(labels(&[("tier", "canary")])),
            ..LabelSelector::default()
        });
        let waves = [
            wave("canary", WaveSelector::Labelled(canary.unwrap())),
            wave("rest", WaveSelector::Rest),
        ];
        assert_eq!(
            assign(&waves, &key("b"), &labels(&[("tier", "canary")]).into()),
            Some(0)
        );
        assert_eq!(assign(&waves, &key("b"), &Labels::default()), Some(1));
        assert_eq!(assign(&waves[..1], &key("b"), &Labels::default()), None);
    }

    #[test]
    fn amounts_are_rounded_to_the_safe_side() {
        for (text, total, limit, budget) in [("10%", 8, 1, 0), ("50%", 5, 3, 2), ("0%", 100, 1, 0), ("100%", 7, 7, 7)] {
            let amount = Amount::try_from(&IntOrString::String(text.to_owned())).unwrap();
            assert_eq!(
                (amount.as_limit(total), amount.as_budget(total)),
                (limit, budget),
                "{text} of {total}"
            );
        }
        assert_eq!(Amount::try_from(&IntOrString::Int(0)).unwrap().as_limit(5), 1);
        for text in ["101%", "%", "5", "-1%", "+5%", "5 %", "1e1%"] {
            assert!(
                Amount::try_from(&IntOrString::String(text.to_owned())).is_err(),
                "{text}"
            );
        }
        assert!(Amount::try_from(&IntOrString::Int(-1)).is_err());
    }

    proptest! {
        #[test]
        fn percent_waves_are_stable_shares_that_do_not_overlap(first in 1_u32..=100, name in "[a-z]{1,12}") {
            let rest = 100 - first;
            let waves = [wave("a", WaveSelector::Percent(first)), wave("b", WaveSelector::Percent(rest))];
            let both = assign(&waves, &key(&name), &Labels::default());
            prop_assert!(both.is_some(), "the two shares are a hundred percent");
            prop_assert_eq!(assign(&waves[..1], &key(&name), &Labels::default()).is_some(), both == Some(0));
        }
    }

    #[test]
    fn a_percent_wave_takes_about_its_share() {
        let waves = [wave("half", WaveSelector::Percent(50))];
        let taken = (0..2000)
            .filter(|n| assign(&waves, &key(&format!("app-{n}")), &Labels::default()).is_some())
            .count();
        assert!((900..1100).contains(&taken), "{taken} of 2000");
    }
}
