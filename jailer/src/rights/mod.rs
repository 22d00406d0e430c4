//! With whose rights a jail is made: root's, or an ordinary user's ("rootless").
//!
//! An ordinary user makes a user namespace first of all, in which it has every capability
//! and which is worth nothing outside; all else is made in that one, by the same steps. Ids
//! are called in it as outside, so that they mean the same in every step and to the
//! supervisor.

mod helpers;
mod observer;
mod probe;
mod run_dir;
mod subids;

pub use probe::probe;
pub use run_dir::run_dir;
pub use subids::SubIds;

use crate::refusal::Refusal;
use crate::state::{Identity, SlotIds};
use casemate_proto::cell::Layer;
use rustix::process::{Pid, getegid, geteuid, getgid, getgroups, getuid};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::num::NonZeroI32;

/// Whose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rights {
    /// Root's.
    Root,
    /// An ordinary user's.
    User(Launcher),
}

/// The user who starts a jail without root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launcher {
    /// User and group.
    pub identity: Identity,
    /// Supplementary groups, ascending.
    pub groups: Vec<u32>,
    /// Which ids its namespace has.
    pub ids: Ids,
}

/// Ids of the namespace that an ordinary user makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ids {
    /// The launcher's own user and group, and no other: nobody need allow it.
    Single,
    /// Beside them one user and one group of the launcher's subordinate ids (subuid(5)) for
    /// each jail, by way of newuidmap(1).
    Range {
        /// Users.
        users: SubIds,
        /// Groups.
        groups: SubIds,
    },
}

/// Which of them is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdMap {
    /// [`Ids::Single`].
    Single,
    /// [`Ids::Range`].
    Range,
}

impl Rights {
    /// The caller's.
    ///
    /// # Errors
    /// Where no jail can be made with them, or `asked` is not for them.
    pub fn of_caller(asked: Option<IdMap>) -> Result<Self, Refusal> {
        let (uid, gid) = (geteuid(), getegid());
        if uid != getuid() || gid != getgid() {
            return Err(Refusal::new(format!(
                "this program was started with rights that are not its caller's (uid {}, \
                 effectively {uid}): do not install it set-user-ID or set-group-ID",
                getuid(),
            )));
        }
        if uid.is_root() {
            return match asked {
                None => Ok(Self::Root),
                Some(_) => Err(Refusal::of(
                    Layer::User,
                    "--id-map is for ordinary users: root gives each jail a user of its own as \
                     it is",
                )),
            };
        }
        if gid.is_root() {
            return Err(Refusal::of(
                Layer::User,
                format!(
                    "uid {uid} has group 0, and no jail is given the host's group 0: start it \
                     with another (sg GROUP, or setpriv --regid)"
                ),
            ));
        }
        let mut groups: Vec<u32> = getgroups()
            .map_err(|e| Refusal::of(Layer::User, format!("getgroups: {e}; report this")))?
            .iter()
            .map(|group| group.as_raw())
            .collect();
        groups.sort_unstable();
        let identity = Identity {
            uid: uid.as_raw(),
            gid: gid.as_raw(),
        };
        Ok(Self::User(Launcher {
            identity,
            groups,
            ids: match asked.unwrap_or(IdMap::Single) {
                IdMap::Single => Ids::Single,
                IdMap::Range => subids::range(identity)?,
            },
        }))
    }

    /// The ordinary user, if it is one.
    pub fn launcher(&self) -> Option<&Launcher> {
        match self {
            Self::Root => None,
            Self::User(launcher) => Some(launcher),
        }
    }

    /// Calls `look`, which looks at the process `pid` of a jail in `/proc`, with the rights that
    /// this takes; gives its answer.
    ///
    /// # Errors
    /// Its own, in words.
    pub fn look<T: Serialize + DeserializeOwned>(
        &self,
        pid: Pid,
        look: impl FnOnce() -> Result<T, String>,
    ) -> Result<T, String> {
        match self.launcher() {
            Some(launcher) if launcher.has_own_user() => observer::look(pid, look),
            _ => look(),
        }
    }

    /// The ids of which each jail takes one; none where all run as the launcher.
    pub fn slots(&self) -> Option<SlotIds> {
        match self {
            Self::Root => Some(SlotIds::ROOTS),
            Self::User(launcher) => match &launcher.ids {
                Ids::Single => None,
                Ids::Range { users, groups } => Some(SlotIds {
                    uid: users.first,
                    gid: groups.first,
                    count: users.count.min(groups.count),
                }),
            },
        }
    }
}

impl Launcher {
    /// Whether a jail has a user of its own, other than the launcher.
    pub fn has_own_user(&self) -> bool {
        matches!(self.ids, Ids::Range { .. })
    }

    /// Groups that stay with what runs in the jail: taking one away may also give rights, so
    /// it takes root's consent, which subordinate ids are.
    pub fn kept_groups(&self) -> &[u32] {
        match self.ids {
            Ids::Single => &self.groups,
            Ids::Range { .. } => &[],
        }
    }

    /// Maps the ids of a jail of this identity into the user namespace of the process `pid`,
    /// by the helpers that may. Where the launcher's own are all, that process does so itself.
    ///
    /// # Errors
    /// Where a helper is not there, or does not do it.
    pub fn map(&self, pid: NonZeroI32, jail: Identity) -> Result<(), Refusal> {
        match self.ids {
            Ids::Single => Ok(()),
            Ids::Range { .. } => helpers::map(pid, self.identity, jail),
        }
    }
}

/// What stands in the way of user namespaces of ordinary users, as far as it can be told, and
/// what to do.
pub fn obstacle() -> Option<String> {
    let reads =
        |file: &str, value: &str| crate::read::text(file).is_ok_and(|text| text.trim() == value);
    let debian = "/proc/sys/kernel/unprivileged_userns_clone";
    let apparmor = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns";
    if reads(debian, "0") {
        return Some(format!(
            "{debian} is 0: set it to 1 (sysctl kernel.unprivileged_userns_clone=1), or start \
             the jail as root"
        ));
    }
    if reads(apparmor, "1") {
        return Some(format!(
            "{apparmor} is 1: load an AppArmor profile for casemate that allows userns, set it \
             to 0, or start the jail as root"
        ));
    }
    crate::layers::namespaces::obstacle(Layer::UserNs)
}
