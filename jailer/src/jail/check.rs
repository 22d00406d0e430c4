//! What can be checked of a request before anything is made.

use super::Request;
use crate::layers::mounts;
use crate::refusal::Refusal;
use crate::rights::Rights;
use casemate_policy::{MountKind, Namespace, Network, Policy};
use casemate_proto::cell::Layer;
use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat, fstatfs};
use rustix::io::Errno;
use std::os::fd::{BorrowedFd, RawFd};

/// Namespace files (statfs(2)): whoever has one open can enter it.
const NSFS_MAGIC: i64 = 0x6e73_6673;

/// # Errors
/// The first value that cannot be.
pub fn request(request: &Request, rights: &Rights) -> Result<(), Refusal> {
    let policy = &request.policy;
    if let (Rights::User(_), Network::Join(path)) = (rights, &policy.network) {
        return Err(Refusal::of(
            Layer::NetNs,
            format!(
                "only root can join the network namespace {path}: start the jail as root, or \
                 choose another network"
            ),
        ));
    }
    let first = request
        .argv
        .first()
        .map_or(&b""[..], |name| name.to_bytes());
    // In a build for tests, what is left out on purpose is missed on purpose.
    let may_miss = |layer| {
        let on_purpose = cfg!(feature = "layer-off") && request.leave_out.contains(&layer);
        request.allow_missing.contains(&layer) && !on_purpose
    };
    let checks = [
        (
            cfg!(feature = "layer-off") || request.leave_out.is_empty(),
            "leaving layers out is for tests of a build with the layer-off feature; use \
             --allow-missing for what the host lacks"
                .to_owned(),
        ),
        (!first.is_empty(), "no program is given".to_owned()),
        (
            request.workdir.to_bytes().starts_with(b"/"),
            "the working directory is not absolute".to_owned(),
        ),
        (
            policy.unshares(Namespace::Pid) && !may_miss(Layer::PidNs),
            "a program's jail must have a pid namespace: it is what ends all its processes"
                .to_owned(),
        ),
        (
            policy.unshares(Namespace::Mount) && !may_miss(Layer::MountNs),
            "a program's jail must have a mount namespace: without it there is no root of its \
             own"
            .to_owned(),
        ),
        (
            policy.network == Network::Host || policy.unshares(Namespace::Net),
            "the policy has neither a network namespace nor the host's network: name one"
                .to_owned(),
        ),
        (
            !policy.keep_fds.iter().any(|&fd| fd < 3),
            "the policy keeps fds below 3, which are kept anyhow".to_owned(),
        ),
    ];
    if let Some((_, message)) = checks.into_iter().find(|(good, _)| !good) {
        return Err(Refusal::new(message));
    }
    mounts_of(policy)
}

fn mounts_of(policy: &Policy) -> Result<(), Refusal> {
    let mounts = &policy.filesystem.mounts;
    let bad = |text: String| Err(Refusal::of(Layer::Root, text));
    for mount in mounts.iter() {
        let tmpfs = matches!(mount.kind, MountKind::Tmpfs { .. });
        let plain = |path: &str| {
            path.starts_with('/')
                && !path.contains('\0')
                && path.split('/').all(|name| name != "..")
        };
        if !plain(&mount.jail) || !(tmpfs || plain(&mount.host)) {
            return bad(format!(
                "the mount of {:?} at {:?} must name absolute paths without \"..\"",
                mount.host, mount.jail
            ));
        }
        if tmpfs && mount.jail == "/" {
            return bad("the root itself is a tmpfs already: leave that mount out".to_owned());
        }
    }
    match mounts::whole_root(mounts) {
        Some(at) if at > 0 && mounts[..at].iter().any(|m| m.jail != "/") => {
            bad("the mount at \"/\" would hide those before it: name it first".to_owned())
        }
        _ => Ok(()),
    }
}

/// The streams and other fds that the program gets: each must be open, and of a kind from
/// which nothing else can be reached.
///
/// # Errors
/// The first that is not.
pub fn streams(keep: &[RawFd]) -> Result<(), Refusal> {
    for fd in [0, 1, 2].iter().chain(keep) {
        if let Err(found) = stream(*fd) {
            return Err(Refusal::of(
                Layer::Fds,
                format!("fd {fd} is {found}: give the program files, pipes, sockets or terminals"),
            ));
        }
    }
    Ok(())
}

fn stream(fd: RawFd) -> Result<(), String> {
    // SAFETY: only looked at, for the length of this call; where it is not open, the calls
    // say so.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    let stat = fstat(fd).map_err(|e| match e {
        Errno::BADF => "not open".to_owned(),
        e => format!("not to be looked at ({e})"),
    })?;
    let flags = fcntl_getfl(fd).map_err(|e| e.to_string())?;
    if flags.contains(OFlags::PATH) {
        return Err("an O_PATH fd, from which paths can be reached".to_owned());
    }
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Fifo | FileType::CharacterDevice | FileType::Socket => Ok(()),
        FileType::RegularFile => match fstatfs(fd) {
            Ok(stat) if stat.f_type == NSFS_MAGIC => Err("a namespace".to_owned()),
            _ => Ok(()),
        },
        FileType::Directory => Err("a directory, from which others can be reached".to_owned()),
        _ => Err("of an unknown kind".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, Mode, openat};
    use std::os::fd::AsRawFd;

    #[test]
    fn a_stream_leads_nowhere_else() {
        let open = |path: &str, flags| openat(CWD, path, flags, Mode::empty()).unwrap();
        for (path, flags, word) in [
            ("/", OFlags::RDONLY, "directory"),
            ("/dev/null", OFlags::PATH, "O_PATH"),
            ("/proc/self/ns/mnt", OFlags::RDONLY, "namespace"),
        ] {
            let fd = open(path, flags);
            let found = stream(fd.as_raw_fd()).unwrap_err();
            assert!(found.contains(word), "{found}");
        }
        assert_eq!(
            stream(open("/dev/null", OFlags::RDONLY).as_raw_fd()),
            Ok(())
        );
        assert_eq!(stream(99_999), Err("not open".to_owned()));
        let (reader, _writer) = std::io::pipe().unwrap();
        assert_eq!(stream(reader.as_raw_fd()), Ok(()));
    }
}
