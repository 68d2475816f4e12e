//! Whether a watch works. The watch tries again by itself; must not decide anything.

use super::error::one_line;
use crate::runtime::metrics::{Kind, Metrics};

/// Whether a watch works: each failure is counted, and told when it is another one than before.
pub struct Health {
    controller: Kind,
    watched: String,
    metrics: Metrics,
    failing: Option<String>,
}

impl Health {
    /// A watch of a kind, for a controller.
    pub fn new(controller: Kind, watched: &str, metrics: &Metrics) -> Self {
        Self {
            controller,
            watched: watched.to_owned(),
            metrics: metrics.clone(),
            failing: None,
        }
    }

    /// Takes in what the watch gave; a failure is told and counted here.
    pub fn event<T>(&mut self, event: Result<T, kube::runtime::watcher::Error>) -> Option<T> {
        let (controller, watched) = (self.controller.as_str(), &self.watched);
        match event {
            Ok(event) => {
                if self.failing.take().is_some() {
                    tracing::info!(controller, watched, "watch works again");
                }
                Some(event)
            }
            Err(error) => {
                self.metrics.watch_failed(self.controller);
                let text = one_line(&error);
                if self.failing.as_ref() != Some(&text) {
                    tracing::warn!(controller, watched, error = text, "watch failed; it is tried again");
                    self.failing = Some(text);
                }
                None
            }
        }
    }
}
