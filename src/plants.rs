//! Bugs that can be planted, to prove that the simulator finds them.
//!
//! Each has one hook, at the line that it breaks: `planted(Plant::…)`. Without the cargo feature
//! `planted-bugs` that is a constant `false` and the program has none of them. With it, a thread plants at most
//! one at a time, which is what `conure-sim planted` does; a node of a build that has the feature still
//! has no bug, since nothing else plants any.

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plant {
    /// A vote is given and forgotten by a restart.
    VoteNotPersisted,
    /// The log is written and not synced.
    FsyncSkipped,
    /// An append is acknowledged before it is flushed.
    AckBeforeFlush,
    /// A checkpoint has the applied index of the one before.
    AppliedIndexNotAtomic,
    /// A read that comes while a round is under way takes its index.
    ReadRoundReused,
    /// A leader answers reads without asking anybody.
    ReadWithoutQuorum,
    /// A read does not wait until this node has applied its index.
    AppliedNotAwaited,
    /// A leader reads by its lease for as long as it takes itself for one.
    LeaseTooLong,
    /// A page is served whatever its checksum says.
    ChecksumIgnored,
    /// A record of the log is taken whatever its payload's checksum says.
    TornTailAccepted,
    /// A snapshot is installed without the membership.
    SnapshotWithoutMembership,
    /// A snapshot is installed without the sessions.
    SessionsNotInSnapshot,
    /// A learner is made a voter whatever it lacks.
    LearnerStageSkipped,
    /// A condition is checked where the write is proposed, not where it is applied.
    ConditionCheckedAtPropose,
    /// A retried request is applied again.
    RetryAppliedAgain,
    /// Of a transaction only the first operation and the reads are carried out, and all is acknowledged.
    TxnAppliesHalf,
    /// A watcher misses the first revision of what is applied together.
    WatchMissesBatchBoundary,
    /// A node hides records whose deadline has passed by its own clock.
    ExpiryByLocalClock,
    /// A lease that is kept alive is told so, and ends when it would have.
    LeaseKeptAliveInVain,
    /// The keys of a lease whose time is up stay.
    LeaseKeysStay,
}

impl Plant {
    pub const ALL: [Plant; 20] = [
        Plant::VoteNotPersisted,
        Plant::FsyncSkipped,
        Plant::AckBeforeFlush,
        Plant::AppliedIndexNotAtomic,
        Plant::ReadRoundReused,
        Plant::ReadWithoutQuorum,
        Plant::AppliedNotAwaited,
        Plant::LeaseTooLong,
        Plant::ChecksumIgnored,
        Plant::TornTailAccepted,
        Plant::SnapshotWithoutMembership,
        Plant::SessionsNotInSnapshot,
        Plant::LearnerStageSkipped,
        Plant::ConditionCheckedAtPropose,
        Plant::RetryAppliedAgain,
        Plant::TxnAppliesHalf,
        Plant::WatchMissesBatchBoundary,
        Plant::ExpiryByLocalClock,
        Plant::LeaseKeptAliveInVain,
        Plant::LeaseKeysStay,
    ];

    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Plant::VoteNotPersisted => "vote-not-persisted",
            Plant::FsyncSkipped => "fsync-skipped",
            Plant::AckBeforeFlush => "ack-before-flush",
            Plant::AppliedIndexNotAtomic => "applied-index-not-atomic",
            Plant::ReadRoundReused => "read-round-reused",
            Plant::ReadWithoutQuorum => "read-without-quorum",
            Plant::AppliedNotAwaited => "applied-not-awaited",
            Plant::LeaseTooLong => "lease-too-long",
            Plant::ChecksumIgnored => "checksum-ignored",
            Plant::TornTailAccepted => "torn-tail-accepted",
            Plant::SnapshotWithoutMembership => "snapshot-without-membership",
            Plant::SessionsNotInSnapshot => "sessions-not-in-snapshot",
            Plant::LearnerStageSkipped => "learner-stage-skipped",
            Plant::ConditionCheckedAtPropose => "condition-checked-at-propose",
            Plant::RetryAppliedAgain => "retry-applied-again",
            Plant::TxnAppliesHalf => "txn-applies-half",
            Plant::WatchMissesBatchBoundary => "watch-misses-batch-boundary",
            Plant::ExpiryByLocalClock => "expiry-by-local-clock",
            Plant::LeaseKeptAliveInVain => "lease-kept-alive-in-vain",
            Plant::LeaseKeysStay => "lease-keys-stay",
        }
    }
}

#[cfg(feature = "planted-bugs")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Plant>> = const { std::cell::Cell::new(None) };
}

/// Whether the code that runs on this thread has this bug.
#[cfg(feature = "planted-bugs")]
pub fn planted(plant: Plant) -> bool {
    PLANTED.get() == Some(plant)
}

/// Whether the code that runs on this thread has this bug: no.
#[cfg(not(feature = "planted-bugs"))]
pub const fn planted(_: Plant) -> bool {
    false
}

/// Plants a bug in all that runs on this thread, instead of another.
#[cfg(feature = "planted-bugs")]
pub fn plant(plant: Option<Plant>) {
    PLANTED.set(plant);
}
