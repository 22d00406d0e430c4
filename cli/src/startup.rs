//! What must be seen before the runtime starts: which of the standard streams
//! are closed, and when the process began.
//!
//! Rust's runtime opens `/dev/null` in place of any of the fds 0, 1 and 2 that
//! it finds closed, before `main`. A program whose output silently goes nowhere
//! is not what the user asked for, so we look first: the C library calls the
//! functions listed in the section `.init_array` before it calls the entry
//! point of the runtime.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

static CLOSED: AtomicU8 = AtomicU8::new(0);
static STARTED_US: AtomicU64 = AtomicU64::new(0);

extern "C" fn look() {
    let mut closed = 0;
    for fd in 0..3 {
        // SAFETY: F_GETFD takes no further argument and changes nothing.
        if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
            closed |= 1 << fd;
        }
    }
    CLOSED.store(closed, Ordering::Relaxed);
    STARTED_US.store(casemate_cli::clock::now_us(), Ordering::Relaxed);
}

// SAFETY: the section holds pointers to functions without arguments or result (the
// C library passes argc, argv and envp, which the calling convention lets be ignored);
// `look` makes two system calls and needs nothing of the runtime.
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;

/// What was seen.
pub fn seen() -> casemate_cli::Startup {
    let closed = CLOSED.load(Ordering::Relaxed);
    casemate_cli::Startup {
        closed: std::array::from_fn(|fd| closed & (1 << fd) != 0),
        started_us: STARTED_US.load(Ordering::Relaxed),
    }
}
