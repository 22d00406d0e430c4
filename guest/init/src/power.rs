//! The end of the guest.

use crate::console;
use nix::sys::reboot::{RebootMode, reboot};
use std::time::Duration;

/// Resets the machine, which the VMM sees as the end of the guest.
///
/// There is nothing to sync: all that can be written is in memory.
pub fn reset() -> ! {
    let Err(error) = reboot(RebootMode::RB_AUTOBOOT);
    console::say(&format!("reboot: {error}"));
    loop {
        std::thread::sleep(Duration::MAX);
    }
}

/// Makes a panic say where it happened and reset, instead of the kernel's
/// "attempted to kill init".
pub fn reset_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        console::say(&format!("panic: {panic}"));
        reset();
    }));
}
