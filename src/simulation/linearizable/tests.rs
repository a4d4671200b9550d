//! Histories written by hand: those that an order explains, and those that none does.

use super::super::history::Seen;
use super::*;

/// Writes one history: `put(value, revision)` and so on, from `invoked` to `returned`. Single calls are on key 0.
#[derive(Default)]
struct Script(Vec<Call>, Revisions);

fn put_answer(revision: u64, version: u64) -> Answer {
    done(true, Some(revision), vec![Told::Put { version }])
}

fn done(succeeded: bool, revision: Option<u64>, told: Vec<Told>) -> Answer {
    Answer::Done { succeeded, revision, told }
}

impl Script {
    fn call(mut self, from: u64, action: Action, returned: Option<(u64, Answer)>) -> Script {
        self.0.push(Call { by: "test".into(), action, invoked: from, returned });
        self
    }

    fn note(mut self, slot: Slot, value: ValueId, revision: u64, version: u64) -> Script {
        self.1.note(slot, Seen { value, version, revision }).expect("a consistent script");
        self
    }

    fn put(self, from: u64, to: u64, value: ValueId, revision: u64, version: u64) -> Script {
        let action = Action::just(Step::Put(0, value));
        let script = self.note(0, value, revision, version);
        script.call(from, action, Some((to, put_answer(revision, version))))
    }

    fn lost_put(self, from: u64, value: ValueId) -> Script {
        self.call(from, Action::just(Step::Put(0, value)), None)
    }

    fn put_if(self, from: u64, to: u64, condition: Condition, answer: Answer) -> Script {
        let checks = vec![(0, Check::Condition(condition))];
        let action = Action { checks, ..Action::just(Step::Put(0, 99)) };
        self.call(from, action, Some((to, answer)))
    }

    fn read(self, from: u64, to: u64, seen: Option<(ValueId, u64, u64)>) -> Script {
        let script = match seen {
            Some((value, revision, version)) => self.note(0, value, revision, version),
            None => self,
        };
        let seen = seen.map(|(value, revision, version)| Seen { value, version, revision });
        let answer = done(true, None, vec![Told::Seen(seen)]);
        script.call(from, Action::just(Step::Get(0)), Some((to, answer)))
    }

    /// A delete, with its revision if there was something to delete.
    fn delete(self, from: u64, to: u64, revision: Option<u64>) -> Script {
        let answer = done(true, revision, vec![Told::Deleted(revision.is_some())]);
        self.call(from, Action::just(Step::Delete(0)), Some((to, answer)))
    }

    /// Puts a value to keys 0 and 1 if key 0 has `value`.
    fn put_both_if(self, from: u64, to: u64, value: ValueId, answer: Answer) -> Script {
        let success = vec![Step::Put(0, 50), Step::Put(1, 51)];
        let checks = vec![(0, Check::Value(value))];
        let action = Action { checks, success, failure: vec![Step::Get(0)] };
        self.call(from, action, Some((to, answer)))
    }

    fn scan(self, from: u64, to: u64, all: [Option<(ValueId, u64, u64)>; MAX_SLOTS]) -> Script {
        let seen = |(value, revision, version)| Seen { value, version, revision };
        let told = Told::All(all.map(|held| held.map(seen)));
        let answer = done(true, None, vec![told]);
        self.call(from, Action::just(Step::GetAll), Some((to, answer)))
    }

    /// The end of what key 0 has, as the history of the store tells it.
    fn expiry(self, revision: u64) -> Script {
        self.delete(0, u64::MAX, Some(revision))
    }

    fn verdict(&self) -> Verdict {
        check(&self.0, &self.1)
    }

    fn is_fine(&self) -> bool {
        match self.verdict() {
            Verdict::Linearizable => true,
            Verdict::Violation(_) => false,
            Verdict::Undecided => panic!("undecided"),
        }
    }
}

