//! From everything known of a run's end to its one outcome.

use crate::run::capture::{last_line, panic_line};
use crate::say::plain;
use casemate_proto::agent::{ExitedHow, StartError};
use casemate_proto::cell::VmEnd;
use casemate_proto::control::Ended;
use casemate_proto::status::Outcome;

/// Why the cell was to end, by the guest's account or ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// The program ended.
    Program(ExitedHow),
    /// The program did not start.
    NotStarted(StartError, i32),
    /// The guest could not be made ready.
    GuestBroken(String),
    /// The guest's init said what it must not.
    Violation(String),
    /// The guest's init went away, and the guest stayed.
    InitLost,
    /// A signal to us.
    Signal(u8),
}

/// Everything known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Over {
    /// The working directory that was asked for.
    pub workdir: String,
    /// The jailer refused, in these words.
    pub refused: Option<String>,
    /// How the VMM ended.
    pub vm: Option<VmEnd>,
    /// The time limit came before all output was there.
    pub cut_short: bool,
    /// Why the cell was to end.
    pub why: Option<Why>,
    /// Times the guest's OOM killer ran.
    pub oom_kills: u32,
    /// Output that could not be delivered.
    pub output_error: Option<String>,
    /// How talking to the supervisor failed.
    pub supervisor: Option<String>,
}

const SIGKILL: u8 = 9;
/// What a kernel prints that ends a process for want of memory (mm/oom_kill.c): for
/// kernels built without the counter that the init reads.
const OOM_LINE: &str = "Out of memory: Killed process";

impl Over {
    /// The outcome, with what the guest's console and the VMM's log said last.
    pub fn outcome(&self, console: &str, log: &str) -> Outcome {
        if let Some(message) = &self.refused {
            return own(message);
        }
        // A VMM that died may have been broken into: nothing the guest said counts.
        if let Some(VmEnd::Died { how }) = &self.vm {
            return vmm_death(how, log);
        }
        if self.cut_short {
            return Outcome::Timeout;
        }
        match (&self.why, &self.vm) {
            (Some(why), _) => self.by(why, console),
            (None, Some(end)) => of_vm(end, console, log),
            (None, None) => vmm_death(
                &match &self.supervisor {
                    Some(words) => format!("the supervisor is gone ({words})"),
                    None => "the supervisor is gone".to_owned(),
                },
                log,
            ),
        }
    }

    fn by(&self, why: &Why, console: &str) -> Outcome {
        match why {
            Why::Program(ExitedHow::Signal(SIGKILL))
                if self.oom_kills > 0 || console.contains(OOM_LINE) =>
            {
                Outcome::GuestOom
            }
            Why::Program(status) => match (&self.output_error, status) {
                (Some(error), _) => own(error),
                (None, ExitedHow::Code(code)) => Outcome::Exited { code: *code },
                (None, ExitedHow::Signal(signal)) => Outcome::Signaled { signal: *signal },
            },
            Why::NotStarted(error, errno) => {
                let detail = nix::errno::Errno::from_raw(*errno).desc().to_owned();
                match error {
                    StartError::NotFound => Outcome::NotFound { detail },
                    StartError::NotExecutable => Outcome::NotExecutable { detail },
                    StartError::Workdir => own(&format!(
                        "the working directory {:?} cannot be entered in the guest ({detail}): \
                         give one that the root has, with --workdir",
                        self.workdir
                    )),
                    StartError::Init => own(&format!(
                        "the guest's init failed before it came to the program ({detail})"
                    )),
                }
            }
            Why::GuestBroken(message) => own(&format!(
                "the guest could not be made ready: {}",
                plain(message)
            )),
            Why::Violation(words) => Outcome::GuestPanic {
                detail: plain(&format!("the guest's init broke the protocol: {words}")),
            },
            Why::InitLost => Outcome::GuestPanic {
                detail: plain(panic_line(console).unwrap_or("the guest's init went away")),
            },
            Why::Signal(signal) => Outcome::Signaled { signal: *signal },
        }
    }
}

fn of_vm(end: &VmEnd, console: &str, log: &str) -> Outcome {
    match end {
        VmEnd::Timeout => Outcome::Timeout,
        VmEnd::Died { how } => vmm_death(how, log),
        VmEnd::Stopped => vmm_death("stopped from outside", log),
        VmEnd::Itself { ended } => match ended {
            Ended::Refused { message } => own(message),
            Ended::Failed { message } => vmm_death(message, log),
            Ended::Reset => guest_gave_up("the guest reset before its program ended", console),
            Ended::TripleFault => guest_gave_up("the guest triple-faulted", console),
        },
    }
}

fn guest_gave_up(otherwise: &str, console: &str) -> Outcome {
    match panic_line(console) {
        Some(line) if line.contains("Out of memory") || line.contains("deadlocked on memory") => {
            Outcome::GuestOom
        }
        line => Outcome::GuestPanic {
            detail: plain(line.unwrap_or(otherwise)),
        },
    }
}

