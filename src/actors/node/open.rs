//! Opens what the disk holds, and decides what a node does whose data are damaged.
//!
//! A node that a quorum can do without starts all the same, and takes no part ([`Standing::Damaged`]): what cannot be
//! opened is left as it is, an empty store or log in memory stands in for it, and the membership actor asks
//! to be replaced (`crate::actors::membership`). One that is needed refuses, and says what is damaged: its damaged data may be
//! all that there is.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::{NodeError, NodeOptions, Surroundings};
use crate::actors::OnFatal;
use crate::actors::raft::actor::Place;
use crate::actors::raft::state_machine::stored_members;
use crate::actors::raft::types::has_quorum_without;
use crate::storage::disk::MemDisk;
use crate::storage::identity::{self, Identity, IdentityError, Standing};
use crate::storage::kv::{Kv, KvReader};
use crate::storage::log::{Log, LogWriter, Recovery};
use crate::types::{ClusterId, NodeId};

/// What a node starts with.
pub(super) struct Opened {
    pub identity: Identity,
    pub log: Log,
    pub log_writer: LogWriter,
    pub kv: Kv,
}

pub(super) fn open(options: &NodeOptions, around: &Surroundings) -> Result<Opened, NodeError> {
    let mut identity = identity(options, around)?;
    let disk = &around.disk;
    let mut damage = None;
    let log = sound(Log::open(disk.clone(), options.log.clone()), &mut damage)?;
    let kv = sound(Kv::open(disk.clone(), options.store.clone()), &mut damage)?;
    if let (Some((log, ..)), Some(kv)) = (&log, &kv) {
        sound(check_joint(log, &kv.reader()), &mut damage)?;
    }
    if let Some(damage) = damage {
        let reader = kv.as_ref().map(Kv::reader);
        let replaceable = Replaceable::of(options);
        if !replaceable.is(reader.as_ref(), identity.node_id) {
            if reader.is_none() && replaceable.is_wanted {
                log::error!(
                    "who the members are cannot be read either: with `seeds`, the HTTP addresses of other members, this \
                     node would ask them to replace it"
                );
            }
            return Err(damage);
        }
        log::error!("{damage}");
        mark(&mut identity);
        identity.store(disk)?;
    } else if identity.standing == Standing::Damaged && !options.rules.replace_damaged {
        // Nothing was given up for the note: it is as after any other restart.
        log::warn!("damage was found on this node before; it is not to be replaced, and goes on");
        identity.standing = Standing::Invited;
        identity.store(disk)?;
    }
    let (log, log_writer, recovery) = match log {
        Some(opened) => opened,
        None => Log::open(Arc::new(MemDisk::new()), options.log.clone())?,
    };
    tell(&recovery);
    let kv = match kv {
        Some(kv) => kv,
        None => Kv::stand_in(disk.clone(), options.store.clone())?,
    };
    Ok(Opened { identity, log, log_writer, kv })
}

/// Reads this node's identity, or draws one for an empty data directory, and finishes what a crash
/// interrupted.
fn identity(options: &NodeOptions, around: &Surroundings) -> Result<Identity, IdentityError> {
    let stored = Identity::load(&around.disk)?;
    let mut identity = match stored.clone() {
        Some(identity) if identity.standing == Standing::Restoring => {
            let file = around.disk.locate(identity::FILE);
            return Err(IdentityError::HalfRestored { file });
        }
        Some(identity) if identity.name != options.name => {
            return Err(IdentityError::OtherNode {
                file: around.disk.locate(identity::FILE),
                stored: identity.name,
                configured: options.name.clone(),
            });
        }
        Some(identity) => identity,
        None => Identity {
            name: options.name.clone(),
            node_id: around.chance.next_u64(),
            cluster_id: ClusterId::NONE,
            standing: Standing::Invited,
        },
    };
    if identity.standing == Standing::Resetting {
        log::info!("finishing the reset that was interrupted");
        let io = |source| IdentityError::Io { file: around.disk.locate(""), source };
        for name in around.disk.list().map_err(io)? {
            if name != identity::FILE {
                around.disk.remove(&name).map_err(io)?;
            }
        }
        around.disk.sync_dir().map_err(io)?;
        identity.standing = Standing::Invited;
    }
    if options.founds && !identity.cluster_id.is_some() {
        identity.cluster_id = ClusterId(around.chance.next_u128());
        identity.standing = Standing::Founder;
    }
    if stored.as_ref() != Some(&identity) {
        identity.store(&around.disk)?;
    }
    Ok(identity)
}

/// What was opened; nothing if it is damaged, which is noted, the first time.
fn sound<T, E: Into<NodeError>>(
    opened: Result<T, E>,
    damage: &mut Option<NodeError>,
) -> Result<Option<T>, NodeError> {
    let error = match opened {
        Ok(opened) => return Ok(Some(opened)),
        Err(error) => error.into(),
    };
    match error.is_damage() {
        true => {
            damage.get_or_insert(error);
            Ok(None)
        }
        false => Err(error),
    }
}

fn tell(recovery: &Recovery) {
    match &recovery.torn {
        None => log::info!("the log is whole: {} entries", recovery.entries),
        Some(torn) => log::info!(
            "the log has {} entries; a write that was never acknowledged was cut off {} at {}",
            recovery.entries,
            torn.segment,
            torn.offset
        ),
    }
}

/// The log must reach back to what the store holds.
fn check_joint(log: &Log, reader: &KvReader) -> Result<(), NodeError> {
    let applied = reader.snapshot().applied();
    match log.state().gap_behind(applied) {
        Some(purged) => Err(NodeError::Gap { applied, purged }),
        None => Ok(()),
    }
}

/// Notes that a node takes no part any more, unless it is on its way to another life.
fn mark(identity: &mut Identity) {
    if matches!(identity.standing, Standing::Invited | Standing::Founder) {
        identity.standing = Standing::Damaged;
    }
}

/// Whether the cluster can do without this node until it is replaced.
#[derive(Clone, Copy)]
struct Replaceable {
    is_wanted: bool,
    has_seeds: bool,
}

impl Replaceable {
    fn of(options: &NodeOptions) -> Replaceable {
        Replaceable {
            is_wanted: options.rules.replace_damaged,
            has_seeds: !options.seeds.is_empty(),
        }
    }

    /// Of a node that cannot read its membership its seeds are asked, if it has some.
    fn is(self, reader: Option<&KvReader>, own: NodeId) -> bool {
        let members = reader.map(|reader| stored_members(&reader.snapshot()).unwrap_or_default());
        self.is_wanted
            && match members.filter(|members| !members.is_empty()) {
                Some(members) => has_quorum_without(&members, own),
                None => self.has_seeds,
            }
    }
}

/// What ends the node, with a note before it if that is for damage: the next start would meet it again.
pub(super) fn noting_damage(
    on_fatal: OnFatal,
    place: Arc<Place>,
    reader: KvReader,
    log: Arc<ArcSwapOption<Log>>,
    options: &NodeOptions,
) -> OnFatal {
    let replaceable = Replaceable::of(options);
    Arc::new(move |reason| {
        let of_log = log.load().as_ref().and_then(|log| log.damage());
        let mut damages = [reader.damage(), of_log].into_iter().flatten();
        if damages.any(|damage| reason.contains(&damage))
            && replaceable.is(Some(&reader), place.identity().node_id)
            && let Err(error) = place.change(mark)
        {
            log::error!("cannot note that this node is damaged: {error}");
        }
        on_fatal(reason);
    })
}
