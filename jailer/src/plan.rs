//! What one cell's jail is to be: the launch, checked, and what was chosen for it.

use crate::cgroup::CellCgroup;
use crate::layers::rlimits::{self, Rlimit};
use crate::passed::Passed;
use crate::refusal::Refusal;
use crate::state::Identity;
use casemate_proto::cell::{Launch, Layer};
use casemate_proto::fds::{EVENT_BASE, MAX_DISKS, MAX_STREAMS, MAX_VCPUS};
use std::collections::BTreeSet;

/// The host name inside.
pub const HOSTNAME: &str = "casemate";

/// Least `Limits::nofile`: the fixed fds, and some event fds above them.
const LEAST_NOFILE: u32 = EVENT_BASE as u32 + 32;

/// What the layers are to bring about.
#[derive(Debug)]
pub struct Plan {
    /// The launch.
    pub launch: Launch,
    /// User and group.
    pub identity: Identity,
    /// Resource limits.
    pub rlimits: Vec<Rlimit>,
    /// cgroups with their limits set; `None` where they are left out or let be missing.
    pub cgroup: Option<CellCgroup>,
}

impl Plan {
    /// Puts it together. `passed` tells how far a disk may be written.
    pub fn new(
        launch: Launch,
        passed: &Passed,
        identity: Identity,
        cgroup: Option<CellCgroup>,
    ) -> Self {
        let rlimits = rlimits::table(&launch, passed);
        Self {
            launch,
            identity,
            rlimits,
            cgroup,
        }
    }

    /// Whether a layer is left out on purpose, for a test of the read-back.
    pub fn leaves_out(&self, layer: Layer) -> bool {
        cfg!(feature = "layer-off") && self.launch.leave_out.contains(&layer)
    }

    /// Whether the user lets a layer be missing.
    pub fn may_miss(&self, layer: Layer) -> bool {
        self.launch.allow_missing.contains(&layer)
    }
}

/// Checks what can be checked of a launch before anything is made.
///
/// # Errors
/// The first value that cannot be.
pub fn check(launch: &Launch) -> Result<(), Refusal> {
    let vm = &launch.vm;
    let limits = &launch.limits;
    let guest_bytes = u64::from(vm.memory_mib) << 20;
    let checks = [
        (
            cfg!(feature = "layer-off") || launch.leave_out.is_empty(),
            "leave_out is for tests of a jailer built with its layer-off feature: \
             this one leaves no layer out; use allow_missing for what the host lacks"
                .to_owned(),
        ),
        (
            (1..=MAX_VCPUS).contains(&usize::from(vm.vcpus)),
            format!("{} vCPUs: give 1 to {MAX_VCPUS}", vm.vcpus),
        ),
        (
            vm.memory_mib > 0,
            "0 MiB of guest memory: give at least what the kernel needs".to_owned(),
        ),
        (
            vm.disks.len() <= MAX_DISKS,
            format!("{} disks: give at most {MAX_DISKS}", vm.disks.len()),
        ),
        (
            vm.streams.len() <= MAX_STREAMS,
            format!("{} streams: give at most {MAX_STREAMS}", vm.streams.len()),
        ),
        (
            !vm.cmdline.contains('\0'),
            "the kernel's command line has a NUL: take it out".to_owned(),
        ),
        (
            vm.disks
                .iter()
                .all(|disk| disk.serial.len() <= 20 && disk.serial.is_ascii()),
            "a disk's serial is longer than 20 bytes or not ASCII: shorten it".to_owned(),
        ),
        (
            limits.memory_bytes > guest_bytes,
            format!(
                "the memory limit of {} bytes leaves the VMM nothing beside {} MiB of guest \
                 memory: raise it",
                limits.memory_bytes, vm.memory_mib
            ),
        ),
        (
            limits.cpu_millis >= 10,
            format!(
                "a CPU limit of {} thousandths is below the kernel's least: give 10 or more",
                limits.cpu_millis
            ),
        ),
        (
            limits.pids > u32::from(vm.vcpus),
            format!(
                "a limit of {} tasks is less than the VMM's threads: give more than {}",
                limits.pids, vm.vcpus
            ),
        ),
        (
            limits.nofile >= LEAST_NOFILE,
            format!(
                "a limit of {} fds is less than the VMM needs: give {LEAST_NOFILE} or more",
                limits.nofile
            ),
        ),
    ];
    checks
        .into_iter()
        .find(|(good, _)| !good)
        .map_or(Ok(()), |(_, message)| Err(Refusal::new(message)))
}

/// Layers whose absence makes `layer` impossible: where one of them is missing, `layer` is
/// not tried, and reads back as missing too.
pub fn needs(layer: Layer) -> BTreeSet<Layer> {
    match layer {
        // Without an own mount namespace, a new root would be the whole host's.
        Layer::Root => BTreeSet::from([Layer::MountNs]),
        // landlock_restrict_self(2) asks for it.
        Layer::Landlock => BTreeSet::from([Layer::NoNewPrivs]),
        _ => BTreeSet::new(),
    }
}
