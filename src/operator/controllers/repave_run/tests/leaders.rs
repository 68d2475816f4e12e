//! Two processes, of which one holds the lease: each with a memory and a view of its own. The view is late for what others do,
//! knows what the process wrote itself, and what is about to be written is read live, as `look.rs` does it. The lease goes over
//! at any moment, also in the middle of a batch; who has it anew begins with a fresh list and remembers nothing.
//!
//! Must not move anything but through `World`, where the promises are asserted at every write.

use super::{
    super::{
        apply::{Applied, Halt},
        decide::{Before, decide},
        look::questions,
        memory::RunMemory,
        observe::Observed,
        plan::Action,
        reopen::reopens,
        target::Target,
        undone,
    },
    objects::parse,
    reconcile::{Came, conclude, no_answer},
    walk::Happening,
    world::World,
};
use crate::{
    controllers::inventory::Inventory,
    domain::workload::{Workload, WorkloadKey},
};
use k8s_openapi::api::core::v1::Pod;
use kube::core::Selector;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// What came of a batch: of each action, and why the rest was not sent.
type Carried = (Vec<(WorkloadKey, Applied)>, Option<Halt>);

/// Patches that are sent at the same time: fewer than the operator sends, so that small estates have more than one batch.
const AT_ONCE: usize = 8;
/// No watch is late for longer: the deadline of a roll-out is more in every plan.
const LATEST: Duration = Duration::from_secs(10);

/// One process.
struct Process {
    inventory: Inventory,
    memory: RunMemory,
}

/// What comes in the middle of a batch, after so many of its patches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mid {
    Nothing,
    /// The lease goes to the other process, which looks at once.
    LeaseGoes(usize),
    /// The process dies and begins anew.
    Dies(usize),
    /// This one is written, and its answer is lost.
    AnswerLost(usize),
    /// Somebody does something to the estate.
    Happens(usize),
    /// This one is written, and the work on the run is dropped: it took too long, or there was a panic. The process goes on.
    Dropped(usize),
}

/// The middle of a batch.
#[derive(Debug, Clone)]
pub struct Middle {
    pub what: Mid,
    pub happening: Happening,
}

impl Default for Middle {
    fn default() -> Self {
        Self {
            what: Mid::Nothing,
            happening: Happening::Wait(0),
        }
    }
}

pub struct Leaders {
    pub world: World,
    processes: [Process; 2],
    /// Who holds the lease.
    pub lease: usize,
    /// When the holder's watch has shown everything last.
    shown: Duration,
}

impl Leaders {
    pub fn new(mut world: World) -> Self {
        world.eyes = Some(live(&world));
        Self {
            processes: [Process::fresh(&world), Process::fresh(&world)],
            lease: 0,
            shown: world.mono,
            world,
        }
    }

    /// A process lists everything, and remembers nothing.
    fn begin_anew(&mut self, who: usize) {
        self.processes[who] = Process::fresh(&self.world);
        if who == self.lease {
            self.world.eyes = Some(live(&self.world));
            self.shown = self.world.mono;
        }
    }

    pub fn lease_goes(&mut self) {
        self.lease = 1 - self.lease;
        self.begin_anew(self.lease);
    }

    /// The holder's watch shows this workload as it is, or that it is gone.
    pub fn show(&mut self, key: &WorkloadKey) {
        let inventory = &self.processes[self.lease].inventory;
        let eyes = self.world.eyes.as_mut().unwrap();
        let sim = self.world.workloads.get(key);
        let known = inventory.get(key).map(|entry| entry.workload.uid.clone());
        let uid = sim.map(|sim| sim.object["metadata"]["uid"].as_str().unwrap());
        if let Some(known) = known.filter(|known| uid != Some(known)) {
            inventory.watch_deletes(key, &known);
        }
        match sim {
            Some(sim) => {
                inventory.watch_shows(parse(&sim.object));
                eyes.insert(key.clone(), sim.object.clone());
            }
            None => drop(eyes.remove(key)),
        }
    }

    /// A write of another run in the holder's process was not answered, or its work was dropped.
    pub fn doubt(&self, key: &WorkloadKey) {
        self.processes[self.lease].inventory.doubt(key);
    }

