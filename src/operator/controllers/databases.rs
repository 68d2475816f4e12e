//! Which vulnerability database is current: the operator's own tag, resolved to a digest at most once an interval.
//!
//! A HEAD, never a counted pull; shared by all candidates. What was resolved goes by digest into the check's key and pod,
//! so a report always names the very database that it was made with. Once one is known it is served at once, while a new
//! look is on its way beside: a registry that is slow or away holds nobody up, and the age of the database is judged by the
//! reports. No lock is held over a request.

use super::{error::one_line, settings::Settings};
use crate::{
    domain::{
        image_ref::ImageRef,
        tool::{Database, ToolName},
    },
    registry::{self, Auth},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// How long one look may take.
const LIMIT: Duration = Duration::from_secs(30);

/// What was resolved, per scanner. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Databases(Arc<Mutex<BTreeMap<&'static str, Known>>>);

#[derive(Debug, Clone)]
struct Known {
    image: ImageRef,
    /// When it was looked up, or the last look was begun.
    asked: Instant,
}

/// The database cannot be found.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The registry did not answer as it should.
    #[error("vulnerability database: {0}")]
    Registry(#[from] registry::Error),
    /// The registry did not answer at all.
    #[error("vulnerability database: {0} was not answered for within 30s; it is asked again")]
    Late(ImageRef),
    /// There is no such tag.
    #[error(
        "vulnerability database {0} does not exist at the registry: refresh it (the CronJob of the chart), or correct vulnerabilityDatabase in the chart's values"
    )]
    Missing(ImageRef),
}

impl Databases {
    /// The current database of a scanner, by digest; `None` for tools that have none, and where none is configured.
    pub async fn current(
        &self,
        registry: &registry::Client,
        settings: &Settings,
        tool: ToolName,
    ) -> Result<Option<ImageRef>, Error> {
        let facts = tool.facts();
        let configured = facts.database.and_then(|database| match database {
            Database::Grype => settings.grype_database.as_ref(),
            Database::Trivy => settings.trivy_database.as_ref(),
        });
        let Some(tag) = configured else {
            return Ok(None);
        };
        if tag.digest.is_some() {
            return Ok(Some(tag.clone()));
        }
        let (registry, tag) = (registry.clone(), tag.clone());
        let look = async move { look(&registry, &tag).await };
        self.served(facts.word, settings.database_interval, look)
            .await
            .map(Some)
    }

    /// What is known, if anything is; a look that is due goes on beside. Otherwise what the look says.
    async fn served(
        &self,
        name: &'static str,
        interval: Duration,
        look: impl Future<Output = Result<ImageRef, Error>> + Send + 'static,
    ) -> Result<ImageRef, Error> {
        let (known, due) = {
            let mut all = self.lock();
            let known = all.get_mut(name);
            let due = known.as_ref().is_none_or(|known| known.asked.elapsed() >= interval);
            let image = known.map(|known| {
                if due {
                    known.asked = Instant::now();
                }
                known.image.clone()
            });
            (image, due)
        };
        if let Some(image) = known {
            if due {
                let all = self.clone();
                tokio::spawn(async move { all.heard(name, look.await) });
            }
            return Ok(image);
        }
        let image = look.await?;
        self.heard(name, Ok(image.clone()));
        Ok(image)
    }

    fn heard(&self, name: &'static str, found: Result<ImageRef, Error>) {
        match found {
            Ok(image) => {
                let asked = Instant::now();
                self.lock().insert(name, Known { image, asked });
            }
            // Whoever asks next is told so.
            Err(Error::Missing(_)) => {
                self.lock().remove(name);
            }
            Err(error @ (Error::Registry(_) | Error::Late(_))) => {
                tracing::warn!(
                    scanner = name,
                    error = one_line(&error),
                    "the last known database is used on"
                );
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn look(registry: &registry::Client, tag: &ImageRef) -> Result<ImageRef, Error> {
    let auth = Auth::anonymous();
    let found = tokio::time::timeout(LIMIT, registry.head(tag, &auth)).await;
    let found = found.map_err(|_| Error::Late(tag.clone()))??;
    let found = found.ok_or_else(|| Error::Missing(tag.clone()))?;
    Ok(tag.repository.at(&found.digest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};

    const MINUTE: Duration = Duration::from_secs(60);

    fn image(name: &str) -> ImageRef {
        let digest = crate::domain::digest::Digest::of(name.as_bytes());
        format!("r.local:5000/db@{digest}").parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn once_one_is_known_a_registry_that_hangs_holds_nobody_up() {
        let databases = Databases::default();
        let first = databases.served("grype", MINUTE, ready(Ok(image("1")))).await.unwrap();
        assert_eq!(first, image("1"));
        for _ in 0..5 {
            tokio::time::advance(MINUTE).await;
            let hangs = databases.served("grype", MINUTE, pending());
            let served = tokio::time::timeout(Duration::from_millis(1), hangs)
                .await
                .unwrap()
                .unwrap();
            assert_eq!(served, image("1"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_one_is_used_when_it_was_seen_and_one_that_was_removed_is_told() {
        let databases = Databases::default();
        databases.served("grype", MINUTE, ready(Ok(image("1")))).await.unwrap();
        let unexpected = async { panic!("asked within the interval") };
        assert_eq!(databases.served("grype", MINUTE, unexpected).await.unwrap(), image("1"));
        tokio::time::advance(MINUTE).await;
        assert_eq!(
            databases.served("grype", MINUTE, ready(Ok(image("2")))).await.unwrap(),
            image("1")
        );
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(databases.served("grype", MINUTE, pending()).await.unwrap(), image("2"));
        tokio::time::advance(MINUTE).await;
        let gone = ready(Err(Error::Missing(image("2"))));
        assert_eq!(databases.served("grype", MINUTE, gone).await.unwrap(), image("2"));
        tokio::time::sleep(Duration::from_secs(1)).await;
        let told = databases
            .served("grype", MINUTE, ready(Err(Error::Missing(image("2")))))
            .await;
        assert!(told.unwrap_err().to_string().contains("refresh it"));
    }
}
