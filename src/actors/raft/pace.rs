//! How many commands an entry that could go had better wait for.
//!
//! Clients that write one command after the other come back soon after an answer. Were the next entry to go as soon as
//! the last one is committed, it would take those who came meanwhile and leave those who are on their way back: they
//! travel in two or three small entries in turns, for ever, and what an entry costs, it costs on every node. One
//! wait for those who were answered brings them together, and together they stay. They are *in step* then: hardly
//! anybody comes while an entry is under way, for hardly anybody is not in it, and who was answered is soon back. As
//! long as that holds, an entry waits for nearly as many commands as there were.
//!
//! Where commands come by themselves, whoever was answered, a wait delays them for nothing. With many commands in an
//! entry it is no chance that hardly anybody came since. With few, a trial tells: some entries wait, and if those that they
//! waited for did not come, or others still come while the last of them is under way, entries go at once again, and
//! the next trial is further off.

/// Entries that wait in a trial. The first brings two of three groups of clients together, the second all of them.
const TRIAL_ENTRIES: u32 = 3;

/// Entries from one trial to the next, after one that failed and after many.
const PAUSE_ENTRIES: u32 = 4;
const MAX_PAUSE_ENTRIES: u32 = 256;

/// Entries in step after which it was not luck.
const PROVEN_ENTRIES: u32 = 16;

/// Commands among which it is not luck that hardly anybody came since.
const SURE_COMMANDS: usize = 16;

/// So many times as many as came since have to be in an entry. Where commands come by themselves, an entry that waited for as
/// long as it may, and is committed within a third of a millisecond, has that many; no other has.
const STRAY_PART: usize = 8;

/// That part of the clients may stay away: those who are done, and the slowest.
const AWAY_PART: usize = 10;

/// What an entry's wait was good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// There was nobody to wait for, or it was large enough.
    None,
    Met,
    Missed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Entries go at once; so many more before the next trial.
    Apart { pause: u32 },
    /// So many entries of a trial follow the one under way.
    Trial { left: u32 },
    /// So many entries waited with success, and whether the last did not.
    InStep { entries: u32, has_missed: bool },
}

/// What is known of how commands come.
pub struct Pace {
    state: State,
    /// Commands that the next entry waits for.
    company: usize,
    /// What became of the last one's.
    wait: Wait,
    /// Entries between the next trial and the one after it, should it fail.
    next_pause: u32,
}

impl Default for Pace {
    fn default() -> Pace {
        let state = State::Apart { pause: PAUSE_ENTRIES };
        Pace { state, company: 0, wait: Wait::None, next_pause: PAUSE_ENTRIES }
    }
}

impl Pace {
    /// Commands that the next entry waits for, for a while.
    pub fn company(&self) -> usize {
        self.company
    }

    /// An entry of so many commands goes, perhaps because it has waited for long enough.
    pub fn proposed(&mut self, commands: usize, has_waited: bool) {
        self.wait = match self.company {
            0 | 1 => Wait::None,
            company if commands >= company => Wait::Met,
            _ if has_waited => Wait::Missed,
            _ => Wait::None,
        };
        self.company = 0;
    }

    /// An entry of so many commands is committed. Of those that came since it was proposed, so many are in entries under way, and
    /// so many wait.
    pub fn committed(&mut self, commands: usize, under_way: usize, waiting: usize) {
        let strays = under_way + waiting;
        let everybody = commands + strays;
        if everybody == 1 && self.wait == Wait::None {
            return;
        }
        let is_in_step = strays * STRAY_PART <= commands;
        let is_sure = is_in_step && commands >= SURE_COMMANDS && self.wait != Wait::Missed;
        self.state = self.follow(is_in_step);
        if is_sure {
            self.next_pause = PAUSE_ENTRIES;
            if let State::Apart { pause } = &mut self.state {
                *pause = PAUSE_ENTRIES.min(*pause);
            }
        }
        if is_sure || !matches!(self.state, State::Apart { .. }) {
            self.company = self.company.max(everybody - everybody / AWAY_PART);
        }
    }

