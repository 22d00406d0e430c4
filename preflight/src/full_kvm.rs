//! Whether this KVM can run a guest's kernel: it runs a few.
//!
//! Some hosts give a `/dev/kvm` that runs ring 3 and interprets ring 0 with the
//! host kernel's small instruction emulator. Every stock kernel dies on such a
//! KVM, after seconds of silence. A throw-away VM of 64 KiB therefore runs, in
//! 64-bit ring 0, instructions that the emulator does not know and a CPU does
//! (arch/x86/kvm/emulate.c: interrupts in protected mode, `cmpxchg16b`, `xrstor`).

mod guest;
mod watchdog;

use guest::{Guest, STEPS};
use kvm_bindings::KVM_MAX_CPUID_ENTRIES;
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd};
use std::time::Duration;

/// Longest time the guest may run, not counting that in which the host had no processor
/// for it. A full KVM takes microseconds, one nested in an emulator a few milliseconds;
/// the rest is for a host that is itself a guest on a busy machine and cannot tell.
const LIMIT: Duration = Duration::from_millis(750);

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// All instructions did what they should.
    Full {
        /// Their names.
        instructions: Vec<&'static str>,
    },
    /// `KVM_RUN` gave up.
    Stopped {
        /// The instruction.
        at: &'static str,
        /// The exit, in the words of the KVM API.
        how: String,
    },
    /// The guest did not end.
    Hung {
        /// How long it had.
        limit: Duration,
    },
    /// The VM could not be made.
    Unbuilt {
        /// What failed and why.
        what: String,
    },
}

/// Runs the guest, for [`LIMIT`] at most.
pub fn probe(kvm: &Kvm) -> Verdict {
    let mut guest = match build(kvm) {
        Ok(guest) => guest,
        Err(what) => return Verdict::Unbuilt { what },
    };
    let verdict = watchdog::run(LIMIT, move || {
        let how = run(&mut guest.vcpu);
        judge(&guest, how)
    });
    match verdict {
        Ok(Some(verdict)) => verdict,
        Ok(None) => Verdict::Hung { limit: LIMIT },
        Err(e) => Verdict::Unbuilt {
            what: format!("its watchdog could not be started ({e})"),
        },
    }
}

fn build(kvm: &Kvm) -> Result<Guest, String> {
    let failed = |call: &'static str| move |e| format!("{call} failed ({e})");
    let vm = kvm.create_vm().map_err(failed("KVM_CREATE_VM"))?;
    let cpuid = kvm
        .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
        .map_err(failed("KVM_GET_SUPPORTED_CPUID"))?;
    Guest::build(vm, &cpuid)
}

/// Runs to the guest's `hlt`; anything else is an error in words.
fn run(vcpu: &mut VcpuFd) -> Result<(), String> {
    let exit = match vcpu.run() {
        Ok(VcpuExit::Hlt) => return Ok(()),
        Ok(VcpuExit::InternalError) => None,
        Ok(VcpuExit::Shutdown) => Some("KVM_EXIT_SHUTDOWN (triple fault)".to_owned()),
        Ok(VcpuExit::FailEntry(reason, _)) => {
            Some(format!("KVM_EXIT_FAIL_ENTRY (reason {reason:#x})"))
        }
        Ok(other) => Some(format!("an unexpected exit ({other:?})")),
        Err(e) => Some(format!("an error ({e})")),
    };
    Err(exit.unwrap_or_else(|| {
        // SAFETY: after KVM_EXIT_INTERNAL_ERROR the kernel has filled in `internal`,
        // and every bit pattern of its integers is valid.
        let suberror = unsafe { vcpu.get_kvm_run().__bindgen_anon_1.internal.suberror };
        let meaning = match suberror {
            1 => ", an instruction it would have to emulate",
            _ => "",
        };
        format!("KVM_EXIT_INTERNAL_ERROR (suberror {suberror}{meaning})")
    }))
}

fn judge(guest: &Guest, run: Result<(), String>) -> Verdict {
    let at = guest.instruction();
    match run {
        Err(how) => Verdict::Stopped { at, how },
        Ok(()) => match guest.wrong_result() {
            Some(at) => Verdict::Stopped {
                at,
                how: "a wrong result".to_owned(),
            },
            None => Verdict::Full {
                instructions: STEPS
                    .iter()
                    .filter(|step| guest.has(step))
                    .map(|step| step.name)
                    .collect(),
            },
        },
    }
}
