//! Clears what killed supervisors left.

use super::{CellDir, Slot, StateError};
use crate::{cgroup, process, record};
use casemate_beneath::Dir;
use casemate_proto::id::{CellId, TenantId};
use std::fmt;
use std::path::Path;

/// A cell that was cleared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reaped {
    /// Tenant.
    pub tenant: TenantId,
    /// Cell.
    pub id: CellId,
}

impl fmt::Display for Reaped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.id)
    }
}

/// Clears all cells below `run_dir` whose supervisor is gone, and returns them. Cells that
/// run are left alone, and so is everything that is not ours by name.
///
/// # Errors
/// The first cell that cannot be cleared; the others are cleared all the same.
pub fn reap(run_dir: &Path) -> Result<Vec<Reaped>, StateError> {
    let Some(run) = Dir::existing(run_dir)? else {
        return Ok(Vec::new());
    };
    // Before the cells' directories go: as long as one is there, the next start of its id
    // knows that there may be a slot to sweep, should this process be killed, too.
    Slot::sweep(&run)?;
    let mut reaped = Vec::new();
    let mut first_error = None;
    for tenant in run.names()? {
        let Ok(tenant) = tenant.parse::<TenantId>() else {
            continue;
        };
        let ids = match run.open_subdir(tenant.as_str()).and_then(|dir| dir.names()) {
            Ok(ids) => ids,
            Err(e) => {
                first_error.get_or_insert(e.into());
                continue;
            }
        };
        if ids.is_empty() {
            // A holder was killed between the two calls that make a cell's directory.
            run.remove_dir(tenant.as_str())?;
        }
        for id in ids.iter().filter_map(|id| id.parse::<CellId>().ok()) {
            let cleared = match CellDir::lock(&run, &tenant, &id) {
                Ok(cell) => clear(&cell).and_then(|()| cell.remove(&run)),
                Err(StateError::Running { .. }) => continue,
                Err(e) => Err(e),
            };
            match cleared {
                Ok(()) => reaped.push(Reaped {
                    tenant: tenant.clone(),
                    id,
                }),
                Err(e) => {
                    first_error.get_or_insert(e);
                }
            }
        }
    }
    // A process of a killed supervisor may have had its slot till now.
    Slot::sweep(&run)?;
    first_error.map_or(Ok(reaped), Err)
}

/// Undoes what the journal of a cell that we have locked says, and records that in the audit
/// log that knows of the cell. Does nothing where there is no journal.
///
/// # Errors
/// What cannot be undone.
pub fn clear(cell: &CellDir) -> Result<(), StateError> {
    let Some(journal) = cell.journal()? else {
        return Ok(());
    };
    if !journal.is_of_this_boot() {
        return Ok(());
    }
    if let Some(first) = &journal.process {
        process::kill_recorded(first);
    }
    cgroup::clear(&journal.cgroups, cell.tenant(), cell.id()).map_err(|source| {
        StateError::Leftover {
            tenant: cell.tenant().to_string(),
            id: cell.id().to_string(),
            source,
        }
    })?;
    if let Some(folder) = &journal.audit {
        let process = journal.process.as_ref().map(|first| first.pid);
        record::cleared(folder, cell.tenant(), cell.id(), process);
    }
    Ok(())
}
