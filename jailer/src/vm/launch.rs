//! A launch: checked, and turned into the policy of its jail.

use super::passed::Passed;
use crate::refusal::Refusal;
use casemate_policy::{
    CgroupLimits, Device, Environment, Filesystem, Landlock, List, Namespace, Network, Policy,
    Resource, RlimitValue,
};
use casemate_proto::cell::Launch;
use casemate_proto::fds::{EVENT_BASE, MAX_DISKS, MAX_STREAMS, MAX_VCPUS};
use std::borrow::Cow;

/// Least `Limits::nofile`: the fixed fds, and some event fds above them.
const LEAST_NOFILE: u32 = EVENT_BASE as u32 + 32;

/// The policy of a VMM's jail: nothing to see, and the launch's limits. `passed` tells how
/// far a disk may be written.
///
/// Core is 1 and not 0: with 0, a dump still goes to a `core_pattern` that is a pipe, guest
/// memory and all; 1 is the value for which the kernel dumps to neither (core(5)).
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
    let rlimits = [
        (Resource::Core, 1),
        (Resource::Fsize, writable),
        (Resource::Nofile, limits.nofile.into()),
        (Resource::Nproc, limits.pids.into()),
        (Resource::Memlock, 0),
        (Resource::Msgqueue, 0),
        (Resource::Sigpending, 64),
        (Resource::Nice, 0),
        (Resource::Rtprio, 0),
    ];
    Policy {
        name: Cow::Borrowed("vmm"),
        digest: Cow::Borrowed(""),
        namespaces: Cow::Borrowed(&Namespace::ALL),
        network: Network::None,
        filesystem: Filesystem::default(),
        capabilities: Default::default(),
        landlock: Landlock {
            // Forbids every path. What later ones add (4: TCP ports, 5: device ioctls, 6:
            // abstract sockets and signals) is forbidden where the kernel can, and by the
            // empty namespaces in any case.
            min_abi: 1,
            bind_tcp: List::default(),
            connect_tcp: List::default(),
            connect_any: false,
            ioctl_dev: false,
            scope_abstract_socket: true,
            scope_signal: true,
        },
        rlimits: rlimits
            .map(|(resource, value)| RlimitValue { resource, value })
            .to_vec()
            .into(),
        cgroup: CgroupLimits {
            memory_bytes: Some(limits.memory_bytes),
            swap_bytes: Some(0),
            cpu_millis: Some(limits.cpu_millis),
            cpu_weight: None,
            pids: Some(limits.pids),
            io: List::default(),
        },
        wall_clock_ms: launch.timeout_ms,
        environment: Environment::default(),
        keep_fds: List::default(),
        devices: Cow::Borrowed(&[
            Device::Block,
            Device::Vsock,
            Device::Entropy,
            Device::Serial,
        ]),
        seccomp: None,
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
