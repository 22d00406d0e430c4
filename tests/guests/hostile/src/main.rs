//! A guest that drives every device, first properly and then in every wrong way.
//!
//! `hostile=list` on its command line has it print its catalogue of attacks; `hostile=CLASS:FROM:COUNT`
//! has it carry out some attacks of a class, one after another. What it says for
//! each on the serial port, and what the host does:
//!
//! ```text
//! begin NAME               the attack begins; it may be the end of this guest
//! rest NAME OUTCOME        it has had its effect: the host looks at the VMM, then
//!                          writes to this guest's memory at MAILBOX
//! end NAME ok | REASON     all devices work, after a reset where one was due
//! done                     that was the last
//! ```

#![no_std]
#![no_main]

mod attacks;
mod bench;
mod driver;
mod outcome;

use attacks::{Attack, CLASSES};
use bench::Bench;
use casemate_guest_base::boot::ZeroPage;
use casemate_guest_base::serial::Serial;
use casemate_guest_base::{die, halt, peek, wait};
use core::fmt::Write;
use outcome::Outcome;

/// Where the host writes the number of the attack that may go on.
const MAILBOX: u64 = 0xf0_0000;

/// Entered in user mode by the base's `entry.s`.
///
/// # Safety
/// `zero_page` points to Linux's `struct boot_params`, mapped and not changing.
#[unsafe(no_mangle)]
unsafe extern "C" fn user_main(zero_page: *const u8) -> ! {
    // SAFETY: by this function's own contract.
    let zero_page = unsafe { ZeroPage::new(zero_page) };
    let order = zero_page
        .cmdline()
        .split(|&byte| byte == b' ')
        .find_map(|word| word.strip_prefix(b"hostile="));
    let order = core::str::from_utf8(order.unwrap_or_default()).unwrap_or_default();
    let mut words = order.split(':');
    let class = words.next().unwrap_or_default();
    let mut number = || words.next().and_then(|word| word.parse().ok());
    let (from, count) = (number().unwrap_or(0), number().unwrap_or(usize::MAX));
    if class == "list" {
        list();
    } else if let Some((_, attacks)) = CLASSES.iter().find(|(name, _)| *name == class) {
        carry_out(attacks.iter().skip(from).take(count));
    } else {
        let _ = writeln!(Serial, "no such class");
    }
    let _ = writeln!(Serial, "done");
    halt()
}

/// Prints the catalogue: a line an attack.
fn list() {
    for (class, attacks) in CLASSES {
        for attack in *attacks {
            let _ = writeln!(
                Serial,
                "{class}|{}|{:?}|{}|{}",
                attack.name, attack.expected, attack.cpus, attack.what
            );
        }
    }
}

fn carry_out<'a>(attacks: impl Iterator<Item = &'a Attack>) {
    let mut bench = Bench::new();
    if let Err(wrong) = bench.start_all() {
        let _ = writeln!(Serial, "no drivers: {wrong}");
        return;
    }
    for (n, attack) in (1..).zip(attacks) {
        let _ = writeln!(Serial, "begin {}", attack.name);
        let outcome = (attack.run)(&mut bench);
        let _ = writeln!(Serial, "rest {} {outcome:?}", attack.name);
        if !wait(|| peek::<u32>(MAILBOX) == n) {
            let _ = writeln!(Serial, "end {} the host does not answer", attack.name);
            return;
        }
        bench.calm();
        let expected = match attack.expected {
            Outcome::Free => !matches!(outcome, Outcome::Wrong(_)),
            expected => outcome == expected,
        };
        let _ = match bench.check_all() {
            Err(wrong) => writeln!(Serial, "end {} {wrong}", attack.name),
            Ok(()) if !expected => writeln!(
                Serial,
                "end {} {outcome:?} instead of {:?}",
                attack.name, attack.expected
            ),
            Ok(()) => writeln!(Serial, "end {} ok", attack.name),
        };
    }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    let _ = writeln!(Serial, "hostile: {info}");
    die()
}
