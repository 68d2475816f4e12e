//! The whole controller: a policy that changes, goes or comes wakes exactly the BaseImages that name it.

use super::*;

/// The BaseImages, and the policies that they name.
const BASES: [(&str, &str, &[&str]); 4] = [
    ("platform", "light", &["strict"]),
    ("platform", "web", &["loose"]),
    ("platform", "java", &["loose", "strict"]),
    // Another policy of the same name.
    ("tenant", "light", &["strict"]),
];
/// In that order, who looks again when `strict` of `platform` changes.
const THOSE_OF_STRICT: [usize; 4] = [1, 0, 1, 0];

/// A policy with a rule that cannot be used: who names it reads it, says so and asks nothing outside.
fn unusable(namespace: &str, name: &str, check: &str) -> Value {
    let mut policy = policy(namespace);
    policy["metadata"]["name"] = json!(name);
    let expression = format!("checks.{check}.passed > 0");
    policy["spec"]["rules"] = json!([{"name": "r", "expression": expression, "message": "m"}]);
    policy
}

/// How often each of them was looked at.
fn looks(server: &Server) -> [usize; 4] {
    let seen = server.seen();
    BASES.map(|(namespace, name, _)| {
        let object = format!("{namespace}/{name}");
        let look = |one: &&Seen| one.verb == "GET" && one.resource == "baseimages" && one.object == object;
        seen.iter().filter(look).count()
    })
}

fn says(server: &Server, base: &str) -> String {
    let base: BaseImage = serde_json::from_value(server.get("baseimages", base).unwrap()).unwrap();
    let status = base.status.unwrap();
    let ready = super::super::super::conditions::find(&status.conditions, "Ready").unwrap();
    ready.message.clone()
}

#[tokio::test(start_paused = true)]
async fn a_policy_wakes_at_once_exactly_the_base_images_that_name_it() {
    let server = Server::default();
    for (namespace, name) in [("platform", "strict"), ("platform", "loose"), ("tenant", "strict")] {
        server.put(&unusable(namespace, name, "first"));
    }
    for (namespace, name, policies) in BASES {
        let mut base = base_image(namespace, 1, &format!("r.test/{namespace}/{name}"));
        base["metadata"]["name"] = json!(name);
        base["spec"]["policyRefs"] = policies.iter().map(|name| json!({"name": name})).collect();
        server.put(&base);
    }
    let stop = CancellationToken::new();
    let running = tokio::spawn(run(server.context(), stop.clone()));
    // Far less than the time after which one that waits for its policy looks by itself.
    let moment = || tokio::time::sleep(Duration::from_secs(1));
    moment().await;
    assert!(looks(&server).iter().all(|looks| *looks > 0), "control");
    assert!(says(&server, "platform/light").contains("\"first\""), "control");

    let change: [(&str, &dyn Fn()); 3] = [
        ("it changes", &|| {
            server.put(&unusable("platform", "strict", "second"));
        }),
        ("it goes", &|| server.remove("validationpolicies", "platform/strict")),
        ("it comes", &|| {
            server.put(&unusable("platform", "strict", "third"));
        }),
    ];
    for (what, change) in change {
        let before = looks(&server);
        change();
        moment().await;
        let after = looks(&server);
        let woken = [0, 1, 2, 3].map(|at| after[at] - before[at]);
        assert_eq!(woken, THOSE_OF_STRICT, "{what}");
    }
    assert!(says(&server, "platform/light").contains("\"third\""));
    stop.cancel();
    running.await.unwrap();
}
