//! Looking at a jail whose program has a user of its own, which its launcher is not: in `/proc`
//! that takes capabilities in the launcher's user namespace. A process goes there to look.

use crate::child::fork;
use rustix::fs::{CWD, Mode, OFlags, fstat, openat};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// ioctl_nsfs(2): `_IO(0xb7, 0x2)`.
const NS_GET_PARENT: libc::Ioctl = 0xb702;

/// Calls `look` in the launcher's user namespace that the process `pid` is in, or in one below
/// it; gives its answer.
///
/// # Errors
/// Its own, in words, and where the namespace cannot be entered.
pub fn look<T: Serialize + DeserializeOwned>(
    pid: Pid,
    look: impl FnOnce() -> Result<T, String>,
) -> Result<T, String> {
    let failed = |e: io::Error| format!("looking from its user namespace: {e}");
    let outer = outer(pid).map_err(failed)?;
    let (mut reader, mut writer) = io::pipe().map_err(failed)?;
    let Some(child) = fork(0, None).map_err(failed)? else {
        drop(reader);
        let entered = move_into_link_name_space(outer.as_fd(), Some(LinkNameSpaceType::User));
        let answer = match entered {
            Ok(()) => look(),
            Err(e) => Err(failed(e.into())),
        };
        let told = serde_json::to_vec(&answer).map(|text| writer.write_all(&text));
        let status = i32::from(!matches!(told, Ok(Ok(()))));
        // SAFETY: ends this process without running its parent's exit handlers.
        unsafe { libc::_exit(status) }
    };
    drop(writer);
    let mut text = Vec::new();
    let read = reader.read_to_end(&mut text);
    let _ = waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED);
    read.map_err(failed)?;
    serde_json::from_slice(&text).map_err(|e| failed(e.into()))?
}

/// The user namespace right below our own that a process is in, or in one below it.
fn outer(pid: Pid) -> io::Result<OwnedFd> {
    let open = |path: String| openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let own = fstat(open("/proc/self/ns/user".to_owned())?)?;
    let mut inner = open(format!("/proc/{}/ns/user", pid.as_raw_nonzero()))?;
    loop {
        // SAFETY: takes no argument, and gives a new fd that is nobody's yet.
        let parent = unsafe {
            let fd = libc::ioctl(inner.as_raw_fd(), NS_GET_PARENT);
            crate::layers::libc_result(fd.into())?;
            OwnedFd::from_raw_fd(fd)
        };
        let found = fstat(&parent)?;
        if (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino) {
            return Ok(inner);
        }
        inner = parent;
    }
}
