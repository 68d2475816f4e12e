//! "One release over an estate full of special cases: each is moved, left, rolled back, held or counted as it must be."
//!
//! Needs a cluster and images: `make e2e`. The table is in `e2e/src/estate`. A case that cannot be had yet names its limit;
//! `REPAVE_E2E_CASES=moved,quota` plays those cases alone.

use anyhow::{Result, ensure};
use repave_e2e::{
    estate::{self, case::Case, place, play},
    missing, story,
};
use std::fmt::Write as _;

#[tokio::test]
async fn one_release_over_an_estate_full_of_special_cases_comes_out_right_for_each() -> Result<()> {
    let cast = story::cast().await?;
    story::operator_is_installed(&cast).await?;
    let cases = chosen();
    ensure!(!cases.is_empty(), "REPAVE_E2E_CASES names no case");
    missing::in_own_namespace(&cast.world.kube, "estate", async |home| {
        let outcome = play::play(&cast, &home, &cases).await;
        place::remove(&home).await?;
        let outcome = outcome?;
        let page = page(&cases, &outcome);
        println!("{page}");
        tokio::fs::write(cast.world.root.join("target/e2e/estate.md"), &page).await?;
        let wrong: Vec<_> = cases
            .iter()
            .filter(|case| case.limit.is_none() && !outcome.get(case.name).is_some_and(Vec::is_empty))
            .map(|case| case.name)
            .collect();
        ensure!(
            wrong.is_empty(),
            "{} of {} cases are wrong: {wrong:?}",
            wrong.len(),
            cases.len()
        );
        Ok(())
    })
    .await
}

fn chosen() -> Vec<Case> {
    let wanted = std::env::var("REPAVE_E2E_CASES").unwrap_or_default();
    let wanted: Vec<&str> = wanted.split(',').filter(|name| !name.is_empty()).collect();
    let all = estate::cases().into_iter();
    all.filter(|case| wanted.is_empty() || wanted.contains(&case.name))
        .collect()
}

/// A row a case.
fn page(cases: &[Case], outcome: &play::Outcome) -> String {
    let mut page = "| case | outcome |\n|---|---|\n".to_owned();
    for case in cases {
        let wrong = outcome.get(case.name).map(|wrong| wrong.join("; ")).unwrap_or_default();
        let told = match (case.limit, wrong.is_empty()) {
            (None, true) => "as it must be".to_owned(),
            (None, false) => format!("WRONG: {wrong}"),
            (Some(why), true) => format!("as it must be: this limit can go ({why})"),
            (Some(why), false) => format!("known limit: {why} ({wrong})"),
        };
        let _ = writeln!(page, "| {} | {told} |", case.name);
    }
    page
}
