//! Builds the jail around the calling process, which then becomes the program.
//!
//! The order, and why: the mount namespace first, since what is mounted must be opened in
//! it; the journal before anything is made; folders, devices and program while the root is
//! still root's; cgroups before anything of note is used; the root is entered when nothing
//! outside is needed any more; limits and rights last, each after the last step that needs
//! what it takes away.

use super::Addition;
use super::binary::{Binary, Placed};
use super::cgroups::Leaf;
use super::error::PeerError;
use super::folder::Folder;
use super::landlock::Probe;
use super::netns::Netns;
use super::options::Options;
use super::readback::{Namespaces, Own, check_root};
use super::record::{Journal, Record};
use super::{cgroups, clear, layout, mounts, program, rights, session};
use crate::plan::HOSTNAME;
use crate::process::start_time;
use crate::state::ProcessRecord;
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::process::{chroot, fchdir, umask};
use rustix::system::{setdomainname, sethostname};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};
use std::convert::Infallible;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

/// Everything that is known before the first change.
#[derive(Debug)]
pub struct Builder {
    /// What is asked for.
    pub options: Options,
    /// The program.
    pub binary: Binary,
    /// The base, links resolved.
    pub base: PathBuf,
    /// Whose directories may be met: the jail's user, and the one before with this id.
    pub owners: Vec<u32>,
    /// The network namespace to join.
    pub netns: Option<Netns>,
    /// The cgroups to be.
    pub cgroups: Vec<Leaf>,
    /// The record, locked.
    pub record: Record,
    /// Its journal.
    pub journal: Journal,
    /// The caller's umask.
    pub umask: Mode,
    /// The caller's namespaces.
    pub namespaces: Namespaces,
    /// For the program's arguments.
    pub times: program::Times,
}

/// How far it got; tells what a failure has to undo.
struct Progress {
    /// The host's mount namespace and the caller's root, while the way back is open.
    host: Option<Host>,
}

/// Where paths mean what they meant to the caller.
struct Host {
    mounts: OwnedFd,
    /// The caller's, which need not be its mount namespace's.
    root: OwnedFd,
}

impl Host {
    fn open() -> Result<Self, PeerError> {
        let open = |path: &str, flags| {
            open(path, flags | OFlags::CLOEXEC, Mode::empty())
                .map_err(|e| PeerError::path("open", path.as_ref(), e, "mount /proc"))
        };
        Ok(Self {
            mounts: open("/proc/self/ns/mnt", OFlags::RDONLY)?,
            root: open("/", OFlags::PATH | OFlags::DIRECTORY)?,
        })
    }

    fn enter(&self) -> Result<(), Errno> {
        move_into_link_name_space(self.mounts.as_fd(), Some(LinkNameSpaceType::Mount))?;
        fchdir(&self.root)?;
        chroot(".")
    }
}

impl Builder {
    /// Builds and executes. Returns only an error; `undo` says whether what was made is to
    /// be removed here, or by somebody who waits for it.
    ///
    /// `pid` is the process' own, as the caller of the jailer sees it. `before_exec` is called
    /// when only the exec is left.
    pub fn run(
        mut self,
        pid: i32,
        undo: bool,
        before_exec: impl FnOnce(),
    ) -> Result<Infallible, PeerError> {
        let mut progress = Progress { host: None };
        let error = match self.build(pid, &mut progress, before_exec) {
            Ok(never) => match never {},
            Err(e) => e,
        };
        // What cannot be undone here, the next start of the id or a reaper finds.
        let undone = undo
            && self.is_outside(&mut progress)
            && cgroups::leave(&self.cgroups).is_ok()
            && clear::undo(&self.journal).is_ok();
        if undone {
            let _ = self.record.forget(&self.options.run_dir);
        }
        Err(error)
    }

    /// Goes back to where paths mean what they meant before, if there is a way.
    fn is_outside(&self, progress: &mut Progress) -> bool {
        match progress.host.take() {
            Some(host) => host.enter().is_ok(),
            None => self.journal.process.is_none(),
        }
    }

    fn build(
        &mut self,
        pid: i32,
        progress: &mut Progress,
        before_exec: impl FnOnce(),
    ) -> Result<Infallible, PeerError> {
        let options = self.options.clone();
        if options.with(Addition::Session) {
            session::leave(options.daemonize)?;
        }
        let null = match options.daemonize {
            true => Some(open_null()?),
            false => None,
        };
        let own = Own::open()?;
        let host = Host::open()?;
        mounts::leave(options.with(Addition::IpcNs), options.with(Addition::UtsNs))?;
        progress.host = Some(host);

        let base = Folder::operators(&self.base, &self.owners)?;
        self.plan(&base, pid)?;
        let root = self.make(&base)?;
        drop(base);
        let filled = layout::fill(&root, options.uid, options.gid)?;
        let mut placed = self.binary.place(&root, &options)?;
        layout::write_pid(&root, &self.binary.name, pid)?;
        self.join_cgroups()?;
        if let Some(netns) = &self.netns {
            netns.join()?;
        }
        let cgroup_ns = self.separate()?;
        let netns = self.netns.as_ref().map(Netns::inode);
        self.namespaces.check(&options, cgroup_ns, netns)?;

        let mounted = mounts::mount_root(&root, options.with(Addition::Nosuid))?;
        placed.mount(&mounted, &self.binary.name)?;
        filled.give(options.uid, options.gid)?;
        drop(root);
        let probe = match options.with(Addition::Landlock) {
            true => Some(Probe::new()?),
            false => None,
        };
        mounts::enter(&mounted)?;
        self.confine(&mounted, &placed, probe, &own, progress)?;
        if let Some(null) = &null {
            redirect(null)?;
        }
        before_exec();
        program::execute(&options, &self.binary.name, &self.times)
    }

