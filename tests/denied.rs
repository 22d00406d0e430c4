//! From inside the threads of a live VMM, with its guest running: whatever a thread that was
//! taken over might ask of the kernel ends the VMM. A debugger makes the calls, in the
//! thread, with the shipped programs as they are.

mod denied {
    pub mod inject;
}

use casemate_tests::cell::{self, Mode};
use casemate_tests::proc::Process;
use denied::inject::{Outcome, inject};
use std::time::Duration;

/// The thread of each class that a cell with a disk has.
const THREADS: [&str; 5] = ["main", "vcpu0", "blk0", "vsock", "rng"];

/// An fd of the VM, one of a vCPU, one of an event: those that the threads do have.
const VM: u64 = casemate_proto::fds::VM as u64;
const VCPU: u64 = casemate_proto::fds::VCPU_BASE as u64;
const CONTROL: u64 = casemate_proto::fds::CONTROL as u64;
/// `KVM_CREATE_VCPU`, `KVM_SET_MSRS`, `KVM_RUN`.
const KVM_CREATE_VCPU: u64 = 0xae41;
const KVM_SET_MSRS: u64 = 0x4008_ae89;
const KVM_RUN: u64 = 0xae80;

/// Calls that no thread of a VMM whose guest runs may make.
const DENIED: &[(i64, [u64; 3])] = &[
    (libc::SYS_open, [0, 0, 0]),
    (libc::SYS_openat, [u64::MAX, 0, 0]),
    (libc::SYS_openat2, [u64::MAX, 0, 0]),
    (libc::SYS_execve, [0, 0, 0]),
    (libc::SYS_execveat, [0, 0, 0]),
    (libc::SYS_fork, [0, 0, 0]),
    (libc::SYS_vfork, [0, 0, 0]),
    (libc::SYS_clone, [0x3d_0f00, 0, 0]),
    (libc::SYS_clone, [libc::CLONE_NEWUSER as u64, 0, 0]),
    (libc::SYS_clone3, [0, 0, 0]),
    (libc::SYS_unshare, [libc::CLONE_NEWUSER as u64, 0, 0]),
    (libc::SYS_setns, [CONTROL, 0, 0]),
    (libc::SYS_socket, [1, 1, 0]),
    (libc::SYS_socketpair, [1, 1, 0]),
    (libc::SYS_connect, [CONTROL, 0, 0]),
    (libc::SYS_ptrace, [16, 1, 0]),
    (libc::SYS_process_vm_readv, [1, 0, 0]),
    (libc::SYS_process_vm_writev, [1, 0, 0]),
    (libc::SYS_pidfd_open, [1, 0, 0]),
    (libc::SYS_pidfd_getfd, [CONTROL, 0, 0]),
    (libc::SYS_kill, [1, 0, 0]),
    (libc::SYS_tgkill, [1, 1, libc::SIGKILL as u64]),
    (libc::SYS_mount, [0, 0, 0]),
    (libc::SYS_umount2, [0, 0, 0]),
    (libc::SYS_pivot_root, [0, 0, 0]),
    (libc::SYS_chroot, [0, 0, 0]),
    (libc::SYS_fsopen, [0, 0, 0]),
    (libc::SYS_open_by_handle_at, [u64::MAX, 0, 0]),
    (libc::SYS_name_to_handle_at, [u64::MAX, 0, 0]),
    (libc::SYS_bpf, [0, 0, 0]),
    (libc::SYS_userfaultfd, [0, 0, 0]),
    (libc::SYS_io_uring_setup, [1, 0, 0]),
    (libc::SYS_perf_event_open, [0, 0, 0]),
    (libc::SYS_kexec_load, [0, 0, 0]),
    (libc::SYS_finit_module, [CONTROL, 0, 0]),
    (libc::SYS_init_module, [0, 0, 0]),
    (libc::SYS_keyctl, [0, 0, 0]),
    (libc::SYS_add_key, [0, 0, 0]),
    (libc::SYS_request_key, [0, 0, 0]),
    (libc::SYS_setuid, [0, 0, 0]),
    (libc::SYS_capset, [0, 0, 0]),
    (libc::SYS_prctl, [libc::PR_SET_DUMPABLE as u64, 1, 0]),
    (libc::SYS_seccomp, [1, 0, 0]),
    (libc::SYS_personality, [0x4_0000, 0, 0]),
    (libc::SYS_mprotect, [0, 4096, 4]),
    (libc::SYS_mmap, [0, 4096, 7]),
    (libc::SYS_memfd_create, [0, 0, 0]),
    (libc::SYS_dup2, [CONTROL, 0, 0]),
    (libc::SYS_ioctl, [VM, KVM_CREATE_VCPU, 5]),
    (libc::SYS_ioctl, [VM, KVM_RUN, 0]),
    (libc::SYS_ioctl, [VCPU, KVM_SET_MSRS, 0]),
    (libc::SYS_ioctl, [VCPU + 1, KVM_RUN, 0]),
    (libc::SYS_ioctl, [0, libc::TIOCSTI, 0]),
    (libc::SYS_getuid, [0, 0, 0]),
    // x32's getpid.
    (libc::SYS_getpid | 0x4000_0000, [0, 0, 0]),
];

fn thread(vmm: Process, name: &str) -> i32 {
    let threads = vmm.threads();
    let found = threads.iter().find(|(_, known)| known == name);
    found
        .unwrap_or_else(|| panic!("no thread {name} in {threads:?}"))
        .0
}

fn denied_to(name: &str) {
    for &(number, args) in DENIED {
        let mut guest = cell::start(Mode::Idle, &[]);
        let outcome = inject(thread(guest.vmm(), name), number, args);
        let what = format!("{name}: call {number:#x} with {args:x?}");
        assert_eq!(outcome, Outcome::Killed(libc::SIGSYS), "{what}");
        assert_eq!(guest.wait(Duration::from_secs(20)), 123, "{what}");
    }
}

#[test]
fn to_the_control_thread() {
    denied_to("main");
}

#[test]
fn to_a_vcpu() {
    denied_to("vcpu0");
}

#[test]
fn to_a_block_worker() {
    denied_to("blk0");
}

#[test]
fn to_the_vsock_worker() {
    denied_to("vsock");
}

#[test]
fn to_the_entropy_worker() {
    denied_to("rng");
}

#[test]
fn a_call_that_is_allowed_returns_and_the_vmm_lives() {
    let guest = cell::start(Mode::Idle, &[]);
    for name in THREADS {
        let vmm = guest.vmm();
        let outcome = inject(thread(vmm, name), libc::SYS_getpid, [0; 3]);
        // In a pid namespace of its own, whose first process it is.
        assert_eq!(outcome, Outcome::Returned(1), "{name}");
        assert!(vmm.alive(), "{name}");
    }
    guest.stop();
}
