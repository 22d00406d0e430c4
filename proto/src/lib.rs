//! Types every Casemate process shares: ids, sizes, fd numbers, messages, reports.
//!
//! This crate is the seam between the processes. It holds no logic beyond
//! parsing and framing, so that each side can be read, tested and fuzzed alone:
//!
//! | between | module | carried by |
//! |---|---|---|
//! | CLI → jailer | [`cell`] | `SOCK_SEQPACKET`, JSON, fds by `SCM_RIGHTS` |
//! | jailer ↔ VMM | [`control`] | `SOCK_SEQPACKET`, JSON |
//! | CLI ↔ guest's init | [`agent`] | vsock, length-prefixed postcard (hostile) |
//! | anybody → user | [`report`] | a JSON file |

pub mod agent;
pub mod cell;
pub mod control;
pub mod fds;
pub mod id;
pub mod report;
pub mod seqpacket;
pub mod size;
pub mod status;
