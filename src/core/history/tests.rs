//! What follows from promotions, revocations and lifts, in whatever order they come.

use super::*;
use crate::orders::Named;
use proptest::prelude::*;

mod begin;

fn production() -> Repository {
    "registry.test/base/debian".parse().unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// The promotion with this sequence of the content with this name.
fn promotion(sequence: u64, content: u8) -> Promotion {
    Promotion {
        sequence,
        digest: Digest::of(&[content]),
        source_digest: Digest::of(&[content, 1]),
        chain_id: Some(Digest::of(&[content, 2])),
        layers: 3,
        repository: production(),
        tag: format!("12-{content}"),
        candidate: format!("debian-12-{content}-{sequence}"),
        promoted_at: at(i64::try_from(sequence).unwrap() * 10),
    }
}

fn order(content: u8, lift: bool) -> Order {
    Order {
        release: Named::Digest(Digest::of(&[content])),
        reason: format!("{content} is bad"),
        by: Some("ann".into()),
        lift,
    }
}

fn advance(history: &History, promotions: &[Promotion], orders: &[Order]) -> Advanced {
    history.advance(promotions, orders, &production(), at(1000))
}

/// What is out: its content's name and its sequence.
fn out(history: &History) -> Option<(String, u64)> {
    let promotion = &history.released()?.promotion;
    Some((promotion.tag.clone(), promotion.sequence))
}

fn is_out(history: &History, content: u8, sequence: u64) -> bool {
    out(history) == Some((format!("12-{content}"), sequence))
}

#[test]
fn the_greatest_sequence_is_released_however_the_promotions_come() {
    let [one, two] = [promotion(1, 1), promotion(2, 2)];
    let both = advance(&History::default(), &[two.clone(), one.clone()], &[]).history;
    assert!(is_out(&both, 2, 2));
    // The first one ends late: it is known, and nothing goes back.
    let late = advance(&advance(&History::default(), &[two], &[]).history, &[one], &[]);
    assert!(is_out(&late.history, 2, 2), "{late:?}");
    assert_eq!((late.history.entries().len(), late.changes), (2, vec![]));
}

#[test]
fn the_same_digest_directly_after_itself_keeps_its_place_and_takes_the_newer_proof() {
    let first = advance(&History::default(), &[promotion(1, 1)], &[]).history;
    let again = advance(&first, &[promotion(2, 1)], &[]);
    assert!(is_out(&again.history, 1, 1));
    assert_eq!(again.history.released().unwrap().promotion.candidate, "debian-12-1-2");
    assert_eq!(again.changes, []);
    // What comes between is late now.
    assert!(is_out(&advance(&again.history, &[promotion(2, 9)], &[]).history, 1, 1));
}

#[test]
fn an_earlier_digest_is_released_again_under_the_sequence_of_its_new_candidate() {
    let all = [promotion(1, 1), promotion(2, 2), promotion(3, 1)];
    let history = advance(&History::default(), &all, &[]).history;
    assert!(is_out(&history, 1, 3));
    assert_eq!(history.entries().len(), 2);
}

#[test]
fn a_revoked_release_makes_the_last_good_one_a_release_again_with_a_new_sequence() {
    let history = advance(
        &History::default(),
        &[promotion(1, 1), promotion(2, 2), promotion(3, 3)],
        &[],
    )
    .history;
    let before = advance(&history, &[], &[order(2, false)]);
    assert!(is_out(&before.history, 3, 3), "what is not out is only marked");
    let after = advance(&before.history, &[], &[order(2, false), order(3, false)]);
    assert!(is_out(&after.history, 1, 4), "{after:?}");
    let [bad, good] = [&Digest::of(&[3]), &Digest::of(&[1])];
    assert_eq!(
        after.changes,
        [
            Change::Revoked {
                digest: bad.clone(),
                reason: "3 is bad".into()
            },
            Change::ReleasedAgain(good.clone())
        ]
    );
    let revoked = after.history.revocation(bad).unwrap();
    assert_eq!((revoked.at, revoked.by.as_deref()), (at(1000), Some("ann")));
}

#[test]
fn a_candidate_that_was_on_its_way_while_we_went_back_is_still_a_new_release() {
    let history = advance(&History::default(), &[promotion(1, 1), promotion(2, 2)], &[]).history;
    let back = advance(&history, &[], &[order(2, false)]).history;
    assert!(is_out(&back, 1, 3));
    assert!(is_out(
        &advance(&back, &[promotion(3, 3)], &[order(2, false)]).history,
        3,
        4
    ));
}

#[test]
fn a_revoked_digest_is_not_released_by_another_promotion_nor_at_another_repository() {
    let history = advance(
        &History::default(),
        &[promotion(1, 1), promotion(2, 2)],
        &[order(2, false)],
    )
    .history;
    let mut moved = promotion(5, 2);
    moved.repository = "registry.test/elsewhere".parse().unwrap();
    let again = advance(&history, &[promotion(4, 2), moved], &[]).history;
    assert!(is_out(&again, 1, 3), "{again:?}");
    assert_eq!(again.revoked().count(), 2);
}

#[test]
fn an_order_that_disappears_lifts_nothing_and_one_that_lifts_brings_back_what_is_wanted() {
    let promotions = [promotion(1, 1), promotion(2, 2)];
    let history = advance(&History::default(), &promotions, &[order(2, false)]).history;
    assert!(is_out(&advance(&history, &promotions, &[]).history, 1, 3));
    let lifted = advance(&history, &promotions, &[order(2, true)]);
    assert!(is_out(&lifted.history, 2, 4), "{lifted:?}");
    // Where something came after it, it is only no longer revoked.
    let other = advance(&history, &[promotion(5, 5)], &[order(2, true)]).history;
    assert!(is_out(&other, 5, 5) && other.revoked().count() == 0);
}

#[test]
fn what_is_released_after_one_that_came_late_and_was_taken_back_is_newer_than_it() {
    let history = advance(&History::default(), &[promotion(1, 1)], &[order(1, false)]).history;
    // A build of it has a greater number, and is taken back like it: what comes after that is late.
    let revoked = advance(&history, &[promotion(10, 1)], &[]).history;
    let late = advance(&revoked, &[promotion(3, 3)], &[]).history;
    let back = advance(&late, &[promotion(1, 2)], &[order(3, false)]).history;
    assert!(is_out(&back, 2, 4), "{back:?}");
    assert!(is_out(&advance(&back, &[], &[order(3, true)]).history, 2, 4));
}

#[test]
fn the_last_release_can_be_revoked_and_then_nothing_is_out() {
    let one = advance(&History::default(), &[promotion(1, 1)], &[order(1, false)]);
    assert_eq!(
        (out(&one.history), one.changes.last()),
        (None, Some(&Change::NothingLeft))
    );
    let again = advance(&one.history, &[promotion(1, 1)], &[order(1, false)]);
    assert_eq!(again.changes, [], "told once");
    assert!(is_out(&advance(&one.history, &[promotion(2, 2)], &[]).history, 2, 2));
}

#[test]
fn an_order_about_nothing_known_is_refused_and_said() {
    let asked = advance(&History::default(), &[promotion(1, 1)], &[order(9, false)]);
    assert_eq!(asked.refused, [Refused::NoRelease(Digest::of(&[9]).to_string())]);
    assert!(is_out(&asked.history, 1, 1));
}

#[test]
fn going_back_stays_at_the_production_repository() {
    let mut elsewhere = promotion(1, 1);
    elsewhere.repository = "registry.test/elsewhere".parse().unwrap();
    let asked = advance(&History::default(), &[elsewhere, promotion(2, 2)], &[order(2, false)]);
    assert_eq!(out(&asked.history), None);
}

#[test]
fn releases_of_an_older_version_get_their_places_by_when_they_were_promoted() {
    let mut old = [promotion(1, 1), promotion(2, 2), promotion(3, 3)];
    for one in &mut old {
        one.sequence = 0;
    }
    let shown = Shown {
        released: Some(old[1].clone()),
        ..Shown::default()
    };
    let history = History::begin(old.to_vec(), [], shown).0;
    assert!(is_out(&history, 2, 3), "{history:?}");
    // They are known, so nothing is released by looking at them again.
    assert_eq!(advance(&history, &old, &[]).history, history);
    // One that was on its way when the operator was replaced is new.
    let mut late = promotion(4, 4);
    late.sequence = 0;
    assert!(is_out(&advance(&history, &[late], &[]).history, 4, 4));
}

#[test]
fn what_is_learned_from_elsewhere_changes_nothing_that_is_known() {
    let entry = |promotion, state| Entry { promotion, state };
    let revoked = State::Revoked(order(3, false).revocation(at(5)));
    let found = [
        entry(promotion(1, 1), State::Released),
        entry(promotion(2, 2), State::Released),
        entry(promotion(3, 3), revoked),
    ];
    let mut history = History::default();
    assert_eq!(history.learn(found.clone()), 3);
    let history = advance(&history, &[], &[]).history;
    assert!(
        is_out(&history, 2, 4),
        "the newest one that is not revoked: {history:?}"
    );
    let mut again = history.clone();
    assert_eq!((again.learn(found), again), (0, history));
}

#[test]
fn what_is_out_stays_newer_than_all_that_is_found_later() {
    let out = advance(&History::default(), &[promotion(1, 9)], &[]).history;
    let mut later = out;
    later.learn((2..5).map(|sequence| Entry {
        promotion: promotion(sequence, u8::try_from(sequence).unwrap()),
        state: State::Superseded,
    }));
    assert!(is_out(&later, 9, 5), "{later:?}");
    // A candidate that was made before anything was found is not late.
    assert!(is_out(&advance(&later, &[promotion(2, 7)], &[]).history, 7, 6));
}

#[test]
fn two_marks_of_release_are_read_as_one() {
    let entry = |sequence, content| Entry {
        promotion: promotion(sequence, content),
        state: State::Released,
    };
    let history = History::from_entries(vec![entry(1, 1), entry(2, 2)], Vec::new(), Counters::default());
    assert!(is_out(&history, 2, 2));
    assert_eq!(history.counters().last, 2);
}

#[test]
fn the_oldest_superseded_ones_are_forgotten_first_and_never_a_released_or_revoked_one() {
    let content = |at: u64| Digest::of(&at.to_be_bytes());
    let promotions: Vec<Promotion> = (1..=u64::try_from(MAX_ENTRIES).unwrap() + 20)
        .map(|at| Promotion {
            digest: content(at),
            ..promotion(at, 0)
        })
        .collect();
    let (first, rest) = promotions.split_at(1);
    let revoke = Order {
        release: Named::Digest(content(1)),
        ..order(0, false)
    };
    let mut history = advance(&History::default(), &[first, &rest[..1]].concat(), &[revoke]).history;
    history = advance(&history, rest, &[]).history;
    assert_eq!(history.entries().len(), MAX_ENTRIES);
    assert!(history.revocation(&content(1)).is_some());
    let known = |at| history.entries().iter().any(|one| one.promotion.digest == content(at));
    assert!(!known(2) && !known(21) && known(22) && known(320));
}

#[derive(Debug, Clone)]
enum Step {
    Promote(u64, u8),
    Order(u8, bool),
    Forget,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1_u64..12, 0_u8..4).prop_map(|(sequence, content)| Step::Promote(sequence, content)),
        2 => (0_u8..4, any::<bool>()).prop_map(|(content, lift)| Step::Order(content, lift)),
        1 => Just(Step::Forget),
    ];
    proptest::collection::vec(step, 0..24)
}

