//! Namespaces (namespaces(7)) that one call makes; `user_namespace` and `time` have files
//! of their own.
//!
//! The pid namespace comes with clone3, since only children can be in it; the others are
//! made by the child, while the supervisor makes its cgroups.

use super::{FIRST, Observation, Step, StepError};
use crate::child::Jail;
use crate::plan::{Plan, Subject};
use crate::readback::Seen;
use casemate_policy::Network;
use casemate_proto::cell::Layer;
use rustix::fs::{Mode, OFlags, open, stat};
use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};
use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Mutex;

/// The mount namespace.
pub const MOUNT: Step = Step {
    name: "mount-namespace",
    who: FIRST,
    layer: Some(Layer::MountNs),
    apply: |_| unshare(UnshareFlags::NEWNS, Layer::MountNs),
};

/// The network namespace, or one that somebody made.
pub const NET: Step = Step {
    name: "net-namespace",
    who: FIRST,
    layer: Some(Layer::NetNs),
    apply: net,
};

/// The namespace of System V IPC and message queues.
pub const IPC: Step = Step {
    name: "ipc-namespace",
    who: FIRST,
    layer: Some(Layer::IpcNs),
    apply: |_| unshare(UnshareFlags::NEWIPC, Layer::IpcNs),
};

/// The namespace of host and domain name.
pub const UTS: Step = Step {
    name: "uts-namespace",
    who: FIRST,
    layer: Some(Layer::UtsNs),
    apply: |_| unshare(UnshareFlags::NEWUTS, Layer::UtsNs),
};

/// The cgroup namespace. It is made once the child is in its cgroup, which thereby becomes
/// the root of what it sees.
pub const CGROUP: Step = Step {
    name: "cgroup-namespace",
    who: FIRST,
    layer: Some(Layer::CgroupNs),
    apply: |_| unshare(UnshareFlags::NEWCGROUP, Layer::CgroupNs),
};

fn unshare(flag: UnshareFlags, layer: Layer) -> Result<(), StepError> {
    // SAFETY: only CLONE_FILES could make fds of this process invalid, and it is not given.
    unsafe { unshare_unsafe(flag) }.map_err(|e| failed(layer, e))
}

/// What a failed unshare(2) is told as.
pub(super) fn failed(layer: Layer, e: Errno) -> StepError {
    let what = format!("unshare of the {} namespace", link(layer));
    match obstacle(layer) {
        Some(why) => StepError::new(what, why, "see `casemate doctor`"),
        None => StepError::new(what, e, "run the jailer with CAP_SYS_ADMIN"),
    }
}

fn net(jail: &mut Jail<'_>) -> Result<(), StepError> {
    let path = match &jail.plan.policy.network {
        Network::None => return unshare(UnshareFlags::NEWNET, Layer::NetNs),
        Network::Host => return Ok(()),
        Network::Join(path) => path,
    };
    let remedy = "name one that `ip netns add` made, as in /run/netns/NAME";
    let failed = |e| StepError::new(format!("joining the network namespace {path}"), e, remedy);
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let fd = open(&**path, flags, Mode::empty()).map_err(failed)?;
    move_into_link_name_space(fd.as_fd(), Some(LinkNameSpaceType::Network)).map_err(failed)
}

/// The namespaces that clone3 makes, with their flags. A VMM is its own first process, so
/// its time namespace must be there from the start.
pub fn cloned(plan: &Plan) -> Vec<(Layer, libc::c_int)> {
    let time = matches!(plan.subject, Subject::Vm(_)).then_some(Layer::TimeNs);
    [Some(Layer::PidNs), time]
        .into_iter()
        .flatten()
        .filter(|&layer| plan.declares(layer) && !plan.leaves_out(layer))
        .filter_map(|layer| Some((layer, flag(layer)?)))
        .collect()
}

/// clone3's flag for a layer that it can make.
pub fn flag(layer: Layer) -> Option<libc::c_int> {
    match layer {
        Layer::PidNs => Some(libc::CLONE_NEWPID),
        Layer::TimeNs => Some(libc::CLONE_NEWTIME),
        _ => None,
    }
}

/// Its name under `/proc/PID/ns`.
fn link(layer: Layer) -> &'static str {
    match layer {
        Layer::MountNs => "mnt",
        Layer::PidNs => "pid",
        Layer::NetNs => "net",
        Layer::IpcNs => "ipc",
        Layer::UtsNs => "uts",
        Layer::UserNs => "user",
        Layer::TimeNs => "time",
        _ => "cgroup",
    }
}

/// Why the kernel cannot make a namespace, as far as it can be told.
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

/// Looks at this process' own namespaces, which it never leaves, ahead of the time when they
/// are compared with.
pub fn look_at_own() {
    for layer in Layer::ALL {
        let _ = own_link(link(layer));
    }
}

/// The supervisor's own namespace of a kind.
fn own_link(link: &'static str) -> Result<String, String> {
    static SEEN: Mutex<BTreeMap<&str, String>> = Mutex::new(BTreeMap::new());
    let mut seen = SEEN.lock().map_err(|e| e.to_string())?;
    if let Some(known) = seen.get(link) {
        return Ok(known.clone());
    }
    let found = fs::read_link(format!("/proc/self/ns/{link}"))
        .map_err(|e| format!("/proc/self/ns/{link}: {e}"))?
        .to_string_lossy()
        .into_owned();
    seen.insert(link, found.clone());
    Ok(found)
}

/// Each thread's namespace against the supervisor's own.
pub fn read_back(layer: Layer, seen: &Seen<'_>) -> Observation {
    let link = link(layer);
    let network = match layer {
        Layer::NetNs => &seen.plan.policy.network,
        _ => &Network::None,
    };
    let own = match network {
        Network::None => format!("its own {link} namespace"),
        Network::Host => "the host's, as the policy says".to_owned(),
        Network::Join(path) => format!("that of {path}"),
    };
    let observed = (|| {
        let supervisors = own_link(link)?;
        let wanted = match network {
            Network::None => None,
            Network::Host => Some(supervisors.clone()),
            Network::Join(path) => {
                let stat = stat(&**path).map_err(|e| format!("{path}: {e}"))?;
                Some(format!("net:[{}]", stat.st_ino))
            }
        };
        let mut cells = None;
        for thread in seen.threads() {
            let theirs = seen
                .read_link(&thread.file(&format!("ns/{link}")))
                .map_err(|e: Errno| format!("{thread}: ns/{link}: {e}"))?;
            match &wanted {
                None if theirs == supervisors => {
                    return Err(format!("{thread} is in the supervisor's, {theirs}"));
                }
                Some(wanted) if *wanted != theirs => {
                    return Err(format!("{thread} is in {theirs}"));
                }
                _ => cells = Some(theirs),
            }
        }
        Ok(cells.unwrap_or_default())
    })();
    Observation::of(own, observed)
}
