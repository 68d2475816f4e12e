//! Two and three replicas against an in-memory API server that fails in every way we could think of.

mod cluster;

use super::{Ended, Lost};
use crate::testing::cases;
use cluster::{Cluster, Fault, Outcome};
use proptest::prelude::*;
use std::time::Duration;

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The lease of all tests: renewed every 5 s, claimed for 12 s, waited for 15 s.
const LEASE: Duration = secs(15);

#[tokio::test]
async fn one_replica_leads_and_the_other_waits_for_as_long_as_all_is_well() {
    let mut cluster = Cluster::new(&[(100, 0), (100, 0)]);
    cluster.run_for(secs(3_600)).await;
    assert_eq!(cluster.leaders().len(), 1);
    assert_eq!(cluster.lost(), 0);
    // A renewal per 5 s and the standby's look per 5 s, and nothing else.
    assert!((715..=725).contains(&cluster.writes()), "{}", cluster.writes());
}

#[tokio::test]
async fn a_killed_leader_is_followed_after_the_whole_lease_and_not_before() {
    let mut cluster = Cluster::new(&[(100, 0), (100, 0)]);
    cluster.run_for(secs(60)).await;
    let first = cluster.leaders()[0];
    cluster.kill(first);
    cluster.run_for(secs(9)).await;
    assert_eq!(cluster.leaders(), Vec::<usize>::new());
    cluster.run_for(LEASE).await;
    assert_eq!(cluster.leaders(), vec![1 - first]);
}

#[tokio::test]
async fn a_leader_that_shuts_down_gives_the_lease_to_the_next_within_one_period() {
    let mut cluster = Cluster::new(&[(100, 0), (100, 0)]);
    cluster.run_for(secs(60)).await;
    let first = cluster.leaders()[0];
    cluster.release(first);
    cluster.run_for(secs(6)).await;
    assert_eq!(cluster.leaders(), vec![1 - first]);
    assert_eq!(cluster.outcome(first), Some(&Outcome(Ok(Ended::Released))));
}

#[tokio::test]
async fn a_standby_that_shuts_down_writes_nothing() {
    let mut cluster = Cluster::new(&[(100, 0), (100, 0)]);
    cluster.run_for(secs(60)).await;
    let leader = cluster.leaders()[0];
    cluster.release(1 - leader);
    cluster.run_for(secs(1)).await;
    assert_eq!(cluster.outcome(1 - leader), Some(&Outcome(Ok(Ended::Standby))));
    assert_eq!(cluster.leaders(), vec![leader]);
}

#[tokio::test]
async fn a_partitioned_leader_stops_before_another_starts() {
    let mut cluster = Cluster::new(&[(100, 0), (100, 0)]);
    cluster.run_for(secs(60)).await;
    let first = cluster.leaders()[0];
    cluster.fault(first, 60..10_000, Fault::Unavailable);
    // Renewed last at 55: certain until 67, free at 70.
    cluster.run_for(secs(9)).await;
    assert_eq!(cluster.leaders(), Vec::<usize>::new());
    assert!(matches!(cluster.outcome(first), Some(Outcome(Err(Lost::Expired(_, error)))) if error.contains("down")));
    cluster.run_for(secs(10)).await;
    assert_eq!(cluster.leaders(), vec![1 - first]);
}

#[tokio::test]
async fn a_short_outage_for_everybody_changes_nothing() {
    let mut cluster = Cluster::new(&[(100, 0), (100, 0)]);
    cluster.run_for(secs(60)).await;
    let first = cluster.leaders()[0];
    for replica in 0..2 {
        cluster.fault(replica, 60..66, Fault::Unavailable);
    }
    cluster.run_for(secs(60)).await;
    assert_eq!(cluster.leaders(), vec![first]);
    assert_eq!(cluster.lost(), 0);
}

#[tokio::test]
async fn a_server_that_never_answers_ends_the_claim_in_time() {
    let mut cluster = Cluster::new(&[(100, 0)]);
    cluster.run_for(secs(60)).await;
    cluster.fault(0, 60..10_000, Fault::NoAnswer);
    cluster.run_for(secs(12)).await;
    assert!(
        matches!(cluster.outcome(0), Some(Outcome(Err(Lost::Expired(_, error)))) if error.contains("no answer within"))
    );
}

#[tokio::test]
async fn a_claim_counts_from_the_request_and_not_from_a_late_answer() {
    let mut cluster = Cluster::new(&[(100, 0)]);
    cluster.fault(0, 0..10_000, Fault::AnswerAfter(secs(4)));
    // Read at 0, answered at 4, written at 4, answered at 8: certain until 4 + 12.
    cluster.run_for(secs(9)).await;
    assert_eq!(cluster.leaders(), vec![0]);
    let left = cluster.remaining(0).unwrap();
    // A claim from the answer would still last 11 s.
    assert!(left.abs_diff(secs(7)) < Duration::from_millis(1), "{left:?}");
}

#[tokio::test]
async fn a_lost_answer_to_a_take_over_costs_one_more_round_and_not_one_more_lease() {
    let mut cluster = Cluster::new(&[(100, 0)]);
    cluster.fault(0, 0..1, Fault::CommitThenNoAnswer);
    cluster.run_for(secs(13)).await;
    assert_eq!(cluster.leaders(), vec![0]);
}

#[tokio::test]
async fn a_lost_answer_to_a_renewal_is_repaired_by_reading() {
    let mut cluster = Cluster::new(&[(100, 0), (100, 0)]);
    cluster.run_for(secs(60)).await;
    let first = cluster.leaders()[0];
    cluster.fault(first, 60..64, Fault::CommitThenError);
    cluster.run_for(secs(60)).await;
    assert_eq!(cluster.leaders(), vec![first]);
    assert_eq!(cluster.lost(), 0);
}

