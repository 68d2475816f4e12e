//! Keeps a look within `targets.maxTargets`. Whoever may make workloads in one namespace of a shared plan can make more than that,
//! and must not keep the others' from being judged: beyond the limit nothing is begun, and what runs of the plan have moved is
//! still looked at. Pure.

use super::{
    found::Found,
    seen::{Ask, Over},
};
use crate::{
    controllers::access::Barred,
    domain::workload::{Rollout, Workload},
};
use std::collections::{BTreeMap, HashSet};

/// The workloads of a plan while they are collected.
pub(super) struct Limited<'a> {
    ask: Ask<'a>,
    plan: String,
    selected: usize,
    /// Those among the kept ones that only the run selects, and not its plan any more: they count for nothing.
    past: usize,
    kept: Vec<Found>,
}

impl<'a> Limited<'a> {
    pub fn new(ask: Ask<'a>) -> Self {
        Self {
            ask,
            plan: format!("{}/{}", ask.namespace, ask.plan),
            selected: 0,
            past: 0,
            kept: Vec::new(),
        }
    }

    pub fn is_over(&self) -> bool {
        self.selected > self.ask.max_targets
    }

    /// Takes in those of one namespace.
    pub fn extend(&mut self, found: impl Iterator<Item = Found>) {
        let was_over = self.is_over();
        let (plan, ask) = (&self.plan, self.ask);
        let mut past = self.past;
        let found: Vec<Found> = found
            .filter(|found| {
                let is_past = found.barred == Some(Barred::NotInPlan);
                past += usize::from(is_past);
                !is_past || past <= ask.max_targets || is_marked(&found.workload, plan, ask)
            })
            .collect();
        self.past = past;
        let selected = found.iter().filter(|found| found.barred != Some(Barred::NotInPlan));
        self.selected = self.selected.saturating_add(selected.count());
        if !self.is_over() {
            self.kept.extend(found);
            return;
        }
        if !was_over {
            self.kept.retain(|found| is_marked(&found.workload, plan, ask));
        }
        let marked = found.into_iter().filter(|found| is_marked(&found.workload, plan, ask));
        self.kept.extend(marked);
    }

    /// What is looked at, and whether that is not all.
    pub fn end(mut self) -> (Vec<Found>, Option<Over>) {
        if !self.is_over() {
            return (self.kept, None);
        }
        let (selected, max) = (self.selected, self.ask.max_targets);
        if self.kept.len() > max {
            self.cut(max);
        }
        (self.kept, Some(Over { selected, max }))
    }

    /// Anyone who may edit a workload can put our marks there: the same share for each namespace, so that many in one take no place
    /// of another, and what is on its way before what has come to its end.
    fn cut(&mut self, max: usize) {
        let mut namespaces: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (at, found) in self.kept.iter().enumerate() {
            namespaces.entry(&found.workload.key.namespace).or_default().push(at);
        }
        let mut namespaces: Vec<Vec<usize>> = namespaces.into_values().collect();
        namespaces.sort_by_key(Vec::len);
        let (mut left, mut chosen) = (max, HashSet::new());
        let number = namespaces.len();
        for (nth, mut members) in namespaces.into_iter().enumerate() {
            let share = left.checked_div(number.saturating_sub(nth)).unwrap_or(0);
            members.sort_by_key(|at| !self.is_on_its_way(&self.kept[*at].workload));
            members.truncate(share);
            left = left.saturating_sub(members.len());
            chosen.extend(members);
        }
        let mut at = 0;
        self.kept.retain(|_| {
            at += 1;
            chosen.contains(&(at - 1))
        });
    }

    fn is_on_its_way(&self, workload: &Workload) -> bool {
        let supervised = self.ask.query.supervised;
        workload.rollout != Rollout::Settled || supervised.is_some_and(|supervised| supervised.needs(workload))
    }
}

/// Whether it says that this run, or a run of this plan, wrote it last.
fn is_marked(workload: &Workload, plan: &str, ask: Ask<'_>) -> bool {
    let supervised = ask.query.supervised;
    supervised.is_some_and(|supervised| workload.is_of_run(supervised.run_ref))
        || workload.record().is_some_and(|record| record.plan == plan)
}
