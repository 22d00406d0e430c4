//! `--netns`: a network namespace by its handle (setns(2)).

use super::error::PeerError;
use crate::layers::libc_result;
use rustix::fs::{Mode, OFlags, fstat, open};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

const REMEDY: &str = "give the handle of a network namespace, such as /var/run/netns/NAME \
                      (ip netns add NAME)";

/// An open handle, known to be a network namespace's.
#[derive(Debug)]
pub struct Netns {
    fd: OwnedFd,
    inode: u64,
    path: PathBuf,
}

impl Netns {
    /// Opens it. The path is the operator's, and may lead through links.
    ///
    /// # Errors
    /// Where it is something else.
    pub fn open(path: &Path) -> Result<Self, PeerError> {
        // Without O_NONBLOCK, a FIFO would be waited for.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let failed = |e: &dyn std::fmt::Display| PeerError::path("join", path, e, REMEDY);
        let fd = open(path, flags, Mode::empty()).map_err(|e| failed(&e))?;
        // SAFETY: takes no memory; a file that is no namespace answers with ENOTTY.
        let kind = libc_result(unsafe { libc::ioctl(fd.as_raw_fd(), libc::NS_GET_NSTYPE) }.into());
        if kind.ok() != Some(libc::CLONE_NEWNET.into()) {
            return Err(failed(&"it is no network namespace"));
        }
        let inode = fstat(&fd).map_err(|e| failed(&e))?.st_ino;
        Ok(Self {
            fd,
            inode,
            path: path.to_owned(),
        })
    }

    /// Moves the calling process into it.
    ///
    /// # Errors
    /// The call's own.
    pub fn join(&self) -> Result<(), PeerError> {
        move_into_link_name_space(self.fd.as_fd(), Some(LinkNameSpaceType::Network)).map_err(|e| {
            PeerError::path("join", &self.path, e, "run the jailer with CAP_SYS_ADMIN")
        })
    }

    /// Its inode, by which `/proc/PID/ns/net` names it.
    pub fn inode(&self) -> u64 {
        self.inode
    }
}
