//! Becoming somebody else, or more.

use super::attempt;
use crate::sys::{any, reached, text, words};
use crate::{Attempt, Bait, Failure, Tried, call};
use std::process::{Command, ExitCode};

pub const ALL: &[Attempt] = &[
    attempt("setuid-0", "become root by setuid", |_| {
        call!(libc::SYS_setuid, 0)?;
        hosts_root()
    }),
    attempt("setresuid-0", "become root by setresuid", |_| {
        call!(libc::SYS_setresuid, 0, 0, 0)?;
        hosts_root()
    }),
    attempt("setgid-0", "take root's group", |_| {
        call!(libc::SYS_setgid, 0)?;
        mapped_to_root("/proc/self/gid_map")
    }),
    attempt("setgroups-0", "take root's groups", |_| {
        call!(libc::SYS_setgroups, 1, &[0u8; 4][..])?;
        mapped_to_root("/proc/self/gid_map")
    }),
    attempt("setfsuid-0", "reach files as root by setfsuid", |_| {
        call!(libc::SYS_setfsuid, 0)?;
        match call!(libc::SYS_setfsuid, -1)? {
            0 => hosts_root(),
            _ => Err(Failure::Errno(libc::EPERM)),
        }
    }),
    attempt(
        "setuid-program",
        "gain root by a set-user-id program",
        |bait| rights_of(bait, "escape-setuid", "uid=0"),
    ),
    attempt(
        "setgid-program",
        "gain root's group by a set-group-id program",
        |bait| rights_of(bait, "escape-setgid", "gid=0"),
    ),
    attempt(
        "capable-program",
        "gain a capability by a program that has it",
        |bait| rights_of(bait, "escape-capable", "chroot=yes"),
    ),
    attempt("capset", "raise a capability", |_| {
        // Version 3, this process; all bits, effective, permitted and inheritable.
        let header = words(&[0x2008_0522]);
        let mut last = Ok(0);
        for bit in 0..41u64 {
            let mut data = [0u8; 24];
            let at = if bit < 32 { 0 } else { 12 };
            for set in 0..3 {
                let at = at + set * 4;
                data[at..at + 4].copy_from_slice(&(1u32 << (bit % 32)).to_ne_bytes());
            }
            last = call!(libc::SYS_capset, &header[..], &data[..]);
            if last.is_ok() {
                break;
            }
        }
        reached(last, &[])
    }),
    attempt(
        "bounding-set",
        "have a capability left that a program could give",
        |_| {
            any((0..41).map(|bit| {
                match call!(libc::SYS_prctl, libc::PR_CAPBSET_READ, bit, 0, 0, 0)? {
                    1 => Ok(format!("capability {bit} is left")),
                    _ => Err(Failure::Nothing("none is left".to_owned())),
                }
            }))
        },
    ),
    attempt("capabilities-held", "have a capability", |_| {
        let header = words(&[0x2008_0522]);
        let mut data = [0; 24];
        call!(libc::SYS_capget, &header[..], &mut data[..])?;
        match data.iter().any(|&byte| byte != 0) {
            true => Ok("there are some".to_owned()),
            false => Err(Failure::Nothing("there is none".to_owned())),
        }
    }),
    attempt(
        "new-privileges",
        "be open to new privileges by exec",
        |_| match call!(libc::SYS_prctl, libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)? {
            0 => Ok("no_new_privs is not set".to_owned()),
            _ => Err(Failure::Nothing("no_new_privs is set".to_owned())),
        },
    ),
    attempt("raise-rlimits", "raise a hard limit", |_| {
        any((0..16).map(|resource| {
            let mut limit = [0; 16];
            call!(libc::SYS_prlimit64, 0, resource, 0, &mut limit[..])?;
            let hard = u64::from_ne_bytes(limit[8..].try_into().unwrap_or_default());
            if hard == u64::MAX {
                return Err(Failure::Nothing("there is no limit".to_owned()));
            }
            let more = words(&[
                u64::from_ne_bytes(limit[..8].try_into().unwrap_or_default()),
                hard + 1,
            ]);
            reached(call!(libc::SYS_prlimit64, 0, resource, &more[..], 0), &[])
        }))
    }),
    attempt("raise-priority", "run before everything else", |_| {
        reached(call!(libc::SYS_setpriority, 0, 0, -20), &[])
    }),
    attempt("real-time", "run in real time", |_| {
        const FIFO: i32 = 1;
        reached(
            call!(
                libc::SYS_sched_setscheduler,
                0,
                FIFO,
                &1u32.to_ne_bytes()[..]
            ),
            &[],
        )
    }),
    attempt("oom-exempt", "be spared when memory is short", |_| {
        std::fs::write("/proc/self/oom_score_adj", "-1000")?;
        Ok("it is spared".to_owned())
    }),
];

/// Root is the host's root only where it is mapped to it.
fn hosts_root() -> Tried {
    mapped_to_root("/proc/self/uid_map")
}

fn mapped_to_root(map: &str) -> Tried {
    let Ok(text) = std::fs::read_to_string(map) else {
        // It is 0, and nothing says of which namespace.
        return Ok("it is 0".to_owned());
    };
    let outside = text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("0")).then(|| words.next().unwrap_or_default().to_owned())
    });
    match outside.as_deref() {
        Some("0") => Ok("it is the host's 0".to_owned()),
        _ => Err(Failure::Nothing("it is not the host's 0".to_owned())),
    }
}

/// Runs a copy of this program and looks what it was given.
fn rights_of(bait: &Bait, program: &str, wanted: &str) -> Tried {
    let output = Command::new(bait.ro.join(program))
        .arg("show-rights")
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    match said.split_whitespace().any(|word| word == wanted) {
        true => Ok(said.trim().to_owned()),
        false => Err(Failure::Nothing(format!(
            "{} {}",
            said.trim(),
            output.status
        ))),
    }
}

/// Says who it is, and whether it may call chroot, as words.
pub fn show_rights() -> ExitCode {
    let id = |call: libc::c_long| crate::sys::call(call, []).unwrap_or(-1);
    let root = text("/");
    let chroot = match call!(libc::SYS_chroot, root.as_c_str()) {
        Ok(_) => "yes",
        Err(_) => "no",
    };
    let (uid, gid) = (id(libc::SYS_geteuid), id(libc::SYS_getegid));
    println!("uid={uid} gid={gid} chroot={chroot}");
    ExitCode::SUCCESS
}
