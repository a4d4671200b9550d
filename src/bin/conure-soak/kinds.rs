//! What can go wrong, under the names that reports count it by.

use clap::ValueEnum;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use crate::tools::Tools;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Kind {
    /// kill -9 of the node that leads
    KillLeader,
    /// kill -9 of one that follows
    KillFollower,
    /// kill -9 of two nodes at once
    KillTwo,
    /// kill -9 of all nodes at once
    KillAll,
    /// SIGSTOP for longer than an election, then SIGCONT
    Pause,
    /// SIGTERM, and a new start
    Terminate,
    /// A minority apart from the others
    Partition,
    /// What one node sends reaches another, or all others, no more
    OneWayCut,
    /// Bytes between two nodes come late
    SlowLink,
    /// All connections of a node break
    ConnectionsReset,
    /// Leadership is moved to another node
    LeaderTransfer,
    /// A node is removed and joined again
    MemberRemovedAndJoined,
    /// An empty disk in place of a node's
    WipedDisk,
    /// A node's disk as it was some time ago
    OldBackup,
    /// A node of another cluster answers at a node's address, and they are told to join each other
    MisroutedClusters,
    /// A wall clock that is hours off, while the node runs
    ClockJump,
    /// No room on a node's disk
    DiskFull,
    /// One fsync of a node fails
    FsyncError,
    /// A node's file system forgets what was not synced
    PowerCut,
    /// The file systems of all nodes do, at once
    PowerCutOfAll,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::KillLeader => "kill_leader",
            Kind::KillFollower => "kill_follower",
            Kind::KillTwo => "kill_two",
            Kind::KillAll => "kill_all",
            Kind::Pause => "pause",
            Kind::Terminate => "terminate",
            Kind::Partition => "partition",
            Kind::OneWayCut => "one_way_cut",
            Kind::SlowLink => "slow_link",
            Kind::ConnectionsReset => "connections_reset",
            Kind::LeaderTransfer => "leader_transfer",
            Kind::MemberRemovedAndJoined => "member_removed_and_joined",
            Kind::WipedDisk => "wiped_disk",
            Kind::OldBackup => "old_backup",
            Kind::MisroutedClusters => "misrouted_clusters",
            Kind::ClockJump => "clock_jump",
            Kind::DiskFull => "disk_full",
            Kind::FsyncError => "fsync_error",
            Kind::PowerCut => "power_cut",
            Kind::PowerCutOfAll => "power_cut_of_all",
        }
    }

    /// Whether it needs a file system for each node.
    pub fn needs_disks(self) -> bool {
        matches!(self, Kind::DiskFull | Kind::PowerCut | Kind::PowerCutOfAll)
    }

    /// What this machine lacks for it.
    pub fn missing(self, tools: &Tools) -> Option<String> {
        match self {
            Kind::ClockJump => tools.clocks.as_ref().err().cloned(),
            Kind::FsyncError => tools.strace.clone().err(),
            Kind::DiskFull => tools.disks.clone().err(),
            Kind::PowerCut | Kind::PowerCutOfAll => {
                tools.disks.clone().and_then(|()| tools.shutdown.clone()).err()
            }
            _ => None,
        }
    }
}

/// Kinds in an order that has each as often as the others: shuffled, dealt out, shuffled again.
pub struct Deck {
    kinds: Vec<Kind>,
    left: Vec<Kind>,
}

impl Deck {
    pub fn new(kinds: Vec<Kind>) -> Deck {
        Deck { kinds, left: Vec::new() }
    }

    pub fn draw(&mut self, chance: &mut StdRng) -> Option<Kind> {
        if self.left.is_empty() {
            self.left.clone_from(&self.kinds);
            self.left.shuffle(chance);
        }
        self.left.pop()
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn names_are_those_of_the_command_line() {
        for kind in Kind::value_variants() {
            assert_eq!(Kind::from_str(kind.name(), false), Ok(*kind));
        }
    }

    #[test]
    fn each_kind_is_dealt_before_any_comes_again() {
        let mut chance = StdRng::seed_from_u64(1);
        let mut deck = Deck::new(Kind::value_variants().to_vec());
        for _ in 0..2 {
            let mut dealt: Vec<Kind> =
                Kind::value_variants().iter().filter_map(|_| deck.draw(&mut chance)).collect();
            dealt.sort_unstable();
            assert_eq!(dealt, Kind::value_variants());
        }
        assert_eq!(Deck::new(Vec::new()).draw(&mut chance), None);
    }
}
