//! A launch: checked, and turned into the policy of its jail.

use super::passed::Passed;
use crate::refusal::Refusal;
use casemate_policy::{Policy, Resource, RlimitValue};
use casemate_proto::cell::Launch;
use casemate_proto::fds::{EVENT_BASE, MAX_DISKS, MAX_STREAMS, MAX_VCPUS};

/// Least `Limits::nofile`: the fixed fds, and some event fds above them.
const LEAST_NOFILE: u32 = EVENT_BASE as u32 + 32;

/// The policy of a VMM's jail: `policies/vmm/cell.toml`, and the launch's limits. `passed`
/// tells how far a disk may be written.
///
/// File size is that of the largest writable disk image, so that none can be made to grow.
pub fn policy(launch: &Launch, passed: &Passed) -> Policy {
    let limits = &launch.limits;
    let writable = launch
        .vm
        .disks
        .iter()
        .zip(&passed.disks)
        .filter(|(config, _)| !config.read_only)
        .filter_map(|(_, disk)| disk.file_size)
        .max()
        .unwrap_or(0);
    let mut policy = casemate_policies::cell().clone();
    // What the launch gives, which the file leaves open.
    policy.rlimits = policy
        .rlimits
        .iter()
        .copied()
        .chain(
            [
                (Resource::Fsize, writable),
                (Resource::Nofile, limits.nofile.into()),
                (Resource::Nproc, limits.pids.into()),
            ]
            .map(|(resource, value)| RlimitValue { resource, value }),
        )
        .collect();
    policy.cgroup.memory_bytes = Some(limits.memory_bytes);
    policy.cgroup.cpu_millis = Some(limits.cpu_millis);
    policy.cgroup.pids = Some(limits.pids);
    policy.wall_clock_ms = launch.timeout_ms;
    policy
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
