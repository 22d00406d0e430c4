//! A whole KVM host inside QEMU, for tests that need one.
//!
//! Where `/dev/kvm` cannot run a Linux guest, QEMU emulates a machine whose own KVM can:
//! the *bed*. It boots Debian's kernel once, waits for a job, and is saved in that state;
//! each job then gets a fresh copy of it within half a second. Everything is built once,
//! kept in a cache folder (`$CASEMATE_CACHE`, else `$XDG_CACHE_HOME/casemate`, else
//! `~/.cache/casemate`) and named by a hash of its recipe.
//!
//! ```no_run
//! use casemate_testbed::{Bed, Job};
//! let bed = Bed::prepare()?;
//! let result = bed.run(&Job::new(["uname", "-r"]))?;
//! assert_eq!(result.status, 0);
//! # Ok::<(), casemate_testbed::BedError>(())
//! ```

mod apt;
mod assets;
mod bed;
mod cache;
mod control;
mod cpio;
mod debian_kernel;
mod debootstrap;
mod error;
mod host;
mod job;
mod lean;
mod machine;
mod qemu;
mod qmp;
mod root;
mod skip;
mod streams;
mod tool;
mod userland;
mod way;

pub use assets::Assets;
pub use bed::Bed;
pub use cache::{Cache, Key};
pub use debian_kernel::{DebianKernel, Series};
pub use error::{BedError, Result};
pub use host::{install_missing, missing};
pub use job::{Job, JobResult, Output, Stdin};
pub use lean::LeanKernel;
pub use skip::skip;
pub use userland::Userland;
pub use way::{PROGRAMS, Way, in_kvm_host, kvm_can_run_linux, programs, with_programs};
