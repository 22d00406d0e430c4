//! The layers of the jail, one file each: how it is applied, and how it is read back.
//!
//! [`STEPS`] is the order in which the child applies them, between clone3(2) and
//! execveat(2). `docs/jailer.md` has the same table with the reason for each place; a test
//! holds the two together.

pub mod capabilities;
pub mod cgroup;
pub mod core_scheduling;
pub mod covers;
pub mod cpus;
pub mod death;
pub mod dev;
pub mod dumpable;
pub mod environment;
pub mod exec;
pub mod fds;
pub mod init;
pub mod keyring;
pub mod landlock;
pub mod mounts;
pub mod namespaces;
pub mod no_new_privs;
pub mod outer_ids;
pub mod ready;
pub mod rlimits;
pub mod root;
pub mod scheduling;
pub mod seccomp;
pub mod session;
pub mod signals;
pub mod time;
pub mod umask;
pub mod user;
pub mod user_namespace;
pub mod uts;

use crate::child::Jail;
use casemate_proto::cell::Layer;
use std::fmt::Display;
use thiserror::Error;

/// A step that failed: what, on which object, why, and what to do.
#[derive(Debug, Error)]
#[error("{what}: {why}; {remedy}")]
pub struct StepError {
    what: String,
    why: String,
    remedy: &'static str,
}

impl StepError {
    /// `what` names the call and its object.
    pub fn new(what: impl Display, why: impl Display, remedy: &'static str) -> Self {
        Self {
            what: what.to_string(),
            why: why.to_string(),
            remedy,
        }
    }
}

/// One of the processes that take steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// The child that becomes the VMM.
    Vm,
    /// The first process of a plain program's pid namespace, which stays.
    Init,
    /// Its child, which becomes the program.
    Program,
}

/// The first processes of their pid namespaces.
pub const FIRST: &[Who] = &[Who::Vm, Who::Init];
/// Those that execute something.
pub const LAST: &[Who] = &[Who::Vm, Who::Program];

/// One step of the child.
pub struct Step {
    /// Its name, as in `docs/jailer.md`.
    pub name: &'static str,
    /// Whose step it is.
    pub who: &'static [Who],
    /// The layer it belongs to. A step without one can be neither missing nor left out.
    pub layer: Option<Layer>,
    /// Does it.
    pub apply: fn(&mut Jail<'_>) -> Result<(), StepError>,
}

/// Every step, in order. The last does not return.
pub const STEPS: &[Step] = &[
    death::EARLY,
    outer_ids::STEP,
    fds::PLACE,
    fds::CLOSE,
    environment::STEP,
    keyring::STEP,
    session::STEP,
    signals::STEP,
    scheduling::STEP,
    core_scheduling::STEP,
    cpus::STEP,
    namespaces::MOUNT,
    namespaces::NET,
    namespaces::IPC,
    namespaces::UTS,
    uts::STEP,
    time::STEP,
    root::PROPAGATION,
    root::STEP,
    umask::STEP,
    cgroup::JOIN,
    namespaces::CGROUP,
    rlimits::STEP,
    user::GROUPS,
    user::STEP,
    user_namespace::STEP,
    capabilities::BOUNDING,
    user::INSIDE,
    capabilities::STEP,
    death::STEP,
    dumpable::STEP,
    no_new_privs::STEP,
    init::STEP,
    session::PROGRAM,
    exec::FIND,
    landlock::STEP,
    seccomp::STEP,
    ready::STEP,
    exec::STEP,
];

/// Steps that only an ordinary user's jail takes; to root's they mean nothing.
pub const ROOTLESS: &[&str] = &["outer-ids"];

/// What stands for a layer that nobody can look at from outside once it is in use: the start
/// went on only because it held.
const AT_START: &str = "as it was at the start";

/// What the kernel shows of one layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// What was asked for.
    pub declared: String,
    /// What the kernel says.
    pub observed: String,
    /// Whether the two agree.
    pub holds: bool,
}

impl Observation {
    /// An observation whose two sides are compared as text.
    pub fn compare(declared: impl Display, observed: impl Display) -> Self {
        let (declared, observed) = (declared.to_string(), observed.to_string());
        Self {
            holds: declared == observed,
            declared,
            observed,
        }
    }

    /// `Ok` holds, `Err` tells how it differs.
    pub fn of(declared: impl Display, observed: Result<String, String>) -> Self {
        let holds = observed.is_ok();
        Self {
            declared: declared.to_string(),
            observed: observed.unwrap_or_else(|difference| difference),
            holds,
        }
    }
}

/// The result of a libc call: `Ok` unless -1.
pub(crate) fn libc_result(result: libc::c_long) -> std::io::Result<libc::c_long> {
    if result == -1 {
        Err(std::io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, layer and processes of each row of the table under "The child's steps".
    fn documented() -> Vec<[String; 3]> {
        let text = include_str!("../../../docs/jailer.md");
        text.split_once("## The child's steps")
            .expect("the heading")
            .1
            .lines()
            .skip_while(|line| !line.starts_with("| #"))
            .skip(2)
            .take_while(|line| line.starts_with('|'))
            .map(|line| {
                let cells: Vec<&str> = line.split('|').map(str::trim).collect();
                [2, 3, 4].map(|at| cells[at].trim_matches('`').to_owned())
            })
            .collect()
    }

    #[test]
    fn the_document_lists_the_steps_in_their_order() {
        let code: Vec<[String; 3]> = STEPS
            .iter()
            .map(|step| {
                let layer = step.layer.map_or("–", Layer::name);
                let who = match step.who {
                    FIRST => "VMM, init",
                    LAST => "VMM, program",
                    [Who::Vm] => "VMM",
                    [Who::Init] => "init",
                    _ => "program",
                };
                let who = match ROOTLESS.contains(&step.name) {
                    true => format!("{who}, rootless"),
                    false => who.to_owned(),
                };
                [step.name.to_owned(), layer.to_owned(), who]
            })
            .collect();
        assert_eq!(documented(), code);
    }

    #[test]
    fn every_layer_that_the_jailer_applies_has_a_step_or_a_flag() {
        for layer in Layer::ALL {
            let applied = STEPS.iter().any(|step| step.layer == Some(layer))
                || namespaces::flag(layer).is_some();
            assert!(applied != (layer == Layer::FullKvm), "{layer}");
        }
    }
}
