//! Namespaces (namespaces(7)): all but the cgroup namespace by clone3's flags, so that no
//! instruction of the child runs outside of them.

use super::{Observation, Step, StepError};
use crate::child::Jail;
use crate::readback::Seen;
use casemate_proto::cell::Layer;
use rustix::io::Errno;
use rustix::thread::{UnshareFlags, unshare_unsafe};
use std::fs;
use std::path::Path;

/// The namespaces that clone3 makes.
pub const CLONED: [Layer; 5] = [
    Layer::MountNs,
    Layer::PidNs,
    Layer::NetNs,
    Layer::IpcNs,
    Layer::UtsNs,
];

/// The cgroup namespace. It is made once the child is in its cgroup, which thereby becomes
/// the root of what it sees.
pub const CGROUP: Step = Step {
    name: "cgroup-namespace",
    layer: Some(Layer::CgroupNs),
    apply: unshare_cgroup,
};

fn unshare_cgroup(_: &mut Jail<'_>) -> Result<(), StepError> {
    // SAFETY: only CLONE_FILES could make fds of this process invalid, and it is not given.
    unsafe { unshare_unsafe(UnshareFlags::NEWCGROUP) }.map_err(|e| {
        StepError::new(
            "unshare(CLONE_NEWCGROUP)",
            e,
            "see /proc/sys/user/max_cgroup_namespaces, and that the kernel has CONFIG_CGROUPS",
        )
    })
}

/// clone3's flag for a namespace's layer.
pub fn flag(layer: Layer) -> Option<libc::c_int> {
    Some(match layer {
        Layer::MountNs => libc::CLONE_NEWNS,
        Layer::PidNs => libc::CLONE_NEWPID,
        Layer::NetNs => libc::CLONE_NEWNET,
        Layer::IpcNs => libc::CLONE_NEWIPC,
        Layer::UtsNs => libc::CLONE_NEWUTS,
        _ => return None,
    })
}

/// Its name under `/proc/PID/ns`.
fn link(layer: Layer) -> &'static str {
    match layer {
        Layer::MountNs => "mnt",
        Layer::PidNs => "pid",
        Layer::NetNs => "net",
        Layer::IpcNs => "ipc",
        Layer::UtsNs => "uts",
        _ => "cgroup",
    }
}

/// Why the kernel cannot make a namespace, as far as it can be told beforehand.
pub fn obstacle(layer: Layer) -> Option<String> {
    let link = link(layer);
    if !Path::new("/proc/self/ns").join(link).exists() {
        return Some(format!(
            "this kernel has no {link} namespaces: use one built with CONFIG_NAMESPACES \
             and all its options"
        ));
    }
    let sysctl = format!("/proc/sys/user/max_{link}_namespaces");
    let none = fs::read_to_string(&sysctl).is_ok_and(|text| text.trim() == "0");
    none.then(|| format!("{sysctl} is 0: raise it"))
}

/// Each thread's namespace against the supervisor's own.
pub fn read_back(layer: Layer, seen: &Seen<'_>) -> Observation {
    let link = link(layer);
    let own = format!("a {link} namespace of its own");
    let observed = (|| {
        let supervisors = fs::read_link(format!("/proc/self/ns/{link}"))
            .map_err(|e| format!("/proc/self/ns/{link}: {e}"))?;
        let mut cells = None;
        for thread in seen.threads() {
            let theirs = seen
                .read_link(&format!("task/{}/ns/{link}", thread.tid))
                .map_err(|e: Errno| format!("{thread}: ns/{link}: {e}"))?;
            if Path::new(&theirs) == supervisors {
                return Err(format!("{thread} is in the supervisor's, {theirs}"));
            }
            cells = Some(theirs);
        }
        Ok(cells.unwrap_or_default())
    })();
    Observation::of(own, observed)
}
