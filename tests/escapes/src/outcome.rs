//! How an attempt ended.

use serde::{Deserialize, Serialize};
use std::io;

/// Why an attempt did not work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// A call was refused with this errno.
    Errno(i32),
    /// Nothing was refused, and still there was nothing to be had.
    Nothing(String),
    /// There is no such thing here, with or without a jail.
    Absent(String),
}

impl From<io::Error> for Failure {
    fn from(e: io::Error) -> Self {
        match e.raw_os_error() {
            Some(errno) => Self::Errno(errno),
            None => Self::Nothing(e.to_string()),
        }
    }
}

/// What an attempt returns: what it got, or why not.
pub type Tried = Result<String, Failure>;

/// How it ended, as the program says it. An attempt for which it was killed says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It worked.
    Worked,
    /// It was refused, or there was nothing to be had.
    Refused,
    /// There is no such thing on this host.
    Absent,
}

/// The one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Of which attempt.
    pub attempt: String,
    /// How it ended.
    pub outcome: Outcome,
    /// The errno of the call that was refused.
    pub errno: Option<i32>,
    /// In words.
    pub detail: String,
}

impl Report {
    /// Of an attempt that was made.
    pub fn of(attempt: &str, tried: Tried) -> Self {
        let (outcome, errno, detail) = match tried {
            Ok(detail) => (Outcome::Worked, None, detail),
            Err(Failure::Errno(errno)) => {
                let text = io::Error::from_raw_os_error(errno).to_string();
                (Outcome::Refused, Some(errno), text)
            }
            Err(Failure::Nothing(detail)) => (Outcome::Refused, None, detail),
            Err(Failure::Absent(detail)) => (Outcome::Absent, None, detail),
        };
        Self {
            attempt: attempt.to_owned(),
            outcome,
            errno,
            detail,
        }
    }
}
