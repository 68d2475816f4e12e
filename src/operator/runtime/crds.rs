//! Waits until the API server serves our CustomResourceDefinitions.
//!
//! Must not create or change them: they belong to their own chart, and the right to write definitions is a heavy one.

use super::{
    clock::{SharedClock, within},
    readiness::{Gate, Readiness},
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, Client};
use std::time::Duration;

const PAUSE: Duration = Duration::from_secs(2);
const LIMIT: Duration = Duration::from_secs(10);

/// Waits for all of `names` (such as `baseimages.repave.dev`) and tells through `readiness` which are missing.
///
/// It has no end of its own: drop it to give up. Until then the pod is alive, not ready, and says why.
pub async fn crds_established(client: Client, names: &[&str], readiness: &Readiness, clock: &SharedClock) {
    let api: Api<CustomResourceDefinition> = Api::all(client);
    let mut told = String::new();
    loop {
        let asked = names.iter().map(|name| why_not(&api, name, clock));
        let answers = futures::future::join_all(asked).await;
        let missing: Vec<String> = names
            .iter()
            .zip(answers)
            .filter_map(|(name, why)| Some(format!("{name} {}", why?)))
            .collect();
        if missing.is_empty() {
            readiness.open(Gate::Crds);
            return;
        }
        let text = format!(
            "waiting for {} of {} CustomResourceDefinitions: {}; install or upgrade the chart repave-crds",
            missing.len(),
            names.len(),
            missing.join(", ")
        );
        readiness.shut(Gate::Crds, &text);
        // Once per change, not once per loop.
        if told != text {
            tracing::warn!("{text}");
            told = text;
        }
        clock.sleep_until(clock.now() + PAUSE).await;
    }
}

async fn why_not(api: &Api<CustomResourceDefinition>, name: &str, clock: &SharedClock) -> Option<String> {
    match within(clock, LIMIT, api.get_opt(name)).await {
        Ok(Ok(Some(crd))) => (!is_established(&crd)).then(|| "is not established yet".to_owned()),
        Ok(Ok(None)) => Some("is missing".to_owned()),
        Ok(Err(kube::Error::Api(status))) if status.is_forbidden() => {
            Some("may not be read (the ClusterRole must allow get)".to_owned())
        }
        Ok(Err(error)) => Some(format!("could not be read ({error})")),
        Err(elapsed) => Some(format!("could not be read ({elapsed})")),
    }
}

fn is_established(crd: &CustomResourceDefinition) -> bool {
    crd.status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten())
        .any(|condition| condition.type_ == "Established" && condition.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::virtual_clock::VirtualTime;
    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::json;
    use std::{
        collections::HashMap,
        convert::Infallible,
        sync::{Arc, Mutex},
    };

    type Answers = Arc<Mutex<HashMap<String, (u16, serde_json::Value)>>>;

    fn client(answers: Answers) -> Client {
        let service = tower::service_fn(move |request: Request<Body>| {
            let name = request.uri().path().rsplit('/').next().unwrap().to_owned();
            let known = answers.lock().unwrap().get(&name).cloned();
            async move {
                let (code, body) = known.unwrap_or((
                    404,
                    json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "message": "", "code": 404}),
                ));
                let body = Body::from(body.to_string().into_bytes());
                Ok::<_, Infallible>(Response::builder().status(code).body(body).unwrap())
            }
        });
        Client::new(service, "default")
    }

    fn crd(established: &str) -> (u16, serde_json::Value) {
        let body = json!({
            "metadata": {"name": "x"},
            "spec": {"group": "repave.dev", "names": {"kind": "X", "plural": "xs"}, "scope": "Namespaced", "versions": []},
            "status": {"conditions": [{"type": "Established", "status": established}]},
        });
        (200, body)
    }

    #[tokio::test]
    async fn readiness_names_each_missing_definition_until_all_are_served() {
        let answers = Answers::default();
        let (time, readiness) = (VirtualTime::new(), Readiness::default());
        let (client, gates, clock) = (client(answers.clone()), readiness.clone(), time.clock());
        let wait = tokio::spawn(async move {
            crds_established(
                client,
                &["a.repave.dev", "b.repave.dev", "c.repave.dev"],
                &gates,
                &clock,
            )
            .await;
        });
        let forbidden =
            json!({"kind": "Status", "status": "Failure", "reason": "Forbidden", "message": "no", "code": 403});
        answers.lock().unwrap().insert("b.repave.dev".into(), crd("False"));
        answers.lock().unwrap().insert("c.repave.dev".into(), (403, forbidden));
        time.run_for(Duration::from_secs(5), || {}).await;
        let (_, text) = readiness.missing().remove(0);
        assert_eq!(
            text,
            "waiting for 3 of 3 CustomResourceDefinitions: a.repave.dev is missing, b.repave.dev is not established yet, \
             c.repave.dev may not be read (the ClusterRole must allow get); install or upgrade the chart repave-crds"
        );
        for name in ["a.repave.dev", "b.repave.dev", "c.repave.dev"] {
            assert!(!wait.is_finished());
            answers.lock().unwrap().insert(name.into(), crd("True"));
            time.run_for(Duration::from_secs(3), || {}).await;
        }
        assert!(wait.is_finished());
        assert!(!readiness.missing().iter().any(|(gate, _)| *gate == Gate::Crds));
    }
}