    pub fn show_all(&mut self) {
        let eyes = self.world.eyes.as_ref().unwrap();
        let keys: BTreeSet<WorkloadKey> = eyes.keys().chain(self.world.workloads.keys()).cloned().collect();
        for key in &keys {
            self.show(key);
        }
        self.shown = self.world.mono;
    }

    pub fn happen(&mut self, happening: &Happening) {
        self.world.happen(happening);
        if self.world.mono.saturating_sub(self.shown) > LATEST {
            self.show_all();
        }
    }

    /// What happens to the plan in the middle of a few patches is seen before the next few (`batches`).
    fn happen_in_between(&mut self, happening: &Happening) {
        match happening {
            Happening::To(..) | Happening::Anew(..) => self.world.happen(happening),
            Happening::Wait(_)
            | Happening::Jump(_)
            | Happening::Suspend
            | Happening::Resume
            | Happening::DeleteRun
            | Happening::DeletePlan
            | Happening::MakePlanAgain => {}
        }
    }

    /// What a process sees of the estate; what pods say is read live.
    fn observed(&mut self, who: usize) -> Observed {
        let entries = self.processes[who].inventory.workloads("shop", &Selector::default());
        let found = entries.iter().map(|entry| self.with_pods(entry.workload.as_ref()));
        let found = found.collect();
        self.observed_of(who, found)
    }

    fn with_pods(&self, workload: &Workload) -> (Workload, Vec<Pod>) {
        let sim = self.world.workloads.get(&workload.key);
        let pods = sim.map(|sim| self.world.pods(sim)).unwrap_or_default();
        (workload.clone(), pods)
    }

    fn observed_of(&mut self, who: usize, found: Vec<(Workload, Vec<Pod>)>) -> Observed {
        std::mem::swap(&mut self.world.memory, &mut self.processes[who].memory);
        let observed = self.world.observed_of(found);
        std::mem::swap(&mut self.world.memory, &mut self.processes[who].memory);
        observed
    }

    /// Reads these workloads live, as `estate::refresh` does.
    fn refresh(&mut self, who: usize, observed: &mut Observed, keys: &BTreeSet<WorkloadKey>) {
        let mut found = Vec::new();
        for key in keys {
            let inventory = &self.processes[who].inventory;
            let object = self.world.workloads.get(key).map(|sim| sim.object.clone());
            match &object {
                Some(object) => {
                    let workload = parse(object);
                    inventory.learn(workload.clone());
                    found.push(self.with_pods(&workload));
                }
                None => inventory.gone(key),
            }
            if let Some(eyes) = self.world.eyes.as_mut().filter(|_| who == self.lease) {
                match object {
                    Some(object) => drop(eyes.insert(key.clone(), object)),
                    None => drop(eyes.remove(key)),
                }
            }
        }
        let estate = &mut observed.estate;
        estate.workloads.retain(|seen| !keys.contains(&seen.workload.key));
        estate
            .live
            .extend(found.iter().map(|(workload, _)| workload.key.clone()));
        let fresh = self.observed_of(who, found);
        estate.workloads.extend(fresh.estate.workloads);
        estate.workloads.sort_by(|a, b| a.workload.key.cmp(&b.workload.key));
    }

    /// One patch of one process: the lease is asked, and the answer is learned. Only the holder's reaches the API server.
    fn send(&mut self, who: usize, action: &Action, answered: bool) -> (Applied, Option<Halt>) {
        let inventory = self.processes[who].inventory.clone();
        let key = action.workload();
        if who != self.lease {
            return (Applied::Unknown, Some(Halt::NotLeader));
        }
        inventory.doubt(key);
        match self.world.write(action) {
            Applied::Written if !answered => (Applied::Unknown, Some(no_answer())),
            Applied::Written => {
                inventory.learn(parse(&self.world.workloads[key].object));
                (Applied::Written, None)
            }
            // Somebody was faster, or admission refused it: what is there is read live.
            other => (other, None),
        }
    }

