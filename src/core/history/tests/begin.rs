//! What a history begins with where none is stored.

use super::*;

fn shown(content: u8, sequence: u64) -> Promotion {
    Promotion {
        chain_id: None,
        layers: 0,
        ..promotion(sequence, content)
    }
}

fn unlisted(content: u8) -> UnlistedRevocation {
    UnlistedRevocation {
        digest: Digest::of(&[content]),
        repository: Some(production()),
        tag: format!("12-{content}"),
        revocation: order(content, false).revocation(at(5)),
    }
}

fn found(sequence: u64, content: u8) -> Entry {
    Entry {
        promotion: promotion(sequence, content),
        state: State::Superseded,
    }
}

#[test]
fn a_revocation_of_which_nothing_else_is_known_becomes_one_of_what_is_found_later() {
    let shown = Shown {
        revoked: vec![unlisted(3)],
        ..Shown::default()
    };
    let (mut history, _) = History::begin(vec![promotion(1, 1)], [], shown);
    assert_eq!((history.unlisted().len(), history.entries().len()), (1, 1));
    assert_eq!(history.learn([found(3, 3)]), 1);
    assert_eq!((history.unlisted().len(), history.revoked().count()), (0, 1));
    assert!(is_out(&history, 1, 1), "{history:?}");
    // The same of a build of it, wherever it is promoted to.
    let shown = Shown {
        revoked: vec![unlisted(3)],
        ..Shown::default()
    };
    let (history, _) = History::begin(vec![promotion(1, 1)], [], shown);
    let built = advance(&history, &[promotion(4, 3)], &[]).history;
    assert_eq!((built.unlisted().len(), built.revoked().count()), (0, 1));
    assert!(is_out(&built, 1, 1), "{built:?}");
}

#[test]
fn what_is_found_at_another_repository_is_revoked_where_its_digest_is() {
    let mut moved = found(7, 2);
    moved.promotion.repository = "registry.test/elsewhere".parse().unwrap();
    let mut history = advance(
        &History::default(),
        &[promotion(1, 1), promotion(2, 2)],
        &[order(2, false)],
    )
    .history;
    history.learn([moved]);
    assert_eq!(history.revoked().count(), 2);
}

#[test]
fn what_the_status_shows_as_out_and_as_taken_back_is_taken_back() {
    let shown = Shown {
        released: Some(shown(2, 2)),
        revoked: vec![unlisted(2)],
    };
    let (history, _) = History::begin(vec![promotion(1, 1), promotion(2, 2)], [], shown);
    assert!(history.released().is_none() && history.revocation(&Digest::of(&[2])).is_some());
    assert!(is_out(&advance(&history, &[], &[]).history, 1, 3));
}

proptest! {
    #[test]
    fn nothing_that_is_left_of_a_lost_history_is_forgotten(
        promotions in proptest::collection::vec((1_u64..12, 0_u8..5), 0..8),
        registry in proptest::collection::vec((1_u64..12, 0_u8..5), 0..8),
        out in proptest::option::of((0_u64..12, 0_u8..6)),
        revoked in proptest::collection::btree_set(0_u8..6, 0..4),
    ) {
        let promotions: Vec<Promotion> = promotions.into_iter().map(|(sequence, content)| promotion(sequence, content)).collect();
        let shown = Shown {
            released: out.map(|(sequence, content)| shown(content, sequence)),
            revoked: revoked.iter().map(|content| unlisted(*content)).collect(),
        };
        let entries: Vec<Entry> = registry.iter().map(|(sequence, content)| found(*sequence, *content)).collect();
        let (history, _) = History::begin(promotions.clone(), entries.clone(), shown.clone());
        for content in &revoked {
            prop_assert!(history.revocation(&Digest::of(&[*content])).is_some(), "{} is not revoked any more", content);
        }
        let newest = |history: &History| {
            let good = history.entries().iter().filter(|one| one.revocation().is_none());
            good.map(|one| one.promotion.sequence).max()
        };
        if let Some((sequence, content)) = out.filter(|(_, content)| !revoked.contains(content)) {
            let kept = history.released().map(|one| (one.promotion.digest.clone(), one.promotion.sequence));
            let Some((digest, number)) = kept else { return Err(TestCaseError::fail("nothing is out")) };
            prop_assert_eq!(digest, Digest::of(&[content]));
            prop_assert!(number >= sequence && Some(number) == newest(&history), "{:?}", history);
        }
        let next = advance(&history, &promotions, &[]).history;
        let since = promotions.iter().any(|one| out.is_some_and(|(sequence, _)| one.sequence > sequence));
        if out.is_some() && !since {
            let is_out = history.released().is_some();
            prop_assert!(!is_out || next == history, "nothing was promoted since: {:?} {:?}", history, next);
        }
        prop_assert_eq!(next.released().map(|one| one.promotion.sequence), newest(&next), "the newest good one is out");
        prop_assert!(next.entries().iter().all(|one| one.promotion.sequence <= next.counters().last));
        prop_assert_eq!(&advance(&next, &promotions, &[]).history, &next, "a second look changes nothing");
        let read = History::from_entries(next.entries().to_vec(), next.unlisted().to_vec(), next.counters());
        prop_assert_eq!(read, next);
    }
}
