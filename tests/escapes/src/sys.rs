//! System calls by number, with arguments that outlive them.

use crate::{Bait, Failure, Tried};
use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// One argument.
pub enum Arg<'a> {
    /// A number.
    Number(i64),
    /// A text that the kernel reads.
    Text(&'a CStr),
    /// Memory that the kernel reads.
    Read(&'a [u8]),
    /// Memory that the kernel writes.
    Write(&'a mut [u8]),
}

macro_rules! numbers {
    ($($kind:ty),*) => {$(
        impl From<$kind> for Arg<'_> {
            fn from(number: $kind) -> Self {
                Self::Number(number as i64)
            }
        }
    )*};
}
numbers!(i32, u32, i64, u64, usize);

impl<'a> From<&'a CStr> for Arg<'a> {
    fn from(text: &'a CStr) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<&'a [u8]> for Arg<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Read(bytes)
    }
}

impl<'a> From<&'a mut [u8]> for Arg<'a> {
    fn from(bytes: &'a mut [u8]) -> Self {
        Self::Write(bytes)
    }
}

impl Arg<'_> {
    fn raw(&mut self) -> libc::c_long {
        match self {
            Self::Number(number) => *number,
            Self::Text(text) => text.as_ptr() as libc::c_long,
            Self::Read(bytes) => bytes.as_ptr() as libc::c_long,
            Self::Write(bytes) => bytes.as_mut_ptr() as libc::c_long,
        }
    }
}

/// A system call.
///
/// # Errors
/// Its errno.
pub fn call<const N: usize>(number: libc::c_long, args: [Arg<'_>; N]) -> io::Result<i64> {
    let mut raw = [0; 6];
    let mut args = args;
    for (slot, arg) in raw.iter_mut().zip(args.iter_mut()) {
        *slot = arg.raw();
    }
    let [a, b, c, d, e, f] = raw;
    // SAFETY: every pointer is to memory that `args` borrows until after the call; callers
    // give buffers of the size that the call writes. This program is thrown away anyway.
    match unsafe { libc::syscall(number, a, b, c, d, e, f) } {
        -1 => Err(io::Error::last_os_error()),
        result => Ok(result),
    }
}

/// The same, with the arguments' conversion.
#[macro_export]
macro_rules! call {
    ($number:expr $(, $arg:expr)* $(,)?) => {
        $crate::sys::call($number, [$($crate::sys::Arg::from($arg)),*])
    };
}

/// It worked where the call did, or where it failed in a way that comes only after the
/// caller's rights were looked at.
pub fn reached(result: io::Result<i64>, passed: &[i32]) -> Tried {
    match result {
        Ok(_) => Ok("the call was made".to_owned()),
        Err(e) if e.raw_os_error().is_some_and(|e| passed.contains(&e)) => {
            Ok(format!("refused for its arguments only: {e}"))
        }
        Err(e) => Err(e.into()),
    }
}

/// 64-bit words as the kernel reads them.
pub fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// A path or name as the kernel reads it.
///
/// # Panics
/// Where it has a zero byte in it.
pub fn text(path: impl AsRef<OsStr>) -> CString {
    CString::new(path.as_ref().as_bytes()).expect("no zero byte")
}

/// An fd that a call returned.
pub fn owned(fd: i64) -> OwnedFd {
    // SAFETY: fresh from the kernel, nobody else has it.
    unsafe { OwnedFd::from_raw_fd(fd as RawFd) }
}

/// openat(2).
///
/// # Errors
/// The call's own.
pub fn openat(dir: RawFd, path: impl AsRef<Path>, flags: i32) -> io::Result<OwnedFd> {
    let path = text(path.as_ref());
    let flags = flags | libc::O_CLOEXEC;
    call!(libc::SYS_openat, dir, path.as_c_str(), flags, 0o600).map(owned)
}

/// Opens a path.
///
/// # Errors
/// The call's own.
pub fn open(path: impl AsRef<Path>, flags: i32) -> io::Result<OwnedFd> {
    openat(libc::AT_FDCWD, path, flags)
}

/// Up to 64 KiB of an fd.
///
/// # Errors
/// The call's own.
pub fn read(fd: &impl AsRawFd) -> io::Result<Vec<u8>> {
    let mut all = vec![0; 65536];
    let mut have = 0;
    while have < all.len() {
        let n = call!(
            libc::SYS_read,
            fd.as_raw_fd(),
            &mut all[have..],
            65536 - have
        )?;
        if n == 0 {
            break;
        }
        have += n as usize;
    }
    all.truncate(have);
    Ok(all)
}

/// Whether this holds the token.
pub fn token(bait: &Bait, bytes: &[u8]) -> Tried {
    let found = bytes
        .windows(bait.token.len().max(1))
        .any(|window| window == bait.token.as_bytes());
    match found {
        true => Ok("the token was read".to_owned()),
        false => Err(Failure::Nothing("no token there".to_owned())),
    }
}

/// Reads a path and looks for the token in it.
pub fn read_token(bait: &Bait, path: impl AsRef<Path>) -> Tried {
    token(bait, &read(&open(path, libc::O_RDONLY)?)?)
}

/// The first that works, or why the last did not.
pub fn any(attempts: impl IntoIterator<Item = Tried>) -> Tried {
    let mut last = Err(Failure::Nothing("nothing there to try".to_owned()));
    for tried in attempts {
        match tried {
            Ok(_) => return tried,
            Err(_) => last = tried,
        }
    }
    last
}

/// A folder where files can be made: the shared one, or one of the usual.
///
/// # Errors
/// What the last refused with.
pub fn writable(bait: &Bait) -> Result<std::path::PathBuf, Failure> {
    let mut last = Failure::Nothing("no folder to write to".to_owned());
    for folder in [
        bait.rw.as_path(),
        Path::new("/tmp"),
        Path::new("/dev/shm"),
        Path::new("/run"),
        Path::new("/"),
    ] {
        if folder.as_os_str().is_empty() {
            continue;
        }
        let file = folder.join(format!(".escape-{}", std::process::id()));
        match open(&file, libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY) {
            Ok(_) => {
                let _ = std::fs::remove_file(&file);
                return Ok(folder.to_path_buf());
            }
            Err(e) => last = e.into(),
        }
    }
    Err(last)
}

/// Runs `body` in a child made by fork(2) and returns its wait status.
///
/// # Errors
/// The calls' own.
pub fn in_child(body: impl FnOnce() -> i32) -> io::Result<i32> {
    // SAFETY: this program has one thread.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let status = body();
            // SAFETY: ends the child without running anything of the parent's.
            unsafe { libc::_exit(status) }
        }
        pid => wait(pid),
    }
}

/// Waits for a child.
///
/// # Errors
/// The call's own.
pub fn wait(pid: i32) -> io::Result<i32> {
    let mut status = [0; 4];
    call!(libc::SYS_wait4, pid, &mut status[..], libc::__WALL, 0)?;
    Ok(i32::from_ne_bytes(status))
}
