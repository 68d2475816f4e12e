//! What a Job's pod does, or what became of it, in one line for people. Pure.
//!
//! Must not take anything for a delivery but a termination message that the runner wrote. What the kubelet quotes (names
//! of images, answers of registries) is cleaned and bounded.

use crate::{domain::report::bounded, runner::frame::Termination};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

/// What the container of a Job that is over delivered, or why it did not.
pub(super) fn ended(pod: Option<&Pod>, container: &str) -> Result<Termination, String> {
    let pod = pod.ok_or("the Job has ended and its pod is gone")?;
    let (code, message) = termination_message(pod, container).ok_or_else(|| describe(pod))?;
    let termination = Termination::decode(&message).map_err(|error| format!("{error}; {}", describe(pod)))?;
    if let Termination::Failed(failed) = &termination {
        return Err(format!(
            "{}: {} {}",
            failed.step,
            failed.message,
            failed.log.join(" | ")
        ));
    }
    // The runner ends with 0 whenever it delivers: whatever was killed, or failed after it had written, delivers nothing.
    if code != 0 {
        return Err(describe(pod));
    }
    Ok(termination)
}

/// How a container ended, and what it left.
fn termination_message(pod: &Pod, container: &str) -> Option<(i32, String)> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let status = statuses.iter().find(|status| status.name == container)?;
    let ended = status.state.as_ref()?.terminated.as_ref()?;
    let message = ended.message.clone().filter(|message| !message.is_empty())?;
    Some((ended.exit_code, message))
}

/// The pod's own end speaks first (an eviction, a lost node), then the first container that is not fine.
pub(super) fn describe(pod: &Pod) -> String {
    let status = pod.status.clone().unwrap_or_default();
    if let Some(reason) = status.reason.as_deref().filter(|reason| !reason.is_empty()) {
        let message = status.message.unwrap_or_default();
        return bounded(&format!("pod {reason}: {message}"));
    }
    let containers = status
        .init_container_statuses
        .into_iter()
        .flatten()
        .chain(status.container_statuses.into_iter().flatten());
    for container in containers {
        if let Some(said) = of_container(container) {
            return bounded(&said);
        }
    }
    bounded(&format!("pod is {}", status.phase.unwrap_or_else(|| "unknown".into())))
}

fn of_container(container: ContainerStatus) -> Option<String> {
    let name = container.name;
    let state = container.state.unwrap_or_default();
    if let Some(ended) = state.terminated.filter(|ended| ended.exit_code != 0) {
        let message = ended.message.and_then(|text| Termination::decode(&text).ok());
        let failed = match message {
            Some(Termination::Failed(failed)) => format!(": {} {}", failed.message, failed.log.join(" | ")),
            _ => String::new(),
        };
        let reason = ended.reason.unwrap_or_default();
        // The kernel ends it without a word, and what helps is in the Job and not in the image.
        let remedy = if reason == "OOMKilled" {
            ": it needs more memory than its limit"
        } else {
            ""
        };
        let code = ended.exit_code;
        return Some(format!(
            "container {name} ended with exit code {code} {reason}{remedy}{failed}"
        ));
    }
    if let Some(waiting) = state.waiting.filter(|w| w.reason.as_deref() != Some("PodInitializing")) {
        let reason = waiting.reason.unwrap_or_default();
        let message = waiting.message.unwrap_or_default();
        return Some(format!("container {name} waits: {reason} {message}"));
    }
    state.running.map(|_| format!("container {name} runs"))
}

#[cfg(test)]
mod tests {
    use super::super::read_report;
    use super::*;
    use crate::{
        domain::{
            digest::Digest,
            report::{MAX_TEXT, Outcome, Report, Tool, ToolName},
        },
        runner::frame::{self, Reported},
    };
    use serde_json::{Value, json};

