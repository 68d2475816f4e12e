//! Which vulnerability database is current: the operator's own tag, resolved to a digest at most once an interval.
//!
//! A HEAD, never a counted pull; shared by all candidates. What was resolved goes by digest into the check's key and pod,
//! so a report always names the very database that it was made with.

use super::context::Context;
use crate::{
    domain::{image_ref::ImageRef, report::ToolName},
    registry::{self, Auth},
};
use std::{collections::HashMap, time::Instant};
use tokio::sync::Mutex;

/// What was resolved, per scanner.
#[derive(Debug, Default)]
pub struct Databases(Mutex<HashMap<ToolName, (Instant, ImageRef)>>);

/// The database cannot be found.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The registry did not answer as it should.
    #[error("vulnerability database: {0}")]
    Registry(#[from] registry::Error),
    /// There is no such tag.
    #[error(
        "vulnerability database {0} does not exist at the registry: refresh it (the CronJob of the chart), or correct vulnerabilityDatabase in the chart's values"
    )]
    Missing(ImageRef),
}

impl Databases {
    /// The current database of a scanner, by digest; `None` for tools that have none, and where none is configured.
    pub async fn current(&self, ctx: &Context, tool: ToolName) -> Result<Option<ImageRef>, Error> {
        let configured = match tool {
            ToolName::Grype => ctx.settings.grype_database.as_ref(),
            ToolName::Trivy => ctx.settings.trivy_database.as_ref(),
            ToolName::Native | ToolName::Goss | ToolName::Openscap | ToolName::Container => None,
        };
        let Some(tag) = configured else {
            return Ok(None);
        };
        if tag.digest.is_some() {
            return Ok(Some(tag.clone()));
        }
        let mut known = self.0.lock().await;
        if let Some((at, image)) = known.get(&tool)
            && at.elapsed() < ctx.settings.database_interval
        {
            return Ok(Some(image.clone()));
        }
        let found = ctx.registry.head(tag, &Auth::anonymous()).await?;
        let found = found.ok_or_else(|| Error::Missing(tag.clone()))?;
        let image = tag.repository.at(&found.digest);
        known.insert(tool, (Instant::now(), image.clone()));
        Ok(Some(image))
    }
}
