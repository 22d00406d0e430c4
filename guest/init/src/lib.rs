//! The init that runs inside the guest.
//!
//! It is the guest's side of [`casemate_proto::agent`]; neither the VMM nor the
//! host trusts it. Its life, one module a step:
//!
//! ```text
//! kernel starts /init of the initramfs
//!   boot::early    /dev /proc /sys
//!   boot::modules  kernel modules for disks, vsock and the root's format
//!   boot::root     /dev/vda read-only, under an overlay in memory; becomes /
//!   boot::furnish  what programs expect: /dev/pts, /dev/shm, /run, /tmp, lo, host name
//!   vsock          control connection, Hello
//!   session        Exec: streams, program, signals, exit status
//!   power          wait for the host to stop the VM; reset if it is gone
//! ```
//!
//! [`session`] works on any connected sockets, so tests run it as the first
//! process of a pid namespace.

pub mod boot;
pub mod clock;
pub mod console;
pub mod power;
pub mod session;
pub mod vsock;

use casemate_proto::agent::PORT_CONTROL;
use session::control::Control;

/// Runs as the guest's first process. Never returns: ends in a reset.
pub fn pid1() -> ! {
    let entered = clock::since_boot_us();
    power::reset_on_panic();
    let booted = boot::boot();
    let control = vsock::connect(PORT_CONTROL).map(Control::new);
    match (booted, control) {
        (Ok(()), Ok(Ok(mut control))) => {
            let up = session::Timing {
                kernel_us: entered,
                init_us: clock::since_boot_us().saturating_sub(entered),
            };
            if let Err(e) = session::run(&mut control, up, &mut vsock::connect) {
                console::say(&format!("session: {e}"));
            }
        }
        (Err(e), Ok(Ok(mut control))) => {
            console::say(&e.to_string());
            if let Err(e) = control.send_broken(&e.to_string()) {
                console::say(&format!("cannot tell the host: {e}"));
            }
            control.wait_closed();
        }
        (booted, Ok(Err(e)) | Err(e)) => {
            if let Err(e) = booted {
                console::say(&e.to_string());
            }
            console::say(&format!("vsock to the host: {e}"));
        }
    }
    power::reset()
}
