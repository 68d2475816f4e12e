//! Our OCI distribution client (arrives with its own commit).

/// The client.
#[derive(Clone)]
pub struct Client;