    /// Carries out a batch; `None` if the process, or the work on the run, does not get to its end.
    fn apply(&mut self, who: usize, actions: &[Action], mid: &Middle) -> Option<Carried> {
        let (mut applied, mut halt) = (Vec::new(), None);
        for few in actions.chunks(AT_ONCE) {
            if halt.is_some() {
                break;
            }
            for action in few {
                let at = applied.len();
                match mid.what {
                    Mid::LeaseGoes(after) if at == after => {
                        self.lease_goes();
                        self.reconcile(self.lease, &Middle::default());
                    }
                    Mid::Dies(after) if at == after => {
                        self.begin_anew(who);
                        return None;
                    }
                    Mid::Happens(after) if at == after => self.happen_in_between(&mid.happening),
                    Mid::Nothing
                    | Mid::LeaseGoes(_)
                    | Mid::Dies(_)
                    | Mid::AnswerLost(_)
                    | Mid::Happens(_)
                    | Mid::Dropped(_) => {}
                }
                let lost = [Mid::AnswerLost(at), Mid::Dropped(at)].contains(&mid.what);
                let (result, stop) = self.send(who, action, !lost);
                if mid.what == Mid::Dropped(at) {
                    return None;
                }
                halt = halt.or(stop);
                applied.push((action.workload().clone(), result));
            }
        }
        let rest = actions.iter().skip(applied.len());
        let unsent: Vec<_> = rest
            .map(|action| (action.workload().clone(), Applied::Unknown))
            .collect();
        applied.extend(unsent);
        Some((applied, halt))
    }

    /// What is remembered belongs to one run: of one that was made anew nothing is, and the view stays.
    fn has_run(&mut self) -> bool {
        let before = self.world.v.uid.clone();
        let there = self.world.has_run();
        if self.world.v.uid != before {
            for process in &mut self.processes {
                process.memory = RunMemory::default();
            }
        }
        there
    }

    /// One reconcile of one process, step by step as `look.rs` does it.
    pub fn reconcile(&mut self, who: usize, mid: &Middle) {
        if !self.has_run() {
            return;
        }
        self.world.reconciles += 1;
        self.world.note_stayed();
        let v = self.world.v.clone();
        let times = (self.world.now, self.world.mono);
        let old = self.world.status.clone();
        let active_runs = self.world.active_runs.clone();
        let before = Before {
            old: &old,
            active_runs: &active_runs,
        };
        let mut memory = std::mem::take(&mut self.processes[who].memory);
        let mut observed = self.observed(who);
        let asked = {
            let first = decide(&v, &observed, &mut memory, before, times);
            if old.finished.is_some() && !reopens(&observed.gate, &first.targets, &old) {
                let courses = first.targets.iter().map(Target::course);
                memory.steady.note(courses, &v.run_ref, first.believed_until);
                self.processes[who].memory = memory.of_finished();
                return;
            }
            questions(&self.processes[who].inventory, &observed, &first)
        };
        self.refresh(who, &mut observed, &asked.live);
        self.world.ask(&mut observed, &asked.replica_sets);
        let mut decided = decide(&v, &observed, &mut memory, before, times);
        let planned = decided.actions.len();
        let (live, free) = (&observed.estate.live, undone::free(&observed.estate.workloads));
        decided
            .actions
            .retain(|action| live.contains(action.workload()) && undone::may_go(action, &free));
        let Some((applied, halt)) = self.apply(who, &decided.actions, mid) else {
            return;
        };
        if who != self.lease {
            // It ends, and begins anew as a standby.
            return self.begin_anew(who);
        }
        let unanswered = applied.iter().any(|(_, applied)| *applied == Applied::Unknown);
        let lost_race = applied.iter().any(|(_, applied)| *applied == Applied::LostRace);
        let came = Came {
            observed: &observed,
            lost_race: lost_race || decided.actions.len() < planned,
            applied,
            halt,
            old: old.clone(),
            times,
        };
        let status = conclude(&v, &mut memory, &mut decided, came);
        self.world.take_status(&decided.targets, status);
        self.world.note_begun(!unanswered);
        let finished = self.world.status.finished.is_some();
        self.processes[who].memory = if finished { memory.of_finished() } else { memory };
    }
}

impl Process {
    fn fresh(world: &World) -> Self {
        let inventory = Inventory::new(&[]);
        for sim in world.workloads.values() {
            inventory.watch_shows(parse(&sim.object));
        }
        Self {
            inventory,
            memory: RunMemory::default(),
        }
    }
}

fn live(world: &World) -> BTreeMap<WorkloadKey, Value> {
    let sims = world.workloads.iter();
    sims.map(|(key, sim)| (key.clone(), sim.object.clone())).collect()
}
