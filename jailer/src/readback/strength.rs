//! How strong each layer is, where an ordinary user makes it.

use crate::plan::Plan;
use crate::rights::Launcher;
use casemate_policy::{MountKind, Resource};
use casemate_proto::cell::{Layer, Strength};

/// Of one layer, which `holds` or is let be missing.
pub fn of(layer: Layer, plan: &Plan, holds: bool) -> Strength {
    let why = plan.rights.launcher().and_then(|launcher| match holds {
        true => lacks(layer, plan, launcher),
        false => Some("it does not hold".to_owned()),
    });
    why.map_or(Strength::Full, |why| Strength::Weaker { why })
}

/// What it lacks of root's. The others are the same: the namespaces are owned by one that the
/// program is not in, and the rest is what any process may do to itself.
fn lacks(layer: Layer, plan: &Plan, launcher: &Launcher) -> Option<String> {
    let own_user = launcher.has_own_user();
    match layer {
        Layer::User if !own_user => {
            let groups = match launcher.kept_groups() {
                [] => "",
                _ => " with its groups",
            };
            Some(format!(
                "it is the launcher's own user{groups}, not one that nothing else on the host has"
            ))
        }
        Layer::Cgroup if !own_user => Some(
            "its files are the launcher's, whose user the program has: only the root and \
             Landlock keep it away from them"
                .to_owned(),
        ),
        Layer::Root if writes(plan) => Some(
            "what is made in a writable mount is the launcher's own, without idmapping".to_owned(),
        ),
        Layer::Rlimits => limits(plan),
        _ => None,
    }
}

/// Whether a path of the host's may be written.
fn writes(plan: &Plan) -> bool {
    let mounts = &plan.policy.filesystem.mounts;
    mounts
        .iter()
        .any(|mount| matches!(mount.kind, MountKind::Rw | MountKind::RwExec))
}

fn limits(plan: &Plan) -> Option<String> {
    let limits = &plan.policy.rlimits;
    let has = |resource| limits.iter().find(|limit| limit.resource == resource);
    let core = has(Resource::Core).is_some_and(|core| core.value == 0);
    let alone = counts_by_namespace() || has(Resource::Nproc).is_none();
    match (core, alone) {
        (false, true) => None,
        (true, _) => Some(
            "core is 0, the launcher's hard limit: a core_pattern that is a pipe gets the dump"
                .to_owned(),
        ),
        (false, false) => {
            Some("before Linux 5.14 nproc counts the launcher's other processes, too".to_owned())
        }
    }
}

/// Whether the kernel counts a user's processes in each user namespace for itself (5.14).
fn counts_by_namespace() -> bool {
    let release = rustix::system::uname();
    let release = release.release().to_string_lossy().into_owned();
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(5), Some(14))
}