#[test]
fn calls_that_overlap_may_stand_in_either_order() {
    for seen in [None, Some((1, 10, 1))] {
        let script = Script::default().put(1, 4, 1, 10, 1).read(2, 3, seen);
        assert!(script.is_fine(), "{seen:?}");
    }
    let script = Script::default()
        .put(1, 9, 1, 10, 1)
        .put(2, 8, 2, 11, 2)
        .read(3, 4, Some((1, 10, 1)))
        .read(5, 6, Some((2, 11, 2)))
        .delete(10, 11, Some(12))
        .delete(12, 13, None)
        .put(14, 15, 3, 13, 1);
    assert!(script.is_fine());
}

#[test]
fn a_stale_read_is_found() {
    let script =
        Script::default().put(1, 2, 1, 10, 1).put(3, 4, 2, 11, 2).read(5, 6, Some((1, 10, 1)));
    assert!(!script.is_fine());
}

#[test]
fn a_read_that_goes_back_behind_another_is_found() {
    let script = Script::default()
        .put(1, 2, 1, 10, 1)
        .put(3, 20, 2, 11, 2)
        .read(5, 6, Some((2, 11, 2)))
        .read(7, 8, Some((1, 10, 1)));
    assert!(!script.is_fine());
}

#[test]
fn a_lost_write_is_found() {
    assert!(!Script::default().put(1, 2, 1, 10, 1).read(3, 4, None).is_fine());
    let overwritten_by_nothing = Script::default()
        .put(1, 2, 1, 10, 1)
        .put(3, 4, 2, 11, 2)
        .put(5, 6, 3, 12, 2)
        .read(7, 8, Some((3, 12, 2)));
    assert!(!overwritten_by_nothing.is_fine(), "a version is missing");
}

#[test]
fn a_write_that_was_applied_twice_is_found() {
    let by_version = Script::default().put(1, 2, 1, 10, 1).read(3, 4, Some((1, 11, 2)));
    assert!(!by_version.is_fine());
    let by_value = Script::default()
        .put(1, 2, 1, 10, 1)
        .put(3, 4, 2, 11, 2)
        .read(5, 6, Some((2, 11, 2)))
        .read(7, 8, Some((1, 10, 1)));
    assert!(!by_value.is_fine());
}

#[test]
fn a_write_of_unknown_outcome_takes_effect_late_or_never_but_once() {
    let never = Script::default().put(1, 2, 1, 10, 1).lost_put(3, 2).read(4, 5, Some((1, 10, 1)));
    assert!(never.is_fine());
    let late = Script::default()
        .lost_put(1, 2)
        .put(3, 4, 1, 10, 1)
        .read(5, 6, Some((1, 10, 1)))
        .read(7, 8, Some((2, 11, 2)));
    assert!(late.is_fine());
    let twice = Script::default()
        .lost_put(1, 2)
        .read(3, 4, Some((2, 9, 1)))
        .put(5, 6, 1, 10, 2)
        .read(7, 8, Some((2, 11, 3)));
    assert!(!twice.is_fine());
    let early = Script::default().read(1, 2, Some((2, 9, 1))).lost_put(3, 2);
    assert!(!early.is_fine(), "it was read before it was called");
}

#[test]
fn writes_that_nobody_saw_explain_what_others_saw() {
    let script = Script::default().lost_put(1, 7).lost_put(2, 8).put(3, 4, 1, 10, 3);
    assert!(script.is_fine(), "two unseen writes came before");
    let script = Script::default().lost_put(1, 7).put(3, 4, 1, 10, 3);
    assert!(!script.is_fine(), "only one unseen write was there");
}

#[test]
fn conditions_are_judged_where_they_stand() {
    let put = || Script::default().put(1, 2, 1, 10, 1);
    let (absent, at) = (Condition::Absent, Condition::ModRevision);
    let refused = |current| Answer::Refused { current };
    assert!(put().put_if(3, 4, absent, refused(Some(10))).is_fine());
    assert!(!put().put_if(3, 4, absent, put_answer(11, 2)).is_fine());
    assert!(put().put_if(3, 4, at(10), put_answer(11, 2)).is_fine());
    assert!(!put().put_if(3, 4, at(10), refused(Some(10))).is_fine());
    let replaced = put().put(3, 4, 2, 11, 2);
    assert!(!replaced.put_if(5, 6, at(10), put_answer(12, 3)).is_fine());
}

