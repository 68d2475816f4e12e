//! The one way to read an object by its name: no name that somebody wrote becomes another request (`tests/writes.rs`).
//!
//! A name that no object can have is answered here, with nothing, and never sent.

use crate::domain::object_name::ObjectName;
use kube::Api;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// Reads by name.
pub trait Named<K> {
    /// The object of this name; nothing if there is none.
    fn named(&self, name: &str) -> impl Future<Output = Result<Option<K>, kube::Error>>;
}

impl<K: Clone + DeserializeOwned + Debug> Named<K> for Api<K> {
    async fn named(&self, name: &str) -> Result<Option<K>, kube::Error> {
        match name.parse::<ObjectName>() {
            Ok(name) => self.get_opt(name.as_str()).await,
            Err(invalid) => {
                tracing::debug!(error = %invalid, "not asked for");
                Ok(None)
            }
        }
    }
}
