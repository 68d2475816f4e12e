//! What a new process, or a newer version, makes of what the one before it left.

use super::{
    super::memory::Memory,
    cluster::{Cluster, all_settle, canary_first, deployment, histories, image, moved_by, outdated, says, tier, v},
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// A status of an older version: no times, no UIDs in the record, no `moved`, no `watched`; the wave soaks for an hour.
#[tokio::test]
async fn what_an_older_version_left_in_its_soak_soaks_on_and_the_next_wave_waits() {
    let mut old = tier("canary", "canary", &image("v3"));
    moved_by(&mut old, ("platform/all", "platform/all-v3"), &v(3), &image("v1"));
    let mut record: Value =
        serde_json::from_str(old["metadata"]["annotations"]["repave.dev/moved"].as_str().unwrap()).unwrap();
    for key in ["uid", "sequence"] {
        record.as_object_mut().unwrap().remove(key);
    }
    old["metadata"]["annotations"]["repave.dev/moved"] = json!(record.to_string());
    let mut cluster = Cluster::new(vec![old, deployment("web", &image("v1"))], canary_first()).await;
    histories(&cluster);
    let at = (Timestamp::now() - SignedDuration::from_mins(8)).to_string();
    cluster.run.status =
        Some(serde_json::from_value(json!({"started": at, "waves": [{"name": "canary", "settledAt": at}]})).unwrap());
    for _ in 0..4 {
        let status = cluster.stored_turn().await;
        assert_eq!(cluster.tag("web"), "v1", "{} {:?}", says(&status), status.waves);
    }
}

/// A person sets it back and takes all annotations off in the very moment of the next look; then the process starts anew.
#[tokio::test]
async fn what_the_status_has_as_set_back_stays_so_after_a_restart() {
    let mut cluster = Cluster::new(outdated(2), json!({})).await;
    histories(&cluster);
    cluster.stored_turn().await;
    cluster.server.edit("deployments", "platform/app-00", |object| {
        object["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image("v1"));
        object["metadata"]["annotations"] = json!({});
    });
    all_settle(&cluster);
    cluster.stored_turn().await;
    cluster.memory = Memory::default();
    for _ in 0..3 {
        cluster.stored_turn().await;
        all_settle(&cluster);
    }
    assert_eq!(cluster.tag("app-00"), "v1");
}
