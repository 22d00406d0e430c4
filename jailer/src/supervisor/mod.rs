//! The supervisor: builds one cell, watches it, and takes it away.
//!
//! ```text
//! receive Launch ── check ── lock id ── reap stale ── slot ── journal ── clone3 ── cgroup
//!      │                                                                             │
//!      ▼ every failure: undo, Refused                                  child: the layers, exec
//! Configure ── Ready ── read back ── Go, Running ── watch ── kill ── undo ── Ended
//! ```

mod start;
mod watch;

use crate::own;
use crate::refusal::Refusal;
use casemate_proto::cell::{FromJailer, JAILER_SOCKET, ToJailer};
use casemate_proto::seqpacket;
use nix::sys::socket::{SockType, getsockopt, sockopt};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

/// Exit status after a refusal.
pub const REFUSED: u8 = 125;

/// Serves the CLI at [`JAILER_SOCKET`]: one cell from its launch to its end. Returns the
/// process' exit status. `entered_us` is when `main` was entered.
pub fn supervise(entered_us: u64) -> u8 {
    // SAFETY: the fd is the one that our starter left us; nothing else in this process
    // knows of it. If it is not open, the next call fails and the process ends.
    let cli = unsafe { OwnedFd::from_raw_fd(JAILER_SOCKET) };
    if getsockopt(&cli, sockopt::SockType) != Ok(SockType::SeqPacket) {
        std::mem::forget(cli);
        eprintln!(
            "casemate-jailer: fd {JAILER_SOCKET} is no SOCK_SEQPACKET socket; \
             `casemate run` starts the jailer, do not start it by hand"
        );
        return REFUSED;
    }
    match serve(&cli, entered_us) {
        Ok(Some(ended)) => {
            tell(&cli, &ended);
            0
        }
        Ok(None) => 0,
        Err(refusal) => {
            tell(&cli, &refusal.into());
            REFUSED
        }
    }
}

/// `None`: the CLI went away before it asked for anything.
fn serve(cli: &OwnedFd, entered_us: u64) -> Result<Option<FromJailer>, Refusal> {
    let signals = own::take_signals()?;
    let (launch, fds) = match seqpacket::recv::<ToJailer>(cli.as_fd()) {
        Ok(Some((ToJailer::Launch(launch), fds))) => (*launch, fds),
        Ok(Some((ToJailer::Stop, _))) | Ok(None) => return Ok(None),
        Err(e) => {
            return Err(Refusal::new(format!(
                "the launch does not decode ({e}): use `casemate` and `casemate-jailer` of \
                 the same release"
            )));
        }
    };
    let watch = watch::Watch::new(cli.as_fd(), signals, launch.timeout_ms);
    start::start(watch, launch, fds, entered_us).map(Some)
}

/// Sends one message. A CLI that is gone has no use for it.
fn tell(cli: &OwnedFd, message: &FromJailer) {
    let _ = seqpacket::send(cli.as_fd(), message, &[]);
}