#[test]
fn revisions_in_another_order_than_time_are_found() {
    assert!(!Script::default().put(1, 2, 1, 11, 1).put(3, 4, 2, 10, 2).is_fine());
}

#[test]
fn a_revision_has_one_value() {
    let mut revisions = Revisions::default();
    let seen = Seen { value: 1, version: 1, revision: 5 };
    assert!(revisions.note(0, seen).is_ok() && revisions.note(0, seen).is_ok());
    assert!(revisions.note(0, Seen { value: 2, ..seen }).is_err());
    assert!(revisions.note(0, Seen { version: 2, ..seen }).is_err());
}

/// The longest history there may be, with many unanswered writes, is decided.
#[test]
fn the_longest_history_is_decided() {
    let mut script = Script::default();
    let mut version = 0;
    for number in 0..MAX_CALLS as u64 / 4 {
        let at = number * 10;
        version += 2;
        // Every second unanswered write took effect, unseen, before the one that was answered.
        script = script.lost_put(at, 10_000 + number).lost_put(at + 1, 20_000 + number);
        script = script.put(at + 2, at + 3, number, 1_000 + number, version);
        script = script.read(at + 4, at + 5, Some((number, 1_000 + number, version)));
    }
    assert!(script.is_fine());
    let end = 10 * MAX_CALLS as u64;
    script.0.pop();
    assert!(!script.read(end, end + 1, Some((0, 1_000, 2))).is_fine());
}

#[test]
fn a_transaction_is_seen_whole_or_not_at_all() {
    let both = || {
        let answer = done(true, Some(11), vec![Told::Put { version: 2 }, Told::Put { version: 1 }]);
        let script = Script::default().put(1, 2, 1, 10, 1).put_both_if(3, 9, 1, answer);
        script.note(0, 50, 11, 2).note(1, 51, 11, 1)
    };
    let (before, first, second) = (Some((1, 10, 1)), Some((50, 11, 2)), Some((51, 11, 1)));
    assert!(both().scan(4, 5, [before, None, None]).is_fine());
    assert!(both().scan(4, 5, [first, second, None]).is_fine());
    assert!(!both().scan(4, 5, [first, None, None]).is_fine(), "a half");
    assert!(!both().scan(4, 5, [before, second, None]).is_fine(), "the other half");
    assert!(!both().scan(10, 11, [before, None, None]).is_fine(), "it was answered");
}

#[test]
fn a_transaction_takes_the_branch_that_the_state_before_it_says() {
    let put = || Script::default().put(1, 2, 1, 10, 1);
    let seen = |value, revision| Seen { value, version: 1, revision };
    let failed = |seen| done(false, None, vec![Told::Seen(Some(seen))]);
    assert!(put().put_both_if(3, 4, 7, failed(seen(1, 10))).is_fine());
    assert!(!put().put_both_if(3, 4, 1, failed(seen(1, 10))).is_fine(), "the check held");
    let succeeded = done(true, Some(11), vec![Told::Put { version: 2 }, Told::Put { version: 1 }]);
    assert!(!put().put_both_if(3, 4, 7, succeeded).is_fine(), "the check did not hold");
    let forgotten = done(false, None, vec![Told::Forgotten]);
    assert!(put().put_both_if(3, 4, 7, forgotten).is_fine());
}

#[test]
fn a_record_ends_at_the_revision_of_its_expiry_and_not_before() {
    let put = || Script::default().put(1, 2, 1, 10, 1);
    assert!(put().expiry(11).read(3, 4, Some((1, 10, 1))).read(5, 6, None).is_fine());
    assert!(!put().read(3, 4, None).is_fine(), "it was hidden without an expiry");
    let ended = || put().expiry(11).put(3, 4, 2, 12, 1);
    assert!(ended().is_fine());
    assert!(!ended().read(5, 6, None).is_fine(), "the expiry is of the record before");
}