    /// Writes down what is about to be made.
    fn plan(&mut self, base: &Folder, pid: i32) -> Result<(), PeerError> {
        self.journal.process = Some(ProcessRecord {
            pid,
            start_time: start_time(pid).unwrap_or(0),
        });
        let missing = layout::missing(base, &self.binary.name, self.options.id.as_str())?;
        // Directories of the jail before that had files in them are still ours.
        self.journal.made.extend(missing);
        self.journal.made.sort_unstable();
        self.journal.made.dedup();
        self.journal.cgroups = self.cgroups.iter().filter_map(Leaf::planned).collect();
        self.record.write(&self.journal)
    }

    /// Makes root and cgroups, and writes down which they are.
    fn make(&mut self, base: &Folder) -> Result<Folder, PeerError> {
        let root = layout::take_root(base, &self.binary.name, self.options.id.as_str())?;
        self.journal.root = Some(root.inode()?);
        for leaf in &mut self.cgroups {
            let inode = leaf.make()?;
            let path = leaf.planned().map(|planned| planned.path);
            let known = self.journal.cgroups.iter_mut();
            for cgroup in known.filter(|cgroup| Some(&cgroup.path) == path.as_ref()) {
                cgroup.inode = Some(inode);
            }
        }
        self.record.write(&self.journal)?;
        Ok(root)
    }

    fn join_cgroups(&self) -> Result<(), PeerError> {
        for leaf in &self.cgroups {
            leaf.set(self.options.with(Addition::CgroupValues))?;
        }
        for leaf in &self.cgroups {
            leaf.join()?;
        }
        Ok(())
    }

    /// Own cgroup namespace, host name and keyring. Returns whether there is the first: a
    /// kernel without cgroups has none.
    fn separate(&self) -> Result<bool, PeerError> {
        let options = &self.options;
        if options.with(Addition::UtsNs) {
            sethostname(HOSTNAME.as_bytes())
                .and_then(|()| setdomainname(b"(none)"))
                .map_err(|e| {
                    PeerError::layer(
                        Addition::UtsNs,
                        format!("cannot be applied: sethostname: {e}"),
                        "run the jailer with CAP_SYS_ADMIN",
                    )
                })?;
        }
        if options.with(Addition::Keyring) {
            session::keyring()?;
        }
        if !options.with(Addition::CgroupNs) {
            return Ok(false);
        }
        // SAFETY: only CLONE_FILES could make fds of this process invalid, and it is not given.
        unsafe { unshare_unsafe(UnshareFlags::NEWCGROUP) }.map_err(|e| {
            PeerError::layer(
                Addition::CgroupNs,
                format!("cannot be applied: unshare: {e}"),
                "see /proc/sys/user/max_cgroup_namespaces",
            )
        })?;
        Ok(true)
    }

    /// Gives up what is left, and looks whether all is as promised.
    fn confine(
        &self,
        root: &Folder,
        placed: &Placed,
        probe: Option<Probe>,
        own: &Own,
        progress: &mut Progress,
    ) -> Result<(), PeerError> {
        let options = &self.options;
        check_root(options, root.inode()?, &self.binary.name, placed.inode)?;
        umask(match options.with(Addition::Umask) {
            true => Mode::RWXG | Mode::RWXO,
            false => self.umask,
        });
        match options.with(Addition::Signals) {
            true => session::signals()?,
            false => session::default_sigpipe(),
        }
        if options.with(Addition::NoNewPrivs) {
            rights::no_new_privs()?;
        }
        if let Some(probe) = probe {
            // Denies the way back.
            progress.host = None;
            probe.restrict(&root)?;
        }
        rights::limit(options)?;
        progress.host = None;
        rights::drop_all(options)?;
        own.check(options)
    }
}

fn open_null() -> Result<OwnedFd, PeerError> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    open("/dev/null", flags, Mode::empty())
        .map_err(|e| PeerError::path("open", "/dev/null".as_ref(), e, "make it (mknod c 1 3)"))
}

fn redirect(null: &OwnedFd) -> Result<(), PeerError> {
    dup2_stdin(null)
        .and_then(|()| dup2_stdout(null))
        .and_then(|()| dup2_stderr(null))
        .map_err(|e| PeerError::step("redirecting to /dev/null", e, "report this"))
}
