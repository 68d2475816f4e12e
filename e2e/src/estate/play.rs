//! Carries the table out: the old release, the estate on it, the new release, what people do meanwhile; and looks until
//! everything is as it must be, and stays so.

use super::{
    act::{Act, When},
    case::Case,
    expect::Seen,
    place::{self, Group, Names},
};
use crate::{
    command,
    light::{self, Light},
    story::Cast,
    wait::{self, Look},
};
use anyhow::{Context, Result, bail};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Event},
};
use kube::{Api, ResourceExt, api::ListParams};
use repave::{
    api::{BaseImage, RepavePlan, RepaveRun, image_candidate::Promoted},
    registry::Auth,
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    time::{Duration, Instant},
};

const RELEASE_LIMIT: Duration = Duration::from_secs(300);
const UP_LIMIT: Duration = Duration::from_secs(600);
/// Most time from the release to the end of the last case.
const LIMIT: Duration = Duration::from_secs(900);
/// So long must all stay as it is: longer than the deadline of the plan of `Broken` and `People`.
const STAYS: Duration = Duration::from_secs(75);
/// These are broken on the old release too.
const NEVER_UP: [&str; 3] = ["crashes-before", "never-ready-before", "recovered"];

/// Each release has a layer of its own, or nobody could tell what is built on which.
const CUSTOMIZE: &str = "USER 0\nRUN echo \"$VERSION\" > /etc/version-of-the-base\nUSER 65532";

/// What came of each case: what is wrong, nothing when it is as it must be.
pub type Outcome = BTreeMap<&'static str, Vec<String>>;

/// Plays all cases in this namespace and says what came of each.
pub async fn play(cast: &Cast, home: &str, cases: &[Case]) -> Result<Outcome> {
    let mut play = Play::prepare(cast, home, cases).await?;
    play.acts_before().await?;
    let pushed = play.light.push("r2", &["BREAK=1"]).await?;
    let second = play.light.released(&pushed, RELEASE_LIMIT).await?;
    play.target = second.repository.at(&second.digest).to_string();
    play.names.add("TARGET", play.target.clone());
    play.names.add("TARGET_DIGEST", second.digest.as_str());
    play.until_all_is_right().await
}

struct Play<'a> {
    cast: &'a Cast,
    light: Light<'a>,
    home: &'a str,
    cases: &'a [Case],
    names: Names,
    old: String,
    target: String,
    /// How many acts of a case are done.
    done: BTreeMap<&'static str, usize>,
    /// Since when a case's Deployment is settled on the target.
    settled: BTreeMap<&'static str, Instant>,
}

/// The cluster at one moment.
struct Moment {
    deployments: BTreeMap<String, Value>,
    runs: Vec<RepaveRun>,
    /// Statuses of plans and runs, by plan.
    plans: BTreeMap<String, Vec<Value>>,
    bases: String,
    events: Vec<(String, String)>,
}

impl<'a> Play<'a> {
    /// The old release and the estate on it, all up.
    async fn prepare(cast: &'a Cast, home: &'a str, cases: &'a [Case]) -> Result<Self> {
        let light = Light::new(cast, home);
        light.declare(&light::easy_checks(), Some(CUSTOMIZE)).await?;
        let first = light.released(&light.push("r1", &[]).await?, RELEASE_LIMIT).await?;
        place::make(home).await?;
        let old = first.repository.at(&first.digest).to_string();
        let names = names(cast, &light, &first).await?;
        let play = Self {
            cast,
            light,
            home,
            cases,
            names,
            old,
            target: String::new(),
            done: BTreeMap::new(),
            settled: BTreeMap::new(),
        };
        let mut objects = Vec::new();
        for case in cases {
            let names = play.names_in(case.group).await?;
            for object in &case.objects {
                let mut object = names.fill_object(object)?;
                object["metadata"]["namespace"] = place::namespace(home, case.group).into();
                objects.push(object);
            }
        }
        place::apply(&objects).await?;
        play.all_are_up().await?;
        place::apply(&place::plans(home, plans_have_accounts(cast).await?)).await?;
        Ok(play)
    }

