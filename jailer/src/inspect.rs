//! `casemate inspect`: what was declared of a running cell beside what the kernel says now.

use crate::plan::Subject;
use crate::process::{first_child, start_time};
use crate::readback::{Moment, Notes, Seen};
use crate::state::{CellDir, StateError};
use casemate_proto::cell::LayerReport;
use casemate_proto::id::{CellId, TenantId};
use rustix::process::Pid;
use serde::{Deserialize, Serialize};
use std::path::Path;
use thiserror::Error;

/// How often a process is looked at whose threads come and go.
const ATTEMPTS: u32 = 20;

/// Why there is nothing to tell.
#[derive(Debug, Error)]
pub enum InspectError {
    /// No such cell.
    #[error("no cell {id} of tenant {tenant} is running: name one that is")]
    NotRunning {
        /// Tenant.
        tenant: TenantId,
        /// Cell.
        id: CellId,
    },
    /// It is being made.
    #[error("cell {id} of tenant {tenant} is still being made: look again")]
    Early {
        /// Tenant.
        tenant: TenantId,
        /// Cell.
        id: CellId,
    },
    /// The run directory.
    #[error(transparent)]
    State(#[from] StateError),
    /// `/proc`.
    #[error(
        "cannot look at process {pid}: {why}; run as root, or as who started it, with /proc mounted \
         without hidepid"
    )]
    Look {
        /// Which.
        pid: i32,
        /// Why.
        why: String,
    },
}

/// A running cell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspection {
    /// Tenant.
    pub tenant: TenantId,
    /// Cell.
    pub id: CellId,
    /// Name of its policy.
    pub policy: String,
    /// BLAKE3 of its policy; empty where the policy was made of a launch.
    pub digest: String,
    /// The process looked at: the VMM, or the program.
    pub pid: i32,
    /// Every layer, declared beside observed.
    pub layers: Vec<LayerReport>,
}

/// Looks at a running cell. Takes no lock, and changes nothing.
///
/// # Errors
/// Where it does not run, or cannot be looked at.
pub fn inspect(run_dir: &Path, tenant: &TenantId, id: &CellId) -> Result<Inspection, InspectError> {
    let not_running = || InspectError::NotRunning {
        tenant: tenant.clone(),
        id: id.clone(),
    };
    let early = || InspectError::Early {
        tenant: tenant.clone(),
        id: id.clone(),
    };
    let journal = CellDir::peek(run_dir, tenant, id)?.ok_or_else(not_running)?;
    let first = journal.process.as_ref().ok_or_else(early)?;
    if !journal.is_of_this_boot() || start_time(first.pid) != Some(first.start_time) {
        return Err(not_running());
    }
    let declared = journal.declared.ok_or_else(early)?;
    let notes = Notes {
        missing: declared.missing,
        absent: declared.absent,
        covered: declared.covered,
        ..Notes::default()
    };
    let pid = match declared.plan.subject {
        Subject::Vm(_) => first.pid,
        Subject::Program(_) => first_child(first.pid).ok_or_else(early)?,
    };
    let plan = &declared.plan;
    let number = |pid| Pid::from_raw(pid).ok_or("it has no number".to_owned());
    let seen = || {
        let cgroup = declared.cgroup.as_ref();
        let seen = Seen::look(number(pid)?, plan, &notes, cgroup, Moment::Running)?;
        let seen = match plan.subject {
            Subject::Vm(_) => seen,
            Subject::Program(_) => seen.with_init(number(first.pid)?)?,
        };
        Ok(seen.confinement())
    };
    let look = || plan.rights.look(number(pid)?, seen);
    let mut attempts = 0;
    let layers = loop {
        attempts += 1;
        match look() {
            Ok(layers) => break layers,
            Err(_) if attempts < ATTEMPTS => {}
            Err(why) => return Err(InspectError::Look { pid, why }),
        }
    };
    Ok(Inspection {
        tenant: tenant.clone(),
        id: id.clone(),
        policy: declared.plan.policy.name.to_string(),
        digest: declared.plan.policy.digest.to_string(),
        pid,
        layers,
    })
}