    fn pod(status: &Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "status": status})).unwrap()
    }

    /// The container `check` in this state.
    fn check(state: &Value) -> Pod {
        let of = |name: &str, state: &Value| json!({"name": name, "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state});
        pod(&json!({"phase": "Failed",
            "initContainerStatuses": [of("pull", &json!({"terminated": {"exitCode": 0, "reason": "Completed"}}))],
            "containerStatuses": [of("check", state)]}))
    }

    fn says(pod: &Pod) -> String {
        ended(Some(pod), "check").unwrap_err()
    }

    #[test]
    fn a_tool_image_that_is_missing_is_named_with_the_registrys_answer() {
        let waiting = json!({"waiting": {"reason": "ErrImagePull",
            "message": "failed to pull image \"r.local/tools@sha256:aa\": not found\u{1b}[2J"}});
        let said = describe(&check(&waiting));
        assert_eq!(
            said,
            "container check waits: ErrImagePull failed to pull image \"r.local/tools@sha256:aa\": not found\u{fffd}[2J"
        );
        assert_eq!(says(&check(&waiting)), said);
    }

    #[test]
    fn what_the_kubelet_quotes_is_bounded() {
        let said = says(&check(
            &json!({"waiting": {"reason": "ErrImagePull", "message": "x".repeat(100_000)}}),
        ));
        assert_eq!(said.len(), MAX_TEXT);
    }

    #[test]
    fn out_of_memory_is_said_with_what_to_do_and_is_no_delivery() {
        let killed = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}});
        assert_eq!(
            says(&check(&killed)),
            "container check ended with exit code 137 OOMKilled: it needs more memory than its limit"
        );
    }

    #[test]
    fn a_killed_a_crashed_and_an_aborted_container_are_no_delivery() {
        for code in [134, 137, 139] {
            let said = says(&check(&json!({"terminated": {"exitCode": code, "reason": "Error"}})));
            assert_eq!(said, format!("container check ended with exit code {code} Error"));
        }
        // Exit code 0 without a message is no delivery either.
        let silent = json!({"terminated": {"exitCode": 0, "reason": "Completed"}});
        assert_eq!(says(&check(&silent)), "pod is Failed");
    }

    #[test]
    fn an_evicted_pod_says_why_even_when_its_container_looks_killed() {
        let mut evicted = check(&json!({"terminated": {"exitCode": 137, "reason": "Error"}}));
        let status = evicted.status.as_mut().unwrap();
        status.reason = Some("Evicted".into());
        status.message = Some("The node was low on resource: ephemeral-storage. ".into());
        assert_eq!(
            says(&evicted),
            "pod Evicted: The node was low on resource: ephemeral-storage. "
        );
    }

    #[test]
    fn a_lost_node_is_said_although_its_container_seems_to_run() {
        let mut lost = check(&json!({"running": {}}));
        assert_eq!(describe(&lost), "container check runs");
        let status = lost.status.as_mut().unwrap();
        status.reason = Some("NodeLost".into());
        status.message = Some("Node n1 which was running pod p is unresponsive".into());
        assert_eq!(
            says(&lost),
            "pod NodeLost: Node n1 which was running pod p is unresponsive"
        );
    }

    #[test]
    fn a_pod_that_is_gone_is_no_delivery() {
        assert_eq!(
            ended(None, "check").unwrap_err(),
            "the Job has ended and its pod is gone"
        );
        assert_eq!(says(&pod(&json!({}))), "pod is unknown");
    }

    fn reported() -> (Digest, String, Termination) {
        let image = Digest::of(b"image");
        let tool = Tool::new(ToolName::Goss, "1");
        let report = Report {
            outcome: Outcome::Completed,
            evaluated: 1,
            passed: 1,
            ..Report::error("works", &image, tool, "")
        };
        let sent = frame::encode(&report, &[]).unwrap();
        let termination = Termination::Reported(Reported::of(&report, &sent.sha256, None, None));
        (image, sent.text, termination)
    }

    #[test]
    fn a_log_that_was_rotated_away_or_torn_is_an_error_although_the_container_ended_well() {
        let (image, log, termination) = reported();
        let ended_well = check(&json!({"terminated": {"exitCode": 0, "message": termination.encode()}}));
        let announced = ended(Some(&ended_well), "check").unwrap();
        let read = |log: &[u8]| read_report("works", ToolName::Goss, &image, log, announced.clone());
        assert_eq!(read(log.as_bytes()).unwrap().report.evaluated, 1);
        let gone = read(b"").unwrap_err();
        assert!(
            gone.starts_with("expected one report in the pod's log, found none"),
            "{gone}"
        );
        let torn = read(&log.as_bytes()[..log.len() / 2]).unwrap_err();
        assert!(torn.contains("torn or malformed: it has no end line"), "{torn}");
        let rotated = read(&log.as_bytes()[log.len() / 2..]).unwrap_err();
        assert!(rotated.contains("found none"), "{rotated}");
    }

    #[test]
    fn a_report_about_another_image_or_check_is_refused_by_name() {
        let (image, log, termination) = reported();
        let other = Digest::of(b"other");
        let read = |check: &str, tool, image: &Digest| {
            read_report(check, tool, image, log.as_bytes(), termination.clone()).unwrap_err()
        };
        assert!(read("works", ToolName::Goss, &other).contains(&format!("expected image {other}, found {image}")));
        assert!(read("hard", ToolName::Goss, &image).contains("it names check \"works\""));
        assert!(read("works", ToolName::Native, &image).contains("expected tool Native, found Goss"));
    }

    #[test]
    fn a_message_that_is_not_the_runners_is_no_delivery() {
        let foreign = json!({"terminated": {"exitCode": 1, "reason": "Error", "message": "panic: \u{1b}[2J"}});
        let said = says(&check(&foreign));
        assert!(said.contains("the termination message cannot be read"), "{said}");
        assert!(said.ends_with("container check ended with exit code 1 Error"), "{said}");
    }

    #[test]
    fn a_container_that_was_killed_delivers_nothing_whatever_its_message_says() {
        let (_, _, termination) = reported();
        for (code, reason) in [(137, "OOMKilled"), (1, "Error")] {
            let killed =
                check(&json!({"terminated": {"exitCode": code, "reason": reason, "message": termination.encode()}}));
            assert!(ended(Some(&killed), "check").is_err(), "{code} {reason}");
        }
    }

    #[test]
    fn a_log_that_was_cut_at_the_limit_is_torn() {
        let (image, mut log, termination) = reported();
        log.push_str(&"x".repeat(frame::MAX_LOG));
        log.truncate(frame::MAX_LOG);
        assert!(read_report("works", ToolName::Goss, &image, log.as_bytes(), termination).is_err());
    }
}