#[tokio::test]
async fn a_lease_that_somebody_else_took_is_given_up_at_the_next_renewal() {
    let mut cluster = Cluster::new(&[(100, 0)]);
    cluster.run_for(secs(60)).await;
    cluster.take_by_hand("somebody");
    cluster.run_for(secs(8)).await;
    assert_eq!(
        cluster.outcome(0),
        Some(&Outcome(Err(Lost::TakenBy("somebody".into()))))
    );
    assert_eq!(cluster.leaders(), Vec::<usize>::new());
}

#[tokio::test]
async fn clocks_that_disagree_by_hours_do_not_matter() {
    for skews in [[(100, 0), (100, 5)], [(100, 5), (100, -5)], [(100, -9), (100, 0)]] {
        let mut cluster = Cluster::new(&skews);
        cluster.run_for(secs(600)).await;
        assert_eq!(cluster.leaders().len(), 1);
        assert_eq!(cluster.lost(), 0);
    }
}

#[tokio::test]
async fn a_process_that_was_stopped_reads_not_leader_at_once_and_ends_when_it_goes_on() {
    let mut cluster = Cluster::new(&[(100, 0), (100, 0)]);
    cluster.run_for(secs(60)).await;
    let first = cluster.leaders()[0];
    cluster.stop(first);
    cluster.run_for(secs(30)).await;
    assert_eq!(cluster.leaders(), vec![1 - first]);
    cluster.go_on(first);
    cluster.run_for(secs(1)).await;
    assert_eq!(cluster.leaders(), vec![1 - first]);
    assert!(matches!(cluster.outcome(first), Some(Outcome(Err(_)))));
}

#[tokio::test]
async fn waiting_for_leadership_ends_when_the_election_does() {
    let mut cluster = Cluster::new(&[(100, 0), (100, 0)]);
    cluster.run_for(secs(60)).await;
    let standby = 1 - cluster.leaders()[0];
    let waiting = tokio::spawn({
        let leader = cluster.leader(standby);
        async move { leader.acquired().await }
    });
    cluster.release(standby);
    cluster.run_for(secs(1)).await;
    assert!(waiting.is_finished());
    assert!(!waiting.await.unwrap());
}

#[tokio::test]
async fn a_write_without_the_right_is_refused_with_the_name_of_the_leader() {
    let mut cluster = Cluster::new(&[(100, 0), (100, 0)]);
    cluster.run_for(secs(60)).await;
    let first = cluster.leaders()[0];
    assert_eq!(cluster.leader(first).require(), Ok(()));
    let refused = cluster.leader(1 - first).require().unwrap_err();
    assert_eq!(&*refused.holder, cluster.leader(first).identity());
}

fn any_fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        Just(Fault::Unavailable),
        Just(Fault::NoAnswer),
        Just(Fault::CommitThenNoAnswer),
        Just(Fault::CommitThenError),
        (1_u64..14).prop_map(|seconds| Fault::AnswerAfter(secs(seconds))),
        (1_u64..14).prop_map(|seconds| Fault::CommitAfter(secs(seconds))),
    ]
}

/// What happens to one replica: a fault from a moment on, for a while; or a stop of the whole process.
#[derive(Debug, Clone)]
enum Trouble {
    Network(usize, u64, u64, Fault),
    Stopped(usize, u64, u64),
    Killed(usize, u64),
    Released(usize, u64),
}

fn any_trouble() -> impl Strategy<Value = Trouble> {
    prop_oneof![
        4 => (0_usize..3, 0_u64..100, 1_u64..40, any_fault()).prop_map(|(r, at, len, f)| Trouble::Network(r, at, len, f)),
        1 => (0_usize..3, 0_u64..100, 1_u64..40).prop_map(|(r, at, len)| Trouble::Stopped(r, at, len)),
        1 => (0_usize..3, 0_u64..100).prop_map(|(r, at)| Trouble::Killed(r, at)),
        1 => (0_usize..3, 0_u64..100).prop_map(|(r, at)| Trouble::Released(r, at)),
    ]
}

/// Plays the troubles second by second; `run_for` fails as soon as two replicas lead.
async fn play(cluster: &mut Cluster, troubles: &[Trouble]) {
    for trouble in troubles {
        if let Trouble::Network(replica, at, length, fault) = trouble {
            cluster.fault(*replica, *at..at + length, *fault);
        }
    }
    for second in 0..140 {
        for trouble in troubles {
            match trouble {
                Trouble::Stopped(replica, at, _) if *at == second => cluster.stop(*replica),
                Trouble::Stopped(replica, at, length) if at + length == second => cluster.go_on(*replica),
                Trouble::Killed(replica, at) if *at == second => cluster.kill(*replica),
                Trouble::Released(replica, at) if *at == second => cluster.release(*replica),
                Trouble::Network(..) | Trouble::Stopped(..) | Trouble::Killed(..) | Trouble::Released(..) => {}
            }
        }
        cluster.run_for(secs(1)).await;
        cluster.restart_ended();
    }
}

proptest! {
    #![proptest_config(cases(64))]
    #[test]
    fn whatever_fails_never_two_replicas_lead_and_afterwards_one_does(
        troubles in prop::collection::vec(any_trouble(), 0..8),
        clocks in prop::collection::vec((95_u32..=105, -5_i64..=5), 3),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut cluster = Cluster::new(&clocks);
            play(&mut cluster, &troubles).await;
            cluster.run_for(secs(60)).await;
            cluster.restart_ended();
            cluster.run_for(secs(60)).await;
            assert_eq!(cluster.leaders().len(), 1);
        });
    }
}
