//! `kubectl repave status`: one row a base image, from the objects' own statuses.
//!
//! The counts are the sum of the newest run of each plan of a base; a base that was never rolled has none.

use super::{Output, render};
use kube::{Api, Client, ResourceExt, api::ListParams};
use repave_api::{BaseImage, RepaveRun, repave_run::Counts};
use repave_cluster::readable::{self, Guarded};
use serde::Serialize;
use std::collections::BTreeMap;

/// `kubectl repave status`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How to print it
    #[arg(long, short, default_value = "table")]
    output: Output,
}

/// One base image.
#[derive(Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
struct Row {
    namespace: String,
    base: String,
    released: Option<String>,
    run: Option<String>,
    counts: Option<Counts>,
    status: String,
}

/// Reads and prints.
pub async fn run(client: &Client, args: &Args) -> anyhow::Result<()> {
    let bases = Api::<Guarded<BaseImage>>::all(client.clone())
        .list(&ListParams::default())
        .await?;
    let runs = Api::<Guarded<RepaveRun>>::all(client.clone())
        .list(&ListParams::default())
        .await?;
    let (bases, runs) = (readable::told(bases), readable::told(runs));
    let rows: Vec<Row> = bases.iter().map(|base| row(base, &runs)).collect();
    match args.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&rows)?),
        Output::Table if rows.is_empty() => {
            println!("No BaseImage in this cluster. Start with: kubectl explain baseimage.spec");
        }
        Output::Table => println!("{}", text(&rows)),
    }
    Ok(())
}

fn row(base: &BaseImage, runs: &[RepaveRun]) -> Row {
    let status = base.status.clone().unwrap_or_default();
    let mut mine: Vec<_> = runs
        .iter()
        .filter(|run| run.namespace() == base.namespace() && run.spec.base_image == base.name_any())
        .collect();
    mine.sort_by_key(|run| run.creation_timestamp().map(|time| time.0));
    let newest = mine.last();
    // Each plan moves workloads of its own: the newest run of each one is a part of the whole.
    let of_plans: BTreeMap<&str, &&RepaveRun> = mine.iter().map(|run| (run.spec.plan.as_str(), run)).collect();
    let counted: Vec<&Counts> = of_plans
        .values()
        .filter_map(|run| run.status.as_ref())
        .map(|status| &status.counts)
        .collect();
    let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready");
    Row {
        namespace: base.namespace().unwrap_or_default(),
        base: base.name_any(),
        released: status.released.map(|release| release.tag),
        run: newest.map(|run| run.name_any()),
        counts: (!counted.is_empty()).then(|| sum(&counted)),
        status: ready.map(|condition| condition.message.clone()).unwrap_or_default(),
    }
}

fn sum(counted: &[&Counts]) -> Counts {
    let add = |part: fn(&Counts) -> u32| counted.iter().map(|counts| part(counts)).sum();
    Counts {
        total: add(|counts| counts.total),
        pending: add(|counts| counts.pending),
        rolling: add(|counts| counts.rolling),
        done: add(|counts| counts.done),
        failed: add(|counts| counts.failed),
        held: add(|counts| counts.held),
        skipped: add(|counts| counts.skipped),
    }
}

fn text(rows: &[Row]) -> String {
    let mut table = render::table(&[
        "BASE",
        "RELEASED",
        "WORKLOADS",
        "CURRENT",
        "ROLLING",
        "PENDING",
        "HELD",
        "FAILED",
        "REPORTED",
    ]);
    for row in rows {
        let counts = row.counts.clone().unwrap_or_default();
        let numbers = [
            counts.total,
            counts.done,
            counts.rolling,
            counts.pending,
            counts.held,
            counts.failed,
            counts.skipped,
        ];
        let mut cells = vec![
            format!("{}/{}", row.namespace, row.base),
            row.released.clone().unwrap_or_else(|| "-".into()),
        ];
        cells.extend(numbers.map(|number| {
            if row.counts.is_some() {
                number.to_string()
            } else {
                "-".to_owned()
            }
        }));
        table.add_row(cells);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counts_of_a_base_are_those_of_all_its_plans() {
        let base: BaseImage = serde_json::from_value(serde_json::json!({
            "apiVersion": "repave.dev/v1alpha1", "kind": "BaseImage", "metadata": {"name": "debian", "namespace": "platform"},
            "spec": {"source": {"image": "r.test/debian", "track": {"tag": "12"}}, "policyRefs": [{"name": "p"}],
                "promote": {"repository": "registry.test/base/debian", "channelTag": "12", "signing": {"keyRef": {"name": "k"}}}},
        }))
        .unwrap();
        let run = |plan: &str, made: &str, done: u32, held: u32| -> RepaveRun {
            let digest = repave_core::digest::Digest::of(made.as_bytes());
            serde_json::from_value(serde_json::json!({
                "apiVersion": "repave.dev/v1alpha1", "kind": "RepaveRun",
                "metadata": {"name": format!("{plan}-{made}"), "namespace": "platform", "creationTimestamp": format!("2026-01-{made}T00:00:00Z")},
                "spec": {"plan": plan, "baseImage": "debian", "candidate": "c", "repository": "registry.test/base/debian",
                    "digest": digest, "tag": "t", "targets": {"namespaceSelector": {"matchLabels": {"a": "b"}}}, "waves": [],
                    "health": {}, "onFailure": {}},
                "status": {"counts": {"total": done + held, "pending": 0, "rolling": 0, "done": done, "failed": 0, "held": held, "skipped": 0}},
            }))
            .unwrap()
        };
        let runs = [run("a", "01", 100, 0), run("a", "03", 10, 0), run("b", "02", 33, 2)];
        let counts = row(&base, &runs).counts.unwrap();
        assert_eq!(
            (counts.total, counts.done, counts.held),
            (45, 43, 2),
            "the newest run of each plan"
        );
    }

    #[test]
    fn a_base_that_was_never_rolled_shows_dashes_and_not_zeros() {
        let row = |run: Option<&str>, counts| Row {
            namespace: "platform".into(),
            base: "debian-12".into(),
            released: run.map(str::to_owned),
            run: run.map(str::to_owned),
            counts,
            status: String::new(),
        };
        let rolled = Counts {
            total: 8,
            done: 5,
            held: 1,
            skipped: 2,
            ..Counts::default()
        };
        insta::assert_snapshot!(text(&[
            row(None, None),
            row(Some("12-20261120-4f2a91c07b1e"), Some(rolled))
        ]));
    }
}
