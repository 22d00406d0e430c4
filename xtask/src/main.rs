//! Project chores: test-bed, demo, tests, kernels.

mod binaries;
mod compare;
mod demo;
mod deny;
mod guest_kernel;
mod phases;
mod test;
mod testbed;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Project chores. Everything built outside `target/` goes to a cache folder:
/// $CASEMATE_CACHE, else $XDG_CACHE_HOME/casemate, else ~/.cache/casemate.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Run a command on a KVM host emulated by QEMU, with this checkout's binaries in its PATH
    Testbed(testbed::Arguments),
    /// Build the lean guest kernel from Debian's source and print where it is
    GuestKernel,
    /// Build everything and run a Python program in a Debian guest, end to end
    Demo,
    /// Measure the phases of a start, freestanding guest and Linux guest
    Phases(phases::Arguments),
    /// Make the same escape attempts under Casemate's jail and under others, and write the table
    Compare(compare::Arguments),
    /// Run every check and test, list what was skipped, and count
    Test(test::Arguments),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().chore {
        Chore::Testbed(arguments) => testbed::main(arguments),
        Chore::GuestKernel => guest_kernel::main(),
        Chore::Demo => demo::main(),
        Chore::Phases(arguments) => phases::main(&arguments),
        Chore::Compare(arguments) => compare::main(&arguments),
        Chore::Test(arguments) => test::main(&arguments),
    };
    done.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::from(125)
    })
}
