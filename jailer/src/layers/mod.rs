//! The layers of the jail, one file each: how it is applied, and how it is read back.
//!
//! [`STEPS`] is the order in which the child applies them, between clone3(2) and
//! execveat(2). `docs/jailer.md` has the same table with the reason for each place; a test
//! holds the two together.

pub mod capabilities;
pub mod cgroup;
pub mod death;
pub mod dumpable;
pub mod environment;
pub mod exec;
pub mod fds;
pub mod landlock;
pub mod namespaces;
pub mod no_new_privs;
pub mod rlimits;
pub mod root;
pub mod scheduling;
pub mod seccomp;
pub mod session;
pub mod signals;
pub mod umask;
pub mod user;
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

/// One step of the child.
pub struct Step {
    /// Its name, as in `docs/jailer.md`.
    pub name: &'static str,
    /// The layer it belongs to. A step without one can be neither missing nor left out.
    pub layer: Option<Layer>,
    /// Does it.
    pub apply: fn(&mut Jail<'_>) -> Result<(), StepError>,
}

/// Every step, in order. The last does not return.
pub const STEPS: &[Step] = &[
    death::EARLY,
    scheduling::STEP,
    cgroup::JOIN,
    namespaces::CGROUP,
    fds::PLACE,
    fds::CLOSE,
    environment::STEP,
    session::STEP,
    umask::STEP,
    signals::STEP,
    uts::STEP,
    root::PROPAGATION,
    root::STEP,
    rlimits::STEP,
    capabilities::BOUNDING,
    user::STEP,
    capabilities::STEP,
    death::STEP,
    dumpable::STEP,
    no_new_privs::STEP,
    landlock::STEP,
    exec::STEP,
];

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

    /// The names in the first column of the table under "The child's steps".
    fn documented() -> Vec<(String, String)> {
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
                (
                    cells[2].trim_matches('`').to_owned(),
                    cells[3].trim_matches('`').to_owned(),
                )
            })
            .collect()
    }

    #[test]
    fn the_document_lists_the_steps_in_their_order() {
        let code: Vec<(String, String)> = STEPS
            .iter()
            .map(|step| {
                let layer = step.layer.map_or("–", Layer::name);
                (step.name.to_owned(), layer.to_owned())
            })
            .collect();
        assert_eq!(documented(), code);
    }

    #[test]
    fn every_layer_that_the_jailer_applies_has_a_step_or_a_flag() {
        for layer in Layer::ALL {
            let applied = STEPS.iter().any(|step| step.layer == Some(layer))
                || namespaces::flag(layer).is_some();
            let of_others = matches!(layer, Layer::Seccomp | Layer::FullKvm);
            assert!(applied != of_others, "{layer}");
        }
    }
}