    /// Names that differ from namespace to namespace, or from moment to moment.
    async fn names_in(&self, group: Group) -> Result<Names> {
        let namespace = place::namespace(self.home, group);
        let mut names = self.names.clone();
        let maps = Api::<ConfigMap>::namespaced(self.cast.world.kube.clone(), &namespace);
        let uid = wait::until("the namespace's own ConfigMap", Duration::from_secs(30), || async {
            Ok(match maps.get_opt("kube-root-ca.crt").await? {
                Some(map) => Look::Here(map.uid().unwrap_or_default()),
                None => Look::NotYet("not there".to_owned()),
            })
        });
        names.add("CONFIGMAP_UID", uid.await?);
        names.add("NAMESPACE", namespace);
        let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(20);
        names.add("IN_20_SECONDS", soon.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        Ok(names)
    }

    async fn all_are_up(&self) -> Result<()> {
        wait::until("the estate is up", UP_LIMIT, || async {
            let look = self.look().await?;
            let down: Vec<_> = look
                .deployments
                .iter()
                .filter(|(key, object)| {
                    let name = key.rsplit('/').next().unwrap_or_default();
                    !NEVER_UP.contains(&name) && !is_settled(object)
                })
                .map(|(key, _)| key.clone())
                .collect();
            Ok(if down.is_empty() && !look.deployments.is_empty() {
                Look::Here(())
            } else {
                Look::NotYet(format!("waiting for {down:?}"))
            })
        })
        .await
    }

    async fn look(&self) -> Result<Moment> {
        let kube = &self.cast.world.kube;
        let all = ListParams::default();
        let mut deployments = BTreeMap::new();
        for deployment in Api::<Deployment>::all(kube.clone()).list(&all).await?.items {
            let namespace = deployment.namespace().unwrap_or_default();
            if namespace.starts_with(self.home) {
                let key = format!("{namespace}/{}", deployment.name_any());
                deployments.insert(key, serde_json::to_value(deployment)?);
            }
        }
        let runs = Api::<RepaveRun>::namespaced(kube.clone(), self.home)
            .list(&all)
            .await?
            .items;
        let mut plans: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for plan in Api::<RepavePlan>::namespaced(kube.clone(), self.home)
            .list(&all)
            .await?
            .items
        {
            let name = plan.name_any();
            plans.entry(name).or_default().push(serde_json::to_value(plan.status)?);
        }
        for run in runs
            .iter()
            .filter(|run| self.target.ends_with(run.spec.digest.as_str()))
        {
            plans
                .entry(run.spec.plan.clone())
                .or_default()
                .push(serde_json::to_value(&run.status)?);
        }
        let bases = Api::<BaseImage>::all(kube.clone()).list(&all).await?.items;
        let bases = bases
            .iter()
            .filter(|base| base.namespace().unwrap_or_default().starts_with(self.home));
        let bases = bases
            .map(|base| serde_json::to_string(&base.status))
            .collect::<Result<String, _>>()?;
        let events = Api::<Event>::all(kube.clone()).list(&all).await?.items;
        let ours = events.into_iter().filter(|event| {
            let by = event.reporting_component.as_deref().unwrap_or_default();
            let namespace = event.namespace().unwrap_or_default();
            by.contains("repave") && namespace.starts_with(self.home)
        });
        let events = ours.map(|event| {
            let of = &event.involved_object;
            let what = format!(
                "{}/{}",
                of.namespace.clone().unwrap_or_default(),
                of.name.clone().unwrap_or_default()
            );
            let said = format!(
                "{}: {}",
                event.reason.unwrap_or_default(),
                event.message.unwrap_or_default()
            );
            (what, said)
        });
        Ok(Moment {
            deployments,
            runs,
            plans,
            bases,
            events: events.collect(),
        })
    }

    async fn acts_before(&mut self) -> Result<()> {
        for case in self.cases {
            while let Some((When::Before, act)) = case.acts.get(self.done.get(case.name).copied().unwrap_or(0)) {
                self.act(case, act).await?;
            }
        }
        Ok(())
    }

    async fn act(&mut self, case: &Case, act: &Act) -> Result<()> {
        let namespace = place::namespace(self.home, case.group);
        let names = self.names_in(case.group).await?;
        match act {
            Act::Patch(patch) => {
                let patch = names.fill(&patch.to_string());
                let of = format!("deployment/{}", case.name);
                command::kubectl(&[
                    "patch",
                    &of,
                    "--namespace",
                    &namespace,
                    "--type=merge",
                    "--patch",
                    &patch,
                ])
                .await?;
            }
            Act::Apply(object) => {
                let mut object = names.fill_object(object)?;
                object["metadata"]["namespace"] = namespace.into();
                place::apply(&[object]).await?;
            }
            Act::Kubectl(words) => {
                let words = names.fill(words);
                let mut words: Vec<&str> = words.split(' ').collect();
                words.extend(["--namespace", &namespace]);
                command::kubectl(&words).await?;
            }
            Act::StealTag => {
                let (oci, auth) = (&self.cast.world.oci, Auth::anonymous());
                let repository = self.light.production()?;
                let old = self.old.rsplit('@').next().unwrap_or_default().parse()?;
                oci.tag(&repository, &old, light::TAG, &auth).await?;
            }
        }
        *self.done.entry(case.name).or_default() += 1;
        Ok(())
    }

    /// Looks, acts and judges until all is as it must be and has stayed so; or until the time is over.
    async fn until_all_is_right(&mut self) -> Result<Outcome> {
        let start = Instant::now();
        let mut good_since: Option<Instant> = None;
        loop {
            let look = self.look().await?;
            let acted = self.act_now(&look).await?;
            let outcome = self.judge(&look)?;
            let open = self.cases.iter().any(|case| {
                let acts_left = self.done.get(case.name).copied().unwrap_or(0) < case.acts.len();
                case.limit.is_none() && (acts_left || !outcome.get(case.name).is_some_and(Vec::is_empty))
            });
            if open || acted {
                good_since = None;
            } else if good_since.get_or_insert_with(Instant::now).elapsed() > STAYS {
                return Ok(outcome);
            }
            if start.elapsed() > LIMIT {
                return Ok(outcome);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    async fn act_now(&mut self, look: &Moment) -> Result<bool> {
        let mut acted = false;
        for case in self.cases {
            self.note_settled(case, look);
            let next = case.acts.get(self.done.get(case.name).copied().unwrap_or(0));
            let Some((when, act)) = next else { continue };
            if self.is_time(case, *when, look) {
                acted = true;
                self.act(case, act)
                    .await
                    .with_context(|| format!("in case {}", case.name))?;
            }
        }
        Ok(acted)
    }

    fn note_settled(&mut self, case: &Case, look: &Moment) {
        let live = self.live(case, look);
        if live.is_some_and(|live| self.is_moved(case, live) && is_settled(live)) {
            self.settled.entry(case.name).or_insert_with(Instant::now);
        } else {
            self.settled.remove(case.name);
        }
    }

    fn live<'l>(&self, case: &Case, look: &'l Moment) -> Option<&'l Value> {
        let key = format!("{}/{}", place::namespace(self.home, case.group), case.name);
        look.deployments.get(&key)
    }

    fn is_moved(&self, case: &Case, live: &Value) -> bool {
        live.pointer(case.expect.at).and_then(Value::as_str) == Some(&self.target)
    }

    fn is_time(&self, case: &Case, when: When, look: &Moment) -> bool {
        let live = self.live(case, look);
        match when {
            When::Before => true,
            When::Moved => live.is_some_and(|live| self.is_moved(case, live)),
            When::Settled(seconds) => {
                let since = self.settled.get(case.name);
                since.is_some_and(|since| since.elapsed() >= Duration::from_secs(seconds))
            }
            When::RolledBack => {
                live.is_some_and(|live| live.pointer("/metadata/annotations/repave.dev~1hold").is_some())
            }
            When::RunEnded => look.runs.iter().any(|run| {
                let ours = Some(run.spec.plan.as_str()) == case.group.plan()
                    && self.target.ends_with(run.spec.digest.as_str());
                ours && run.status.as_ref().is_some_and(|status| status.finished.is_some())
            }),
        }
    }

    fn judge(&self, look: &Moment) -> Result<Outcome> {
        let mut outcome = Outcome::new();
        for case in self.cases {
            let mut expect = case.expect.clone();
            expect.said = expect.said.iter().map(|word| self.names.fill(word)).collect();
            for (_, value) in &mut expect.also {
                *value = self.names.fill_object(value)?;
            }
            let deployed = case.objects.first().map(|object| self.names.fill_object(object));
            let namespace = place::namespace(self.home, case.group);
            let seen = Seen {
                live: self.live(case, look).cloned(),
                deployed: deployed.transpose()?,
                said: self.said(case, look),
                everything: everything(look),
                touched: touched(look, &namespace),
                old: self.old.clone(),
                target: self.target.clone(),
            };
            outcome.insert(case.name, expect.wrong(&seen));
        }
        Ok(outcome)
    }

    /// All that the operator says of a case: its rows and annotations; of one without a Deployment, all of its plan.
    fn said(&self, case: &Case, look: &Moment) -> String {
        let namespace = place::namespace(self.home, case.group);
        let key = format!("{namespace}/{}", case.name);
        let mut said = String::new();
        let of_plan = case.group.plan().and_then(|plan| look.plans.get(plan));
        let second = look.plans.get("second").filter(|_| case.group == Group::Shared);
        for status in of_plan.into_iter().chain(second).flatten() {
            if case.is_of_a_deployment() {
                rows(status, &key, &mut said);
            } else {
                let _ = writeln!(said, "{status}");
            }
        }
        if let Some(annotations) = self
            .live(case, look)
            .and_then(|live| live.pointer("/metadata/annotations"))
        {
            let _ = writeln!(said, "{annotations}");
        }
        if !case.is_of_a_deployment() {
            said.push_str(&look.bases);
        }
        for (of, event) in &look.events {
            if *of == key || event.contains(&key) || !case.is_of_a_deployment() {
                let _ = writeln!(said, "{event}");
            }
        }
        said
    }
}

/// The rows about one workload, wherever in a status they are.
fn rows(status: &Value, key: &str, into: &mut String) {
    match status {
        Value::Object(fields) => {
            let workload = fields.get("workload").and_then(Value::as_str);
            if workload.is_some_and(|workload| workload.ends_with(&format!(" {key}"))) {
                let _ = writeln!(into, "{status}");
            } else {
                fields.values().for_each(|value| rows(value, key, into));
            }
        }
        Value::Array(items) => items.iter().for_each(|value| rows(value, key, into)),
        Value::String(text) if text.contains(key) => {
            let _ = writeln!(into, "{text}");
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn everything(look: &Moment) -> String {
    let statuses = look.plans.values().flatten().map(ToString::to_string);
    let events = look.events.iter().map(|(_, event)| event.clone());
    statuses.chain(events).collect::<Vec<_>>().join("\n")
}

fn touched(look: &Moment, namespace: &str) -> usize {
    let inside = look
        .deployments
        .iter()
        .filter(|(key, _)| key.starts_with(&format!("{namespace}/")));
    inside
        .filter(|(_, object)| object.pointer("/metadata/generation").and_then(Value::as_i64) > Some(1))
        .count()
}

fn is_settled(deployment: &Value) -> bool {
    let number = |pointer: &str| deployment.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
    let wanted = deployment
        .pointer("/spec/replicas")
        .and_then(Value::as_i64)
        .unwrap_or(1);
    number("/status/observedGeneration") >= number("/metadata/generation")
        && number("/status/updatedReplicas") == wanted
        && number("/status/availableReplicas") == wanted
        && number("/status/replicas") == wanted
}

/// Whether this operator's plans name a service account.
async fn plans_have_accounts(cast: &Cast) -> Result<bool> {
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
    let api = Api::<CustomResourceDefinition>::all(cast.world.kube.clone());
    let definition = serde_json::to_value(api.get("repaveplans.repave.dev").await?)?;
    let field = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/serviceAccountName";
    Ok(definition.pointer(field).is_some())
}

async fn names(cast: &Cast, light: &Light<'_>, first: &Promoted) -> Result<Names> {
    let (world, home) = (&cast.world, &light.namespace);
    let old = first.repository.at(&first.digest).to_string();
    let other = world.push(&format!("debian-v3={home}/other:1")).await?;
    let copy = world.repository(&format!("{home}/copy"))?;
    let copied = copy.tagged("1")?.to_string();
    command::run("crane", &["copy", "--insecure", &old, &copied], None).await?;
    let derived = format!("{}/{home}/apps/ledger:1", world.registry);
    let derive = world.root.join("e2e/images/derive").to_string_lossy().into_owned();
    command::run(&derive, &[&old, &derived, "ledger"], None).await?;
    let Some(cores) = std::thread::available_parallelism().ok().map(std::num::NonZero::get) else {
        bail!("the number of cores is not known");
    };
    let mut names = Names::default();
    names.add("HOME", home.as_str());
    names.add("REGISTRY", world.registry.as_str());
    names.add("REPOSITORY", first.repository.to_string());
    names.add("UPSTREAM", light.upstream()?.to_string());
    names.add("OLD", old);
    names.add("OLD_DIGEST", first.digest.as_str());
    names.add("OLD_TAG", first.tag.as_str());
    names.add("OTHER", format!("{}/{home}/other@{other}", world.registry));
    names.add("COPY", copy.at(&first.digest).to_string());
    names.add("COPY_REPOSITORY", copy.to_string());
    names.add("DERIVED", derived);
    names.add("MORE_THAN_HALF", format!("{}m", cores * 1000 * 11 / 20));
    names.add("PROMOTION_KEY", cast.promotion.private.as_str());
    names.add("UPSTREAM_KEY", cast.upstream.public.as_str());
    Ok(names)
}
