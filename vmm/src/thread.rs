//! Threads that confine themselves before they see anything of the guest's.
//!
//! Every thread of the VMM but the main one is started through a [`Muster`]:
//!
//! ```text
//! spawn ─> name (comm) ─> own seccomp filter ─> report "confined" ─> body
//!                                                                    │
//!           a vCPU's body waits at the Gate until main opens it ─────┘
//! ```
//! A device's body may start its event loop at once: no guest input exists
//! before the vCPUs run, and they run only after every thread has reported.

use crate::layer_off::install;
use casemate_policies::Filter;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use thiserror::Error;

/// Stack of a thread, in bytes. Only what is touched becomes resident.
const STACK: usize = 512 << 10;

/// Why a thread is not there, or not confined.
#[derive(Debug, Error)]
pub enum ThreadError {
    /// It was not created.
    #[error("cannot start thread {name}: {source} (see the limits on tasks, `limits.pids`)")]
    Spawn {
        /// The thread.
        name: String,
        /// The error of clone(2).
        source: io::Error,
    },
    /// Its filter was not installed.
    #[error("layer seccomp: the filter of thread {name} cannot be installed: {message}")]
    Confine {
        /// The thread.
        name: String,
        /// What the kernel said.
        message: String,
    },
}

#[derive(Default)]
struct State {
    started: usize,
    confined: usize,
    failed: Option<ThreadError>,
    open: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_while(&self, condition: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        self.changed
            .wait_while(self.lock(), |state| condition(state))
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where vCPU threads wait for the guest to be let go.
pub struct Gate(Arc<Shared>);

impl Gate {
    /// Returns when main opens the gate.
    pub fn wait(&self) {
        drop(self.0.wait_while(|state| !state.open));
    }
}

/// The VMM's threads until the guest runs.
#[derive(Default)]
pub struct Muster {
    shared: Arc<Shared>,
    names: Vec<String>,
}

impl Muster {
    /// No thread but the main one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a thread called `name` (at most 15 bytes), which installs `filter`
    /// and then runs `body`.
    pub fn spawn(
        &mut self,
        name: &str,
        filter: Filter,
        body: impl FnOnce(Gate) + Send + 'static,
    ) -> Result<(), ThreadError> {
        let shared = Arc::clone(&self.shared);
        let own_name = name.to_owned();
        self.shared.lock().started += 1;
        let thread = move || {
            let confined = install(filter);
            {
                let mut state = shared.lock();
                match confined {
                    Ok(()) => state.confined += 1,
                    Err(error) => {
                        state.failed = Some(ThreadError::Confine {
                            name: own_name,
                            message: error.to_string(),
                        });
                        shared.changed.notify_all();
                        return;
                    }
                }
                shared.changed.notify_all();
            }
            body(Gate(shared));
        };
        std::thread::Builder::new()
            .name(name.to_owned())
            .stack_size(STACK)
            .spawn(thread)
            .map_err(|source| ThreadError::Spawn {
                name: name.to_owned(),
                source,
            })?;
        self.names.push(name.to_owned());
        Ok(())
    }

    /// Waits until every thread started so far is confined.
    pub fn wait_confined(&self) -> Result<(), ThreadError> {
        let mut state = self
            .shared
            .wait_while(|state| state.failed.is_none() && state.confined < state.started);
        state.failed.take().map_or(Ok(()), Err)
    }

    /// The names of the threads, in the order in which they were started.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Lets the vCPUs run.
    pub fn open_gate(&self) {
        self.shared.lock().open = true;
        self.shared.changed.notify_all();
    }
}
