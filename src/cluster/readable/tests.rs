//! What is read of objects that somebody made odd.

use super::*;
use k8s_openapi::api::{apps::v1::Deployment, batch::v1::Job};
use kube::core::{ObjectList, WatchEvent};
use serde_json::json;

fn odd() -> Value {
    let fields = json!([{"manager": "x", "operation": "Update", "apiVersion": "v1", "time": "9999-12-31T23:59:59Z",
        "fieldsType": "FieldsV1", "fieldsV1": {"f:metadata": {}}}]);
    json!({
        "metadata": {"name": "a", "namespace": "n", "uid": "u", "managedFields": fields},
        "spec": {"selector": {}, "template": {
            "metadata": {"creationTimestamp": "9999-12-31T23:59:59Z", "labels": {"a": "b"}, "managedFields": fields},
            "spec": {"containers": [{"name": "c", "image": "r.test/c"}]}}},
    })
}

#[test]
fn times_of_metadata_that_cannot_be_read_hide_no_object() {
    let Guarded(job) = serde_json::from_value::<Guarded<Job>>(odd()).unwrap();
    let template = job.unwrap().spec.unwrap().template;
    assert_eq!(template.metadata.unwrap().labels.unwrap()["a"], "b");
    let Guarded(deployment) = serde_json::from_value::<Guarded<Deployment>>(odd()).unwrap();
    let fields = deployment.unwrap().metadata.managed_fields.unwrap();
    assert_eq!((fields[0].manager.as_deref(), &fields[0].time), (Some("x"), &None));
    let meta = serde_json::from_value::<Meta<Job>>(odd()).unwrap();
    assert_eq!(meta.meta().name.as_deref(), Some("a"));
}