    fn follow(&mut self, is_in_step: bool) -> State {
        let wait = if is_in_step { self.wait } else { Wait::Missed };
        match self.state {
            State::Apart { pause: 0 } => State::Trial { left: TRIAL_ENTRIES - 1 },
            State::Apart { pause } => State::Apart { pause: pause - 1 },
            State::Trial { left: 0 } if wait == Wait::Met => {
                State::InStep { entries: 0, has_missed: false }
            }
            State::Trial { left: 0 } => self.apart(),
            // That others come is no wonder before the last of them.
            State::Trial { .. } if self.wait == Wait::Missed => self.apart(),
            State::Trial { left } => State::Trial { left: left - 1 },
            State::InStep { entries, .. } if wait == Wait::Met => {
                if entries == PROVEN_ENTRIES {
                    self.next_pause = PAUSE_ENTRIES;
                }
                State::InStep { entries: entries.saturating_add(1), has_missed: false }
            }
            in_step if wait == Wait::None => in_step,
            // A disk or a processor that is busy for a moment delays the best.
            State::InStep { entries, has_missed: false } => {
                State::InStep { entries, has_missed: true }
            }
            State::InStep { .. } => self.apart(),
        }
    }

    fn apart(&mut self) -> State {
        let pause = self.next_pause;
        self.next_pause = (2 * pause).min(MAX_PAUSE_ENTRIES);
        State::Apart { pause }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Pace {
        /// An entry goes and is committed, and so many came meanwhile.
        fn pass(&mut self, commands: usize, has_waited: bool, waiting: usize) {
            self.proposed(commands, has_waited);
            self.committed(commands, 0, waiting);
        }
    }

    /// Clients that write again as soon as they are answered, in turns: one group is in the entry that is under way,
    /// one waits, one is on its way back. Gives the commands of each entry, and how many of them waited for company.
    fn closed(mut waiting: usize, mut returning: usize, entries: usize) -> (Vec<usize>, usize) {
        let (mut pace, mut sizes, mut waits) = (Pace::default(), Vec::new(), 0);
        for _ in 0..entries {
            let is_short = waiting < pace.company();
            waits += usize::from(is_short && waiting > 0);
            if is_short || waiting == 0 {
                waiting += std::mem::take(&mut returning);
            }
            let taken = std::mem::take(&mut waiting);
            pace.proposed(taken, taken < pace.company());
            waiting = std::mem::take(&mut returning);
            pace.committed(taken, 0, waiting);
            returning = taken;
            sizes.push(taken);
        }
        (sizes, waits)
    }

    #[test]
    fn groups_of_clients_become_one_and_stay_one() {
        for clients in [2, 3, 5, 16, 64, 300] {
            let (sizes, _) = closed(clients / 2, clients - clients / 2, 20);
            assert_eq!(sizes[0], clients / 2);
            assert!(sizes[12..].iter().all(|size| *size == clients), "{clients}: {sizes:?}");
        }
    }

    #[test]
    fn a_client_alone_waits_for_nobody() {
        assert_eq!(closed(1, 0, 1_000), (vec![1; 1_000], 0));
    }

    /// Commands that come by chance, whoever was answered, at `rate` in a tenth of a millisecond. Entries are committed
    /// after five tenths, and wait for company for twenty-five at most. Gives how many of 10,000 did.
    fn open(rate: f64) -> usize {
        let mut state = 1u64;
        let mut chance = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        // Steps of a hundredth, in which two hardly come.
        let mut come = |tenths: usize| (0..tenths * 10).filter(|_| chance() < rate / 10.0).count();
        let (mut pace, mut waiting, mut waits) = (Pace::default(), 0, 0);
        for _ in 0..10_000 {
            while waiting == 0 {
                waiting += come(1);
            }
            let mut waited = 0;
            while waiting < pace.company() && waited < 25 {
                (waiting, waited) = (waiting + come(1), waited + 1);
            }
            waits += usize::from(waited > 0);
            let taken = std::mem::replace(&mut waiting, come(5));
            pace.pass(taken, waited == 25, waiting);
        }
        waits
    }

    #[test]
    fn commands_that_come_by_themselves_rarely_wait() {
        for rate in [0.02, 0.1, 0.4, 1.6, 6.0] {
            let waits = open(rate);
            assert!(waits < 500, "{rate}: {waits} of 10,000 entries waited");
        }
        assert!(open(1.6) > 0, "there are trials");
    }

    /// What an entry of so many commands has as company behind it, when so many came since.
    fn company_behind(commands: usize, under_way: usize, waiting: usize) -> usize {
        let mut pace = Pace::default();
        pace.proposed(commands, false);
        pace.committed(commands, under_way, waiting);
        pace.company()
    }

    #[test]
    fn many_commands_beside_whom_hardly_anybody_came_are_in_step_at_once() {
        assert_eq!(company_behind(64, 0, 0), 58);
        assert_eq!(company_behind(64, 0, 8), 65);
        assert_eq!(company_behind(16, 0, 0), 15);
        assert_eq!(company_behind(15, 0, 0), 0, "that may be luck");
        assert_eq!(company_behind(64, 0, 9), 0);
        assert_eq!(company_behind(64, 9, 0), 0, "those under way came since, too");
    }

    #[test]
    fn a_burst_that_nobody_follows_has_one_wait() {
        let mut pace = Pace::default();
        pace.pass(64, false, 0);
        assert_eq!(pace.company(), 58);
        pace.pass(16, true, 0);
        assert_eq!(pace.company(), 0);
    }

    #[test]
    fn a_trial_that_ends_in_strays_puts_off_the_next() {
        let mut pace = Pace::default();
        let mut until_trial = || {
            let mut entries = 0;
            while pace.company() == 0 {
                pace.pass(4, false, 4);
                entries += 1;
            }
            for _ in 0..TRIAL_ENTRIES {
                let company = pace.company();
                assert!(company >= 8, "{company}");
                pace.pass(company, false, company / 2);
            }
            assert_eq!(pace.company(), 0);
            entries
        };
        assert_eq!([until_trial(), until_trial(), until_trial()], [5, 5, 9]);
        (0..6).for_each(|_| {
            until_trial();
        });
        assert_eq!([until_trial(), until_trial()], [257, 257], "there is a longest");

        // Clients who are surely in step: it comes soon.
        pace.pass(64, false, 0);
        for _ in 0..4 {
            pace.pass(4, false, 4);
            assert_eq!(pace.company(), 0);
        }
        pace.pass(4, false, 4);
        assert_eq!(pace.company(), 8);
    }

    #[test]
    fn chance_pairs_rarely_wait() {
        // Two commands at once, now and then, and long nothing beside them.
        let mut pace = Pace::default();
        let mut waits = 0;
        for entry in 0..10_000 {
            let commands = if entry % 20 == 0 { 2 } else { 1 };
            let has_waited = commands < pace.company();
            waits += usize::from(has_waited);
            pace.pass(commands, has_waited, 0);
        }
        assert!((1..100).contains(&waits), "{waits} of 10,000 entries waited");
    }

    #[test]
    fn clients_in_step_bear_one_delay_and_part_when_they_are_gone() {
        let mut pace = Pace::default();
        let mut step = |commands: usize, has_waited| {
            pace.pass(commands, has_waited, 0);
            pace.company()
        };
        (0..50).for_each(|_| {
            step(8, false);
        });
        assert_eq!(step(8, false), 8);
        assert_eq!(step(3, true), 3, "the others are late");
        assert_eq!(step(8, false), 8);
        assert_eq!(step(3, true), 3);
        assert_eq!(step(1, true), 0, "they are gone");
    }

    #[test]
    fn an_entry_that_is_large_before_all_are_there_says_nothing() {
        let mut pace = Pace::default();
        for _ in 0..50 {
            pace.pass(100, false, 0);
        }
        assert_eq!(pace.company(), 90);
        let state = pace.state;
        pace.pass(60, false, 0);
        assert_eq!(pace.state, state);
    }
}
