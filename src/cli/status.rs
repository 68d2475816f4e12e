//! `kubectl repave status`: one row a base image, from the objects' own statuses.
//!
//! The counts are those of the newest run of each base; a base that was never rolled has none.

use super::{Output, render};
use kube::{Api, Client, ResourceExt, api::ListParams};
use repave_api::{BaseImage, RepaveRun, repave_run::Counts};
use serde::Serialize;

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
    let bases = Api::<BaseImage>::all(client.clone())
        .list(&ListParams::default())
        .await?
        .items;
    let runs = Api::<RepaveRun>::all(client.clone())
        .list(&ListParams::default())
        .await?
        .items;
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
    let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready");
    Row {
        namespace: base.namespace().unwrap_or_default(),
        base: base.name_any(),
        released: status.released.map(|release| release.tag),
        run: newest.map(|run| run.name_any()),
        counts: newest
            .and_then(|run| run.status.as_ref())
            .map(|status| status.counts.clone()),
        status: ready.map(|condition| condition.message.clone()).unwrap_or_default(),
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
