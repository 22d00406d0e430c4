//! The attempts, by what they are after.

mod cgroups;
mod files;
mod kernel;
mod keys;
mod leaked;
mod learned;
mod limits;
mod mounts;
mod namespaces;
mod privilege;
mod processes;
mod procfs;
mod sockets;
mod terminal;

pub use files::shadow;
pub use privilege::show_rights;

use crate::Attempt;

/// Every attempt, in groups.
pub const GROUPS: &[(&str, &[Attempt])] = &[
    ("files", files::ALL),
    ("inherited fds", leaked::ALL),
    ("processes", processes::ALL),
    ("sockets and network", sockets::ALL),
    ("terminal", terminal::ALL),
    ("keyrings", keys::ALL),
    ("kernel interfaces", kernel::ALL),
    ("namespaces", namespaces::ALL),
    ("mounts and devices", mounts::ALL),
    ("privilege", privilege::ALL),
    ("limits", limits::ALL),
    ("proc and sys", procfs::ALL),
    ("cgroups", cgroups::ALL),
    ("what it learns", learned::ALL),
];

/// One row of a group's table.
const fn attempt(
    name: &'static str,
    what: &'static str,
    go: fn(&crate::Bait) -> crate::Tried,
) -> Attempt {
    Attempt { name, what, go }
}
