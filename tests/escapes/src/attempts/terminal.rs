//! The operator's terminal, which is standard input for these attempts.

use super::attempt;
use crate::sys::reached;
use crate::{Attempt, call};

pub const ALL: &[Attempt] = &[
    attempt(
        "terminal-input",
        "type into the operator's terminal (TIOCSTI)",
        |_| reached(call!(libc::SYS_ioctl, 0, libc::TIOCSTI, &b"x"[..]), &[]),
    ),
    attempt(
        "terminal-input-high-bits",
        "the same, with high bits set in the command",
        |_| {
            // The kernel looks at 32 bits of it, a careless filter at 64.
            let command = libc::TIOCSTI | 1 << 32;
            reached(call!(libc::SYS_ioctl, 0, command, &b"x"[..]), &[])
        },
    ),
    attempt(
        "terminal-selection",
        "paste into the operator's console (TIOCLINUX)",
        |_| {
            // Only a virtual console has it; that it is asked at all is enough.
            reached(
                call!(libc::SYS_ioctl, 0, 0x541c, &b"\x03"[..]),
                &[libc::ENOTTY, libc::EINVAL],
            )
        },
    ),
    attempt(
        "terminal-of-its-session",
        "have the operator's terminal as its own",
        |_| {
            let mut session = [0; 4];
            reached(
                call!(libc::SYS_ioctl, 0, libc::TIOCGSID, &mut session[..]),
                &[],
            )
        },
    ),
    attempt(
        "terminal-by-path",
        "open the operator's terminal as /dev/tty",
        |_| {
            crate::sys::open("/dev/tty", libc::O_RDWR)?;
            Ok("it was opened".to_owned())
        },
    ),
];
