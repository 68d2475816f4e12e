//! What is deleted in the small cluster, and made anew under its old name: workloads, the run, the plan. And the places that
//! what was in flight leaves behind.

use super::{
    super::{gate::gate, memory::RunMemory},
    gates::base_image_of,
    objects::{image_of, new_workload},
    sim::held_by_a_person,
    world::{Kind, Order, Place, Sim, World},
};
use crate::{api::RepaveRunStatus, controllers::repave_run::gate::Gate, domain::workload::WorkloadKey};
use serde_json::{Value, json};
use std::time::Duration;

/// How a workload is made again that was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anew {
    /// From the manifest that it was first made from.
    Old,
    /// From a manifest in which its team has written the target.
    OnTarget,
    /// From itself (`kubectl replace --force`, a backup): with its image and with our annotations.
    Copy,
}

impl World {
    /// A workload is deleted, with its ReplicaSets.
    pub fn delete(&mut self, key: &WorkloadKey) {
        let Some(sim) = self.workloads.remove(key) else { return };
        if self.eyes.is_none() {
            self.vanished.extend(sim.place);
        }
        self.graves.insert(key.clone(), sim);
    }

    /// It is made under the name of one that was deleted; one that is there is deleted first.
    pub fn make_anew(&mut self, key: &WorkloadKey, anew: Anew) {
        self.delete(key);
        let Some(old) = self.graves.remove(key) else { return };
        self.made += 1;
        let mut sim = self.new_one(key, &old, anew);
        let version: u64 = old.object["metadata"]["resourceVersion"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        let meta = &mut sim.object["metadata"];
        meta["uid"] = json!(format!("uid-{}-{}", key.name, self.made));
        meta["resourceVersion"] = json!((version + 1).to_string());
        self.workloads.insert(key.clone(), sim);
    }

    fn new_one(&self, key: &WorkloadKey, old: &Sim, anew: Anew) -> Sim {
        // The run before has nothing to do with it.
        let kind = if old.kind == Kind::MovedBefore {
            Kind::Direct
        } else {
            old.kind
        };
        let canary = old.object["metadata"]["labels"]["tier"] == "canary";
        let fresh = new_workload(&key.name, kind, old.behaviour, canary);
        match anew {
            Anew::OnTarget if kind.movable() => {
                let mut sim = fresh;
                sim.object["spec"]["template"]["spec"]["containers"][0]["image"] = json!(self.target());
                sim
            }
            Anew::Old | Anew::OnTarget => fresh,
            Anew::Copy => {
                let mut object = old.object.clone();
                object["metadata"]["generation"] = json!(1);
                object["status"] = Value::Null;
                let annotations = object["metadata"]["annotations"].as_object().unwrap();
                let marked = annotations.keys().any(|key| key.starts_with("repave.dev/"));
                Sim {
                    hold: held_by_a_person(&object),
                    // A record that was copied says what the copy was set back from.
                    reverted: old.reverted && was_moved(&object),
                    touched: old.touched || marked,
                    denied: old.denied,
                    team: old.team,
                    object,
                    ..fresh
                }
            }
        }
    }

    /// The run is deleted: its status, what was remembered of it and its UID are gone; the workloads keep our annotations.
    pub fn delete_run(&mut self) {
        self.order = match self.order {
            Order::Stands | Order::RunGone => Order::RunGone,
            Order::PlanGone | Order::AllGone => Order::AllGone,
        };
    }

    /// The plan is deleted: its run goes on until it is collected.
    pub fn delete_plan(&mut self) {
        self.order = match self.order {
            Order::Stands | Order::PlanGone => Order::PlanGone,
            Order::RunGone | Order::AllGone => Order::AllGone,
        };
        self.gate = gate(&self.v, None, Some(&base_image_of(&self.v)), &[], None);
        assert!(matches!(self.gate, Gate::Ended { .. }), "{:?}", self.gate);
    }

    /// The plan is made again. The run of the old one is none of its own, and is collected.
    pub fn make_plan_again(&mut self) {
        if matches!(self.order, Order::PlanGone | Order::AllGone) {
            (self.order, self.gate) = (Order::RunGone, Gate::open());
        }
    }

    /// Suspends the plan or lets it go on, if it is there.
    pub fn suspend(&mut self, suspended: bool) {
        if matches!(self.order, Order::Stands | Order::RunGone) {
            self.gate = if suspended { Gate::Suspended } else { Gate::open() };
        }
    }

    /// Whether there is a run to look at. The plan makes one that is gone, unless it is suspended.
    pub fn has_run(&mut self) -> bool {
        if self.order == Order::RunGone && self.gate.is_open() {
            self.make_run();
        }
        match self.order {
            Order::Stands | Order::PlanGone => true,
            Order::RunGone | Order::AllGone => false,
        }
    }

    fn make_run(&mut self) {
        self.made += 1;
        self.order = Order::Stands;
        self.v.uid = Some(format!("run-{}", self.made));
        (self.status, self.memory) = (RepaveRunStatus::default(), RunMemory::default());
        self.run_began = self.reconciles;
        for all in [&mut self.passed, &mut self.moved, &mut self.begun] {
            all.fill(false);
        }
        self.soaked_in.fill(0);
        self.forget_places();
        let target = self.target();
        for sim in self.workloads.values_mut().filter(|sim| !was_moved(&sim.object)) {
            // The status had it.
            sim.note_forgotten(&target);
        }
    }

    /// A process that ends remembers no place.
    pub fn forget_places(&mut self) {
        self.vanished.clear();
        for sim in self.workloads.values_mut() {
            sim.place = None;
        }
    }

    /// After a whole look: what was in flight in it keeps its place if it is not to be seen any more.
    pub fn note_places(&mut self) {
        let place = |world: &Self, key: &WorkloadKey, sim: &Sim| {
            let back = world.is_rolling_back(&sim.object, sim);
            world
                .in_flight(key, &sim.object, sim)
                .then_some(Place { seen: world.mono, back })
        };
        let places = self.workloads.iter().map(|(key, sim)| place(self, key, sim));
        let places: Vec<Option<Place>> = places.collect();
        for (sim, place) in self.workloads.values_mut().zip(places) {
            sim.place = place;
        }
    }

    /// How many places are kept for what was deleted in flight: all, and those of rollbacks.
    pub fn kept_places(&self) -> (usize, usize) {
        let deadline = Duration::try_from(self.v.rollout_deadline).unwrap();
        let kept = self.vanished.iter();
        let kept: Vec<_> = kept
            .filter(|place| self.mono.saturating_sub(place.seen) < deadline)
            .collect();
        (kept.len(), kept.iter().filter(|place| place.back).count())
    }

    /// After a status: of which waves it must say from now on that something was moved.
    pub fn note_begun(&mut self, all_answered: bool) {
        let target = self.target();
        for (key, sim) in &self.workloads {
            let known = all_answered || sim.moved_in < self.reconciles;
            if known && sim.moved_in > self.run_began && image_of(&sim.object) == target {
                let wave = self.wave_of(key);
                self.begun[wave] = true;
            }
        }
    }
}

/// Whether our record on it says that it was moved to the target, and not back.
fn was_moved(object: &Value) -> bool {
    let text = object["metadata"]["annotations"]["repave.dev/moved"].as_str();
    let record: Option<Value> = text.map(|text| serde_json::from_str(text).unwrap());
    record.is_some_and(|record| record["sequence"] == 3 && record["rolledBack"] != true)
}
