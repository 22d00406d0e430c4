//! A user and a group id for each live cell, of its own.

use super::StateError;
use super::lock::{Attempt, attempt};
use casemate_beneath::Dir;
use serde::{Deserialize, Serialize};
use std::os::fd::OwnedFd;

/// First uid and gid of cells: 0x7000_0000, above what useradd, systemd's dynamic users and
/// containers' sub-uid ranges take.
pub const BASE: u32 = 0x7000_0000;
/// How many cells can live at a time.
pub const SLOTS: u32 = 1 << 16;

const DIR: &str = "_slots";

/// The ids a cell runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// The ids of which each live cell of a run directory takes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotIds {
    /// First user.
    pub uid: u32,
    /// First group.
    pub gid: u32,
    /// How many of each.
    pub count: u32,
}

impl SlotIds {
    /// Those of cells that root makes.
    pub const ROOTS: Self = Self {
        uid: BASE,
        gid: BASE,
        count: SLOTS,
    };
}

/// One taken slot. It is free again when this process ends, however that happens.
#[derive(Debug)]
pub struct Slot {
    number: u32,
    ids: SlotIds,
    dir: Dir,
    _lock: OwnedFd,
}

impl Slot {
    /// Takes a free slot. The search begins at a place that differs from start to start.
    ///
    /// # Errors
    /// [`StateError::NoSlot`], and calls' own.
    pub fn take(run: &Dir, ids: SlotIds) -> Result<Self, StateError> {
        let first = std::process::id();
        let mut gone = 0;
        for n in 0..ids.count {
            let number = first.wrapping_add(n) % ids.count;
            loop {
                let attempted = run
                    .subdir(DIR)
                    .and_then(|dir| Ok((attempt(&dir, &number.to_string())?, dir)));
                match attempted {
                    Ok((Attempt::Locked(lock), dir)) => {
                        return Ok(Self {
                            number,
                            ids,
                            dir,
                            _lock: lock,
                        });
                    }
                    Ok((Attempt::Held, _)) => break,
                    Ok((Attempt::Gone, _)) => gone += 1,
                    Err(e) if e.is_missing() => gone += 1,
                    Err(e) => return Err(e.into()),
                }
                if gone > 1000 {
                    return Err(StateError::Unsteady {
                        path: run.path().join(DIR),
                    });
                }
            }
        }
        Err(StateError::NoSlot(ids.count))
    }

    /// The ids that go with it.
    pub fn identity(&self) -> Identity {
        Identity {
            uid: self.ids.uid + self.number,
            gid: self.ids.gid + self.number,
        }
    }

    /// Gives it back and leaves no file.
    ///
    /// # Errors
    /// A call's own. The slot is free in any case.
    pub fn give_back(self, run: &Dir) -> Result<(), StateError> {
        self.dir.remove_file(&self.number.to_string())?;
        Ok(run.remove_dir(DIR)?)
    }

    /// Removes the files of slots that nobody holds: their holders were killed.
    ///
    /// # Errors
    /// Calls' own.
    pub fn sweep(run: &Dir) -> Result<(), StateError> {
        if !run.names()?.iter().any(|name| name == DIR) {
            return Ok(());
        }
        let dir = match run.open_subdir(DIR) {
            Ok(dir) => dir,
            Err(e) if e.is_missing() => return Ok(()),
            Err(e) => return Err(e.into()),
        };
        for name in dir
            .names()?
            .iter()
            .filter(|name| name.parse::<u32>().is_ok())
        {
            if let Attempt::Locked(_lock) = attempt(&dir, name)? {
                dir.remove_file(name)?;
            }
        }
        Ok(run.remove_dir(DIR)?)
    }
}