fn vmm_death(how: &str, log: &str) -> Outcome {
    Outcome::VmmDeath {
        detail: plain(&match last_line(log) {
            Some(line) => format!("{how}; its last words: {line}"),
            None => how.to_owned(),
        }),
    }
}

fn own(detail: &str) -> Outcome {
    Outcome::OwnFailure {
        detail: plain(detail),
    }
}

/// What was asked for, as far as words about its end need it.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The program, as it was given.
    pub program: &'a str,
    /// Guest memory.
    pub memory_mib: u32,
    /// The time limit, as it was given.
    pub timeout: &'a str,
}

/// What is said on standard error of an outcome that is not the program's own.
pub fn words(outcome: &Outcome, asked: &Asked<'_>) -> Option<String> {
    let Asked {
        program,
        memory_mib,
        timeout,
    } = asked;
    Some(match outcome {
        Outcome::Exited { .. } | Outcome::Signaled { .. } => return None,
        Outcome::GuestOom => format!(
            "the guest ran out of memory ({memory_mib} MiB) and ended the program: \
             give it more with --memory"
        ),
        Outcome::GuestPanic { detail } => {
            format!("the guest's kernel gave up: {detail}; --console FILE keeps all it said")
        }
        Outcome::VmmDeath { detail } => format!("the VMM died: {detail}"),
        Outcome::Timeout => format!("the time limit of {timeout} was reached (--timeout)"),
        Outcome::NotExecutable { detail } => {
            format!(
                "{program}: cannot be executed in the guest ({detail}): check its mode and format"
            )
        }
        Outcome::NotFound { detail } => format!(
            "{program}: not found in the guest ({detail}): check the name and the root (--rootfs)"
        ),
        Outcome::OwnFailure { detail } => detail.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vm(end: VmEnd) -> Over {
        Over {
            vm: Some(end),
            ..Over::default()
        }
    }

    fn why(why: Why) -> Over {
        Over {
            why: Some(why),
            vm: Some(VmEnd::Stopped),
            ..Over::default()
        }
    }

    fn itself(ended: Ended) -> Over {
        vm(VmEnd::Itself { ended })
    }

    #[test]
    fn every_end_has_its_status() {
        let died = VmEnd::Died {
            how: "killed by SIGSYS".into(),
        };
        let message = || "vmlinux: no".to_owned();
        for (over, status) in [
            (why(Why::Program(ExitedHow::Code(7))), 7),
            (why(Why::Program(ExitedHow::Signal(11))), 139),
            (why(Why::Signal(2)), 130),
            (why(Why::NotStarted(StartError::NotFound, 2)), 127),
            (why(Why::NotStarted(StartError::NotExecutable, 13)), 126),
            (why(Why::NotStarted(StartError::Workdir, 2)), 125),
            (why(Why::GuestBroken("no root".into())), 125),
            (why(Why::Violation("x".into())), 121),
            (why(Why::InitLost), 121),
            (itself(Ended::Reset), 121),
            (itself(Ended::TripleFault), 121),
            (itself(Ended::Refused { message: message() }), 125),
            (itself(Ended::Failed { message: message() }), 123),
            (vm(VmEnd::Timeout), 124),
            (vm(VmEnd::Stopped), 123),
            (vm(died.clone()), 123),
            (Over::default(), 123),
        ] {
            assert_eq!(over.outcome("", "").exit_status(), status, "{over:?}");
        }
        // A dead VMM outweighs what its guest said.
        let mut over = why(Why::Program(ExitedHow::Code(0)));
        over.vm = Some(died);
        assert_eq!(over.outcome("", "").exit_status(), 123);
    }

    #[test]
    fn oom_is_told_from_kill() {
        let mut over = why(Why::Program(ExitedHow::Signal(9)));
        assert_eq!(over.outcome("", "").exit_status(), 137);
        let line = "[ 34.6] Out of memory: Killed process 31 (sh) total-vm:149720kB";
        assert_eq!(over.outcome(line, "").exit_status(), 122);
        over.oom_kills = 1;
        assert_eq!(over.outcome("", "").exit_status(), 122);
        let panic = "Kernel panic - not syncing: System is deadlocked on memory";
        assert_eq!(itself(Ended::Reset).outcome(panic, "").exit_status(), 122);
    }

    #[test]
    fn lost_output_is_our_failure() {
        let mut over = why(Why::Program(ExitedHow::Code(0)));
        over.output_error = Some("standard output: No space left on device".into());
        assert_eq!(over.outcome("", "").exit_status(), 125);
    }

    #[test]
    fn last_words_are_part_of_the_detail() {
        let console = "[0] Kernel panic - not syncing: \x1b[2Jno init\n";
        let Outcome::GuestPanic { detail } = itself(Ended::Reset).outcome(console, "") else {
            panic!("no guest panic");
        };
        assert_eq!(detail, "Kernel panic - not syncing:  [2Jno init");
        let died = VmEnd::Died { how: "x".into() };
        assert_eq!(
            vm(died).outcome("", "one\ntwo\n"),
            Outcome::VmmDeath {
                detail: "x; its last words: two".into()
            }
        );
    }
}
