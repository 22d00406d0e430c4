//! What can be wrong with a jail of this kind, each told in one line.

use super::addition::Addition;
use super::options::OptionError;
use super::values::ValueError;
use crate::cgroup::CgroupError;
use crate::state::StateError;
use casemate_beneath::DirError;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why there is no jail.
#[derive(Debug, Error)]
pub enum PeerError {
    /// The command line.
    #[error(transparent)]
    Options(#[from] OptionError),
    /// The exec file's name as a cgroup's.
    #[error("the exec file's name names the parent cgroup, but {0}: give --parent-cgroup")]
    Name(ValueError),
    /// The state of the run directory.
    #[error(transparent)]
    State(#[from] StateError),
    /// The run directory.
    #[error(transparent)]
    RunDir(#[from] DirError),
    /// cgroups.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// Not root.
    #[error("this runs as uid {0}, and only root can build a jail: run it with sudo")]
    NotRoot(u32),
    /// The id is taken by something that lives.
    #[error("the jail {jail} is running{process}: end it first, or choose another --id", jail = jail.display(),
            process = process.map(|pid| format!(" as process {pid}")).unwrap_or_default())]
    Running {
        /// Its directory.
        jail: PathBuf,
        /// Its process; `None` while it is being started.
        process: Option<i32>,
    },
    /// A call on a path.
    #[error("cannot {what} {path}: {why}; {remedy}", path = path.display())]
    Path {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        why: String,
        /// What to do.
        remedy: &'static str,
    },
    /// Something else stands where the jail needs a file or directory.
    #[error("{path} is {found}, not {wanted}: look who put it there, then remove it", path = path.display())]
    Foreign {
        /// Where.
        path: PathBuf,
        /// What stands there.
        found: String,
        /// What is needed.
        wanted: &'static str,
    },
    /// A step that is about no path.
    #[error("{what}: {why}; {remedy}")]
    Step {
        /// What was tried.
        what: String,
        /// Why not.
        why: String,
        /// What to do.
        remedy: String,
    },
    /// A layer of ours.
    #[error("the layer {layer} {why}; {remedy}, or leave it off with --without {layer}")]
    Layer {
        /// Which.
        layer: Addition,
        /// What went wrong.
        why: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The kernel does not show what was asked for.
    #[error(
        "{what} was to be {declared} and reads {observed}: the jail is not as promised; report this"
    )]
    NotAsDeclared {
        /// What.
        what: &'static str,
        /// Asked for.
        declared: String,
        /// Read.
        observed: String,
    },
    /// What the forked process that becomes the program said.
    #[error("{0}")]
    Said(String),
}

impl PeerError {
    /// A call on a path.
    pub fn path(what: &'static str, path: &Path, why: impl Display, remedy: &'static str) -> Self {
        Self::Path {
            what,
            path: path.to_owned(),
            why: why.to_string(),
            remedy,
        }
    }

    /// A step that is about no path.
    pub fn step(what: impl Display, why: impl Display, remedy: impl Display) -> Self {
        Self::Step {
            what: what.to_string(),
            why: why.to_string(),
            remedy: remedy.to_string(),
        }
    }

    /// A layer that cannot be applied or does not hold.
    pub fn layer(layer: Addition, why: impl Display, remedy: &'static str) -> Self {
        Self::Layer {
            layer,
            why: why.to_string(),
            remedy,
        }
    }

    /// The error as one line, whatever names with newlines are in it.
    pub fn line(&self) -> String {
        self.to_string()
            .chars()
            .flat_map(|c| match c.is_control() {
                true => c.escape_default().collect::<Vec<_>>(),
                false => vec![c],
            })
            .collect()
    }
}
