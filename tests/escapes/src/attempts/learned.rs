//! What the launcher or the host lets it know, or hands down to it.

use super::attempt;
use crate::sys::token;
use crate::{Attempt, Failure, bait, call};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

pub const ALL: &[Attempt] = &[
    attempt(
        "secret-variable",
        "find the launcher's secret in its environment",
        |bait| {
            let value = std::env::var_os(bait::VARIABLE).unwrap_or_default();
            token(bait, value.as_bytes())
        },
    ),
    attempt(
        "binary-variable",
        "the same, in a variable that is not UTF-8",
        |bait| {
            let found =
                std::env::vars_os().find(|(name, _)| name.as_bytes() == bait::BINARY_VARIABLE);
            token(bait, found.unwrap_or_default().1.as_bytes())
        },
    ),
    attempt("host-name", "learn the host's name", |bait| {
        let mut name = [0; 65 * 6];
        call!(libc::SYS_uname, &mut name[..])?;
        let node = &name[65..130];
        let end = node.iter().position(|&b| b == 0).unwrap_or(node.len());
        match node[..end] == *bait.host_name.as_bytes() {
            true => Ok(bait.host_name.clone()),
            false => Err(Failure::Nothing("another name".to_owned())),
        }
    }),
    attempt("host-uptime", "learn for how long the host is up", |_| {
        // sysinfo(2) and the clocks tell of the time namespace; 60 s is no host's age.
        let mut now = [0; 16];
        call!(libc::SYS_clock_gettime, libc::CLOCK_BOOTTIME, &mut now[..])?;
        let seconds = i64::from_ne_bytes(now[..8].try_into().unwrap_or_default());
        match seconds > 60 {
            true => Ok(format!("{seconds} s")),
            false => Err(Failure::Nothing("it was just started".to_owned())),
        }
    }),
    attempt(
        "host-cgroup-path",
        "learn its place in the host's cgroup tree",
        |_| {
            let text = std::fs::read_to_string("/proc/self/cgroup")?;
            match text.lines().find(|line| !line.ends_with(":/")) {
                Some(line) => Ok(line.to_owned()),
                None => Err(Failure::Nothing(
                    "it is the root of what it sees".to_owned(),
                )),
            }
        },
    ),
    attempt(
        "host-owners",
        "learn whose a shared file is on the host",
        |bait| {
            let owner = std::fs::metadata(bait.ro.join("escape"))?.uid();
            match owner {
                0 => Ok("root's".to_owned()),
                other => Err(Failure::Nothing(format!("it seems to be {other}'s"))),
            }
        },
    ),
    attempt(
        "shared-memory",
        "attach to shared memory of the host's",
        |bait| {
            let address = call!(libc::SYS_shmat, bait.shm, 0, libc::SHM_RDONLY)?;
            let mut bytes = vec![0u8; bait.token.len()];
            // SAFETY: attached above, and as long as a page.
            unsafe {
                std::ptr::copy_nonoverlapping(
                    address as *const u8,
                    bytes.as_mut_ptr(),
                    bytes.len(),
                );
            }
            token(bait, &bytes)
        },
    ),
    attempt(
        "inherited-umask",
        "make files that everybody may write",
        |_| {
            let mask = call!(libc::SYS_umask, 0o777)?;
            match mask & 0o022 {
                0o022 => Err(Failure::Nothing(format!("umask {mask:03o}"))),
                _ => Ok(format!("umask {mask:03o}")),
            }
        },
    ),
    attempt(
        "inherited-signals",
        "have signals blocked or ignored by the launcher",
        |_| {
            let mut blocked = [0; 8];
            call!(libc::SYS_rt_sigprocmask, 0, 0, &mut blocked[..], 8)?;
            let mut action = [0; 32];
            call!(libc::SYS_rt_sigaction, libc::SIGUSR2, 0, &mut action[..], 8)?;
            let ignored = u64::from_ne_bytes(action[..8].try_into().unwrap_or_default()) == 1;
            match blocked != [0; 8] || ignored {
                true => Ok("some are".to_owned()),
                false => Err(Failure::Nothing("all are as they should be".to_owned())),
            }
        },
    ),
    attempt("inherited-session", "be in the launcher's session", |_| {
        let session = call!(libc::SYS_getsid, 0)?;
        let own = [call!(libc::SYS_getpid)?, call!(libc::SYS_getppid)?, 1];
        match session != 0 && own.contains(&session) {
            true => Err(Failure::Nothing("a session of the jail's".to_owned())),
            false => Ok(format!("session {session}")),
        }
    }),
    attempt("shared-core", "run on a core with others beside it", |_| {
        // PR_SCHED_CORE, PR_SCHED_CORE_GET; a cookie of its own is not 0.
        let mut cookie = [0; 8];
        match call!(libc::SYS_prctl, 62, 0, 0, 0, &mut cookie[..]) {
            Ok(_) if cookie == [0; 8] => Ok("it has no cookie".to_owned()),
            Ok(_) => Err(Failure::Nothing("it has a cookie of its own".to_owned())),
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => Err(Failure::Absent(
                "the kernel has no core scheduling".to_owned(),
            )),
            Err(e) => Err(e.into()),
        }
    }),
];
