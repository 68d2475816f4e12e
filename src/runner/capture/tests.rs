//! Tools that crash, hang, flood their pipes and leave processes behind.

use super::*;
use std::ffi::OsString;

fn shell(script: &str) -> Invocation {
    Invocation {
        program: "sh".into(),
        args: vec!["-c".into(), script.into()],
        env: vec![("PATH".into(), OsString::from("/usr/bin:/bin"))],
    }
}

async fn captured(script: &str) -> Captured {
    let bounds = Bounds {
        timeout: Duration::from_secs(30),
        stdout: Keep::Whole(1000),
    };
    run(&shell(script), bounds).await.unwrap()
}

#[tokio::test]
async fn output_exit_code_and_environment_are_exactly_what_was_asked_for() {
    let done = captured("echo out; echo err >&2; env | grep -cv '^\\(PWD\\|SHLVL\\|_\\|PATH\\)='; exit 3").await;
    assert_eq!(
        (done.ended, done.stdout.as_slice()),
        (Ended::Exited(3), b"out\n0\n".as_slice())
    );
    assert_eq!(done.last_lines(5), ["err"]);
}

#[tokio::test]
async fn every_way_to_crash_is_named() {
    for (script, words) in [
        ("kill -ABRT $$", "aborted (signal 6)"),
        ("kill -KILL $$", "out of memory"),
        ("kill -SEGV $$", "segmentation fault"),
        ("exit 134", "exit code 134: aborted"),
        ("exit 137", "exit code 137: killed"),
        ("exit 139", "exit code 139: segmentation"),
        (
            "echo 'no\tsuch profile' >&2; exit 1",
            "exit code 1; it said last: no\u{fffd}such profile",
        ),
    ] {
        let error = captured(script).await.crashed("T").to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_tool_that_hangs_is_killed_at_its_deadline() {
    let bounds = Bounds {
        timeout: Duration::from_millis(50),
        stdout: Keep::Whole(1000),
    };
    let done = run(&shell("exec tail -f /dev/null"), bounds).await.unwrap();
    assert_eq!(
        (done.ended, done.ended.exit_code()),
        (Ended::TimedOut(bounds.timeout), None)
    );
}

/// Whether a process is gone, or dead and not yet collected by its parent.
fn is_dead(process: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"));
    stat.map_or(true, |stat| stat.contains(") Z ") || stat.contains(") X "))
}

#[tokio::test]
async fn a_killed_tool_takes_its_grandchildren_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let noted = dir.path().join("pid");
    // The middle shell waits for the grandchild, and the tool for the middle shell.
    let script = format!(
        "sh -c 'tail -f /dev/null & echo $! > {0}.new; mv {0}.new {0}; wait' & wait",
        noted.display()
    );
    for (overflow, ended) in [("", "killed after"), ("yes &", "wrote more than is read")] {
        let bounds = Bounds {
            timeout: Duration::from_secs(2),
            stdout: Keep::Whole(1000),
        };
        // What overflows does so only once the grandchild is there.
        let wait = format!(
            "(until [ -s {} ]; do :; done; {overflow} wait) & {script}",
            noted.display()
        );
        let done = run(&shell(&wait), bounds).await.unwrap();
        assert!(done.ended.to_string().contains(ended), "{}", done.ended);
        let grandchild = std::fs::read_to_string(&noted).unwrap();
        let looks = (0..100_000).any(|_| {
            std::thread::yield_now();
            is_dead(grandchild.trim())
        });
        assert!(looks, "process {grandchild} lives on");
        std::fs::remove_file(&noted).unwrap();
    }
}

#[tokio::test]
async fn a_tool_that_writes_without_end_is_killed_and_its_start_is_kept() {
    let done = captured("exec yes").await;
    assert_eq!((done.ended, done.stdout.len()), (Ended::WroteTooMuch, 1000));
    let just_fits = captured("head -c 1000 /dev/zero").await;
    assert_eq!((just_fits.ended, just_fits.stdout.len()), (Ended::Exited(0), 1000));
}

#[tokio::test]
async fn of_a_long_stderr_the_end_is_kept() {
    let done = captured("i=0; while [ $i -lt 40000 ]; do echo line $i; i=$((i+1)); done >&2").await;
    assert!(done.stderr.len() <= 2 * STDERR);
    assert_eq!(done.last_lines(2), ["line 39998", "line 39999"]);
}

#[tokio::test]
async fn a_process_left_behind_does_not_hold_the_run_up() {
    let done = captured("tail -f /dev/null & echo $!").await;
    assert_eq!(done.ended, Ended::Exited(0));
    let left: u32 = String::from_utf8(done.stdout).unwrap().trim().parse().unwrap();
    assert!(
        std::process::Command::new("kill")
            .arg(left.to_string())
            .status()
            .unwrap()
            .success()
    );
}

#[tokio::test]
async fn a_missing_tool_is_an_error_and_not_a_result() {
    let missing = Invocation {
        program: "/nonexistent/tool".into(),
        ..shell("")
    };
    let bounds = Bounds {
        timeout: Duration::from_secs(1),
        stdout: Keep::End,
    };
    assert_eq!(run(&missing, bounds).await.unwrap_err().kind(), io::ErrorKind::NotFound);
}