#[test]
fn an_object_with_more_values_than_any_of_ours_is_not_built() {
    let with = |volumes: usize| {
        let mut object = odd();
        object["spec"]["template"]["spec"]["volumes"] =
            (0..volumes).map(|at| json!({"name": format!("v,{at}")})).collect();
        serde_json::from_value::<Guarded<Job>>(object).unwrap()
    };
    assert!(with(MOST_VALUES - 100).0.is_ok(), "a comma in a text is none");
    let Err(refused) = with(MOST_VALUES + 1).0 else {
        panic!("it was built")
    };
    assert_eq!(refused.metadata.name.as_deref(), Some("a"));
    assert!(refused.error.contains("more than 20000"), "{}", refused.error);
    assert_eq!(commas(r#"{"a": "\",", "b": [1, 2]}"#), 2);
}

#[test]
fn what_is_deleted_at_an_odd_time_is_deleted() {
    let mut object = odd();
    object["metadata"]["deletionTimestamp"] = json!("9999-12-31T23:59:59Z");
    let meta = serde_json::from_value::<Meta<Job>>(object.clone()).unwrap();
    assert!(meta.metadata.deletion_timestamp.is_some());
    let guarded = serde_json::from_value::<Guarded<Job>>(object).unwrap();
    assert!(guarded.0.unwrap().metadata.deletion_timestamp.is_some());
}

#[test]
fn one_that_cannot_be_read_is_named_in_a_list_of_others() {
    let broken = json!({"metadata": {"name": "b", "namespace": "n", "labels": 3}, "spec": {"template": 4}});
    let all: Vec<Guarded<Job>> = serde_json::from_value(json!([odd(), broken, odd()])).unwrap();
    let names: Vec<_> = all.iter().map(|one| one.meta().name.as_deref()).collect();
    assert_eq!(names, [Some("a"), Some("b"), Some("a")]);
    assert!(all[0].0.is_ok() && all[1].0.is_err() && all[2].0.is_ok());
}

fn deep(levels: usize) -> String {
    format!("{}{{}}{}", "{\"f:x\":".repeat(levels), "}".repeat(levels))
}

/// An API server stores `fieldsV1` of a thousand levels; serde_json stops at 128.
#[test]
fn one_object_with_deep_field_ownership_ends_no_list() {
    for levels in [200, 100_000] {
        let poison = format!(
            "{{\"metadata\":{{\"name\":\"b\",\"managedFields\":[{{\"manager\":\"m\",\"fieldsV1\":{}}}]}}}}",
            deep(levels)
        );
        let text = format!("[{{\"metadata\":{{\"name\":\"a\"}}}},{poison}]");
        assert!(serde_json::from_str::<Vec<Meta<Job>>>(&text).is_ok(), "control");
        let all = serde_json::from_str::<Vec<Guarded<Job>>>(&text).unwrap();
        let fields = all[1].0.as_ref().unwrap().metadata.managed_fields.clone().unwrap();
        assert_eq!(fields[0].manager.as_deref(), Some("m"));
    }
}

/// Wherever it is: in a list as in a watch, and in what no type of ours has a field for.
#[test]
fn an_object_that_is_deep_anywhere_is_the_problem_of_that_one_object() {
    let templates = format!("{}{{}}{}", r#"{"template":{"spec":"#.repeat(1_000), "}}".repeat(1_000));
    for (place, readable) in [
        (r#"{"metadata":{"name":"b","namespace":"n"},"spec":DEEP}"#, true),
        (r#"{"metadata":{"name":"b","namespace":"n"},"extra":DEEP}"#, true),
        (r#"{"metadata":{"name":"b","namespace":"n"},"spec":TEMPLATES}"#, true),
        (
            r#"{"metadata":{"name":"b","namespace":"n"},"spec":{"template":{"spec":{"containers":DEEP}}}}"#,
            false,
        ),
        (r#"{"metadata":{"name":"b","namespace":"n","labels":DEEP}}"#, false),
        (
            r#"{"metadata":{"name":"b","namespace":"n","creationTimestamp":DEEP}}"#,
            true,
        ),
        (
            r#"{"metadata":{"name":"b","namespace":"n","managedFields":DEEP}}"#,
            true,
        ),
    ] {
        let poison = place.replace("DEEP", &deep(2_000)).replace("TEMPLATES", &templates);
        let list =
            r#"{"kind":"JobList","apiVersion":"batch/v1","metadata":{},"items":[POISON,{"metadata":{"name":"a"}}]}"#;
        let list = list.replace("POISON", &poison);
        let event = r#"{"type":"ADDED","object":POISON}"#.replace("POISON", &poison);
        let named = |meta: &ObjectMeta| (meta.name.clone(), meta.namespace.clone());
        let expected = (Some("b".to_owned()), Some("n".to_owned()));

        let all: ObjectList<Guarded<Job>> = serde_json::from_str(&list).unwrap();
        assert_eq!(
            (named(all.items[0].meta()), all.items.len()),
            (expected.clone(), 2),
            "{place}"
        );
        assert!(all.items[1].0.is_ok());
        let all: ObjectList<Meta<Job>> = serde_json::from_str(&list).unwrap();
        assert_eq!(named(all.items[0].meta()), expected, "{place}");
        let WatchEvent::Added(one) = serde_json::from_str::<WatchEvent<Guarded<Job>>>(&event).unwrap() else {
            panic!("{place}")
        };
        assert_eq!(
            (named(one.meta()), one.0.is_ok()),
            (expected.clone(), readable),
            "{place}"
        );
        let WatchEvent::Added(one) = serde_json::from_str::<WatchEvent<Parts>>(&event).unwrap() else {
            panic!("{place}")
        };
        assert_eq!(named(&one.metadata), expected, "{place}");
    }
}

/// No API server sends such an object. If one did, a hold among its annotations would be overlooked.
#[test]
fn what_has_metadata_that_cannot_be_read_is_known_by_name_and_has_nothing_to_decide_by() {
    for (odd, value) in [
        ("labels", json!({"a": 3})),
        ("annotations", json!(["x"])),
        ("ownerReferences", json!({})),
    ] {
        let mut object = json!({
            "metadata": {"name": "a", "namespace": "n", "uid": "u", "resourceVersion": "7", "annotations": {"hold": "yes"}},
            "spec": {"x": 1}, "status": {"x": 1},
        });
        let parts: Parts = serde_json::from_value(object.clone()).unwrap();
        assert!(parts.spec.is_some() && parts.status.is_some(), "control");

        object["metadata"][odd] = value;
        let parts: Parts = serde_json::from_value(object.clone()).unwrap();
        assert!(parts.spec.is_none() && parts.status.is_none(), "{odd}");
        let meta: Meta<Job> = serde_json::from_value(object).unwrap();
        for named in [parts.metadata, meta.metadata] {
            let who = [named.name, named.namespace, named.uid, named.resource_version];
            assert_eq!(who.map(Option::unwrap), ["a", "n", "u", "7"], "{odd}");
        }
    }
}