proptest! {
    #[test]
    fn whatever_happens_the_laws_of_the_order_hold(steps in steps()) {
        let (mut history, mut promotions, mut orders) = (History::default(), Vec::new(), Vec::new());
        for step in steps {
            match step {
                Step::Promote(sequence, content) => promotions.push(promotion(sequence, content)),
                Step::Order(content, lift) => orders = vec![order(content, lift)],
                // Candidates are pruned, the annotation is taken off.
                Step::Forget => (promotions, orders) = (Vec::new(), Vec::new()),
            }
            let next = advance(&history, &promotions, &orders).history;
            prop_assert_eq!(&advance(&next, &promotions, &orders).history, &next, "a second look changes nothing");
            let released: Vec<_> = next.entries().iter().filter(|one| one.state == State::Released).collect();
            prop_assert!(released.len() <= 1);
            prop_assert!(next.counters().last >= history.counters().last);
            let good = next.entries().iter().filter(|one| one.revocation().is_none());
            let newest = good.map(|one| one.promotion.sequence).max();
            prop_assert_eq!(released.first().map(|one| one.promotion.sequence), newest, "the newest good one is out");
            let lifted = |digest: &Digest| orders.iter().any(|one: &Order| one.lift && one.names(digest, ""));
            for was in history.revoked() {
                prop_assert!(next.revocation(was.digest).is_some() || lifted(was.digest), "only a lift lifts");
            }
            for entry in history.entries() {
                prop_assert!(next.entries().iter().any(|one| one.promotion.digest == entry.promotion.digest), "nothing is forgotten");
            }
            history = next;
        }
    }
}

/// Whoever looks sees fewer candidates than the history knows: the list came from a cache that is behind (another API server, after a
/// change of leader), or somebody has deleted the candidate of what is out.
#[test]
fn a_lift_brings_out_nothing_that_is_older_than_what_is_out_whichever_candidates_are_seen() {
    let [one, two] = [promotion(1, 1), promotion(2, 2)];
    let all = [one.clone(), two];
    let history = advance(&History::default(), &all, &[order(1, false)]).history;
    assert!(is_out(&history, 2, 2));
    let seen_all = advance(&history, &all, &[order(1, true)]).history;
    assert!(is_out(&seen_all, 2, 2), "control: {:?}", out(&seen_all));
    let lifted = advance(&history, &[one], &[order(1, true)]).history;
    let later = advance(&lifted, &all, &[order(1, true)]).history;
    assert!(
        is_out(&lifted, 2, 2) && is_out(&later, 2, 2),
        "out is {:?}, and when all candidates are seen again {:?}",
        out(&lifted),
        out(&later)
    );
}
