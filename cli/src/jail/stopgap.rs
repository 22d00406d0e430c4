//! The built-in policy, until policies are compiled for jails.

use casemate_policy::{
    CgroupLimits, Environment, Filesystem, Filter, Instruction, Landlock, List, Mount, MountKind,
    Namespace, Network, Policy, Proc, Resource, RlimitValue,
};
use std::borrow::Cow;
use std::ffi::OsStr;

/// The only one there is.
pub fn policy(name: &OsStr) -> Result<Policy, String> {
    if name != "default" {
        return Err(format!(
            "--policy {name:?} is not known: there is \"default\""
        ));
    }
    let ro = |path: &'static str| Mount {
        kind: MountKind::Ro,
        host: Cow::Borrowed(path),
        jail: Cow::Borrowed(path),
        optional: true,
    };
    Ok(Policy {
        name: "default".into(),
        digest: "".into(),
        namespaces: Cow::Borrowed(&Namespace::ALL),
        network: Network::None,
        filesystem: Filesystem {
            mounts: vec![
                ro("/usr"),
                ro("/bin"),
                ro("/sbin"),
                ro("/lib"),
                ro("/lib64"),
                Mount {
                    kind: MountKind::Tmpfs { bytes: 64 << 20 },
                    host: "".into(),
                    jail: "/tmp".into(),
                    optional: false,
                },
            ]
            .into(),
            proc: Proc::None,
            dev: true,
        },
        capabilities: Default::default(),
        landlock: Landlock {
            min_abi: 1,
            bind_tcp: List::default(),
            connect_tcp: List::default(),
            connect_any: false,
            ioctl_dev: false,
            scope_abstract_socket: true,
            scope_signal: true,
        },
        rlimits: [
            (Resource::Core, 1),
            (Resource::Nofile, 1024),
            (Resource::Memlock, 0),
            (Resource::Msgqueue, 0),
            (Resource::Nice, 0),
            (Resource::Rtprio, 0),
        ]
        .map(|(resource, value)| RlimitValue { resource, value })
        .to_vec()
        .into(),
        cgroup: CgroupLimits {
            memory_bytes: Some(256 << 20),
            swap_bytes: Some(0),
            cpu_millis: Some(1000),
            cpu_weight: None,
            pids: Some(64),
            io: List::default(),
        },
        wall_clock_ms: None,
        environment: Environment {
            keep: List::default(),
            set: vec![(
                "PATH".into(),
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into(),
            )]
            .into(),
        },
        keep_fds: List::default(),
        devices: List::default(),
        seccomp: Some(filter()),
    })
}

/// Kills foreign numbers, refuses what reaches the host's kernel, allows the rest.
fn filter() -> Filter {
    let op = |code: u32, jt, jf, k| Instruction {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let refused = [
        libc::SYS_ptrace,
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_clone3,
        libc::SYS_bpf,
        libc::SYS_userfaultfd,
        libc::SYS_io_uring_setup,
        libc::SYS_perf_event_open,
        libc::SYS_kexec_load,
        libc::SYS_init_module,
        libc::SYS_finit_module,
        libc::SYS_delete_module,
        libc::SYS_keyctl,
        libc::SYS_add_key,
        libc::SYS_request_key,
    ];
    let mut program = vec![
        op(load, 0, 0, 4),
        op(libc::BPF_JMP | libc::BPF_JEQ, 1, 0, 0xc000_003e),
        op(libc::BPF_RET, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
        op(load, 0, 0, 0),
        op(libc::BPF_JMP | libc::BPF_JGE, 0, 1, 0x4000_0000),
        op(libc::BPF_RET, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
    ];
    for (at, call) in refused.into_iter().enumerate() {
        let over = (refused.len() - at) as u8;
        program.push(op(libc::BPF_JMP | libc::BPF_JEQ, over, 0, call as u32));
    }
    program.push(op(libc::BPF_RET, 0, 0, libc::SECCOMP_RET_ALLOW));
    let refuse = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    program.push(op(libc::BPF_RET, 0, 0, refuse));
    Filter {
        program: program.into(),
    }
}
