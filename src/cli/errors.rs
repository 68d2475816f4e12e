//! How a failure is told: what happened, each cause once, and what to do next. For all commands.
//!
//! Must not print what only developers can read, and nothing that a program of the kubeconfig wrote: it may be a token.

use kube::{Error, client::AuthError, config::KubeconfigError, core::Status};
use repave_api::GROUP;
use repave_cluster::ConnectError;
use repave_core::report::bounded;
use repave_oci::registry;
use std::{error::Error as Cause, iter::successors};

/// Longest part of a message that comes from elsewhere, in characters.
const MAX_MESSAGE: usize = 400;
/// Who may look at our objects, and who may change them: the chart makes both.
const VIEWER: &str = "repave-viewer";
const EDITOR: &str = "repave-editor";

/// One line for a person. `address` is that of the API server.
pub fn told(error: &anyhow::Error, address: &str) -> String {
    let mut said: Vec<String> = Vec::new();
    for cause in error.chain() {
        if let Some(sentence) = sentence(cause, address) {
            said.push(sentence);
            break;
        }
        let text = cause.to_string();
        // Many errors have their cause in their own text.
        if !said.iter().any(|known| known.contains(&text)) {
            said.push(text);
        }
    }
    said.join(": ")
}

/// Whether the one object that was asked for is not there. Without its definition the server answers the same number.
pub fn is_no_object(error: &Error) -> bool {
    matches!(error, Error::Api(status) if status.code == 404 && names_object(status))
}

fn names_object(status: &Status) -> bool {
    status.details.as_ref().is_some_and(|details| !details.name.is_empty())
}

/// Where the API server is, as far as it may be shown.
pub async fn address() -> String {
    let config = kube::Config::infer().await.ok();
    let shown = config.and_then(|config| {
        let url = config.cluster_url;
        let port = url.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
        Some(format!("{}://{}{port}", url.scheme_str()?, url.host()?))
    });
    shown.map_or_else(|| "the address of the kubeconfig".to_owned(), |text| bounded(&text))
}

/// The sentence for what has one; it says everything, its causes included.
fn sentence(cause: &(dyn Cause + 'static), address: &str) -> Option<String> {
    if let Some(error) = cause.downcast_ref::<ConnectError>() {
        return Some(match error {
            ConnectError::Config(error) => format!(
                "no kubeconfig can be used ({}): set KUBECONFIG to one that is right (kubectl config view shows it)",
                kubeconfig(error)
            ),
            ConnectError::Client(error) => format!(
                "the kubeconfig cannot be used ({}): check its certificate authority and its credentials",
                root(error)
            ),
        });
    }
    if let Some(error) = cause.downcast_ref::<Error>() {
        return Some(of_cluster(error, address));
    }
    cause.downcast_ref::<registry::Error>().and_then(of_registry)
}

/// What an error of the Kubernetes client means.
fn of_cluster(error: &Error, address: &str) -> String {
    // The client wraps what its own layers say.
    let inner = causes(error).filter_map(|cause| cause.downcast_ref::<Error>()).last();
    match inner.unwrap_or(error) {
        Error::Api(status) => of_status(status, address),
        Error::Auth(error @ (AuthError::ReadTokenFile(..) | AuthError::AuthExecStart(_))) => format!(
            "the credentials of the kubeconfig cannot be used ({}): log in again",
            root(error)
        ),
        // The others may quote a token.
        Error::Auth(_) => "the credentials of the kubeconfig cannot be used: log in again".to_owned(),
        error @ (Error::Service(_) | Error::HyperError(_)) => format!(
            "cannot reach the API server at {address} ({}): check the context (kubectl config current-context)",
            root(error)
        ),
        error @ Error::SerdeError(_) => format!(
            "an answer of the API server at {address} cannot be read ({}): is charts/repave-crds of the same version as \
             this program?",
            root(error)
        ),
        error => format!(
            "the request to the API server at {address} failed ({}): try again",
            root(error)
        ),
    }
}

/// What the API server refuses.
fn of_status(status: &Status, address: &str) -> String {
    let message = short(&status.message);
    match status.code {
        401 => format!("the API server at {address} does not know who asks (401): log in again"),
        403 => forbidden(&message),
        404 if names_object(status) => format!("{message}: look at its name and its namespace (-n)"),
        404 => "the CustomResourceDefinitions are not installed: install charts/repave-crds".to_owned(),
        code => format!("the API server at {address} answered {code} ({message}): try again, or look at its log"),
    }
}

/// What may not be done, and which role lets one do it.
fn forbidden(message: &str) -> String {
    let what = message.rsplit_once(" is forbidden: ").map_or(message, |(_, what)| what);
    let reads = ["cannot get ", "cannot list ", "cannot watch "];
    let next = if what.contains("system:anonymous") {
        "log in again".to_owned()
    } else if !what.contains(&format!("\"{GROUP}\"")) {
        "ask whoever runs the cluster for this right".to_owned()
    } else if reads.iter().any(|verb| what.contains(verb)) {
        format!("ask for the ClusterRole {VIEWER}")
    } else {
        format!("ask for the ClusterRole {EDITOR}")
    };
    format!("this is not allowed: {what}: {next}")
}

/// Why no kubeconfig can be used. In a pod the service account counts; a person has a file.
fn kubeconfig(error: &(dyn Cause + 'static)) -> String {
    let cause = causes(error).find_map(|cause| cause.downcast_ref::<KubeconfigError>());
    match cause {
        Some(KubeconfigError::ReadConfig(why, path)) => short(&format!("{}: {why}", path.display())),
        // Its own words quote the file, which may hold a key.
        Some(KubeconfigError::Parse(_)) => "the file is not YAML that can be read".to_owned(),
        Some(other) => short(&other.to_string()),
        None => short(&error.to_string()),
    }
}

/// What differs from what the operator says: it speaks to whoever configures it.
fn of_registry(error: &registry::Error) -> Option<String> {
    if let registry::Error::HostNotAllowed { host, why } = error {
        return Some(format!(
            "registry {host} is not used: {why}; allow it with --insecure-host {host}"
        ));
    }
    if let registry::Error::Unauthorized {
        host,
        verb,
        target,
        code,
        with,
    } = error
    {
        return Some(format!(
            "registry {host} answered {code} to {verb} of {target} ({with}): docker login {host}, or name a file with --auth \
             (credential helpers are not run)"
        ));
    }
    None
}

fn causes<'a>(error: &'a (dyn Cause + 'static)) -> impl Iterator<Item = &'a (dyn Cause + 'static)> {
    successors(Some(error), |cause| {
        let cause: &'a (dyn Cause + 'static) = *cause;
        cause.source()
    })
}

/// The cause of all, in its own words.
fn root(error: &(dyn Cause + 'static)) -> String {
    causes(error)
        .last()
        .map(|cause| short(&cause.to_string()))
        .unwrap_or_default()
}

fn short(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    bounded(&words).chars().take(MAX_MESSAGE).collect()
}

#[cfg(test)]
mod tests;
