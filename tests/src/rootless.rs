//! An ordinary user who starts jails: no root, no capability, no line in passwd(5).

use std::ffi::{CStr, CString, OsStr};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// A user with a copy of `casemate` that it may execute, and folders of its own.
#[derive(Debug)]
pub struct User {
    /// User and group.
    pub id: u32,
    folder: TempDir,
}

impl User {
    /// Makes the folders.
    ///
    /// # Panics
    /// Where the caller is not root.
    pub fn new(id: u32) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("casemate-user-")
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir_in("/srv")
            .expect("a folder in /srv");
        let user = Self { id, folder };
        fs::copy(crate::bin("casemate"), user.program()).expect("a copy of casemate");
        for folder in [user.runtime(), user.own("home")] {
            user.make(&folder, 0o700);
        }
        user
    }

    /// Makes a folder of the user's.
    pub fn make(&self, folder: &Path, mode: u32) {
        fs::DirBuilder::new()
            .mode(mode)
            .create(folder)
            .expect("a folder");
        chown(folder, Some(self.id), Some(self.id)).expect("its owner");
    }

    /// A path in its folder, which is root's.
    pub fn own(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `casemate`.
    pub fn program(&self) -> PathBuf {
        self.own("casemate")
    }

    /// `XDG_RUNTIME_DIR`.
    pub fn runtime(&self) -> PathBuf {
        self.own("runtime")
    }

    /// Where the state of its jails is.
    pub fn run_dir(&self) -> PathBuf {
        self.runtime().join("casemate")
    }

    /// A command of this user's, in an environment of its own.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = self.early(program);
        become_user(&mut command, self.id, &[]);
        command
    }

    /// The same, as root still, for what must be done before it becomes the user.
    pub fn early(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.own("home"))
            .env("XDG_RUNTIME_DIR", self.runtime())
            .current_dir("/")
            .stdin(Stdio::null());
        command
    }

    /// `casemate jail` with these options and, after `--`, this command. Its tenant is the
    /// folder's own.
    pub fn jail(&self, options: &[&str], cmd: &[&str]) -> Command {
        let mut command = self.command(&self.program());
        command
            .args(["jail", "--tenant", &self.tenant()])
            .args(options)
            .arg("--")
            .args(cmd);
        command
    }

    /// A tenant of its own.
    pub fn tenant(&self) -> String {
        crate::leftovers::tenant(self.folder.path())
    }

    /// What its jails have on the host now, its folders and programs left aside.
    pub fn leftovers(&self) -> Vec<String> {
        let mut left = crate::leftovers::all(self.folder.path());
        let state = self.run_dir();
        let state = state.to_string_lossy();
        left.retain(|what| !what.starts_with("file ") || what.contains(&*state));
        left
    }
}

/// Has a command run as this user, of the group of the same number and of these others. What
/// was asked to be done before is done as root still.
pub fn become_user(command: &mut Command, id: u32, groups: &[libc::gid_t]) {
    let groups = groups.to_vec();
    let check = |result: libc::c_int| match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    };
    // SAFETY: system calls only, with numbers and memory that outlives them.
    unsafe {
        command.pre_exec(move || {
            check(libc::setgroups(groups.len(), groups.as_ptr()))?;
            check(libc::setresgid(id, id, id))?;
            check(libc::setresuid(id, id, id))
        });
    }
}

/// cgroups that were handed to a user, one in each hierarchy that limits need. Removed when
/// dropped.
#[derive(Debug)]
pub struct Handed {
    name: String,
    paths: Vec<PathBuf>,
}

impl Handed {
    /// Hands them to the user.
    ///
    /// # Panics
    /// Where the host has no controllers, or this is not root.
    pub fn to(user: &User) -> Self {
        let name = format!("casemate-handed-{}", user.tenant());
        let top = Path::new("/sys/fs/cgroup");
        let v2 = top.join("cgroup.controllers").exists();
        let paths: Vec<PathBuf> = match v2 {
            true => {
                let control = top.join("cgroup.subtree_control");
                fs::write(control, "+memory +cpu +pids").expect("controllers");
                vec![top.join(&name)]
            }
            false => ["memory", "cpu", "pids"]
                .map(|controller| top.join(controller).join(&name))
                .into(),
        };
        for path in &paths {
            fs::create_dir(path).expect("a cgroup");
            hand(path, user.id);
        }
        Self { name, paths }
    }

    /// Its name below each hierarchy.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where they are.
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Makes one of the user's below each.
    pub fn below(&self, name: &str, user: &User) {
        for path in &self.paths {
            let path = path.join(name);
            fs::create_dir(&path).expect("a cgroup");
            hand(&path, user.id);
        }
    }

    /// Has a command start in these, or in those of this name below them. To be asked before
    /// it becomes the user.
    pub fn holds(&self, command: &mut Command, below: &str) {
        let open = |path: &PathBuf| OpenOptions::new().write(true).open(path).expect("a file");
        let files: Vec<File> = self.files(below).iter().map(open).collect();
        // SAFETY: only write(2) with memory that outlives it.
        unsafe {
            command.pre_exec(move || files.iter().try_for_each(|mut file| file.write_all(b"0")));
        }
    }

    /// The files by which these are joined, or those of this name below them.
    pub fn files(&self, below: &str) -> Vec<PathBuf> {
        let file = |path: &PathBuf| path.join(below).join("cgroup.procs");
        self.paths.iter().map(file).collect()
    }

    /// All cgroups below them.
    pub fn made(&self) -> Vec<PathBuf> {
        self.paths.iter().flat_map(|path| folders(path)).collect()
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        for path in self.made().iter().rev().chain(&self.paths) {
            let _ = fs::remove_dir(path);
        }
    }
}

/// Gives a cgroup to a user, as cgroups(7) has it: the directory and the files of processes.
fn hand(path: &Path, id: u32) {
    let files = [
        "",
        "cgroup.procs",
        "tasks",
        "cgroup.threads",
        "cgroup.subtree_control",
    ];
    for file in files.map(|file| path.join(file)) {
        if file.exists() {
            chown(&file, Some(id), Some(id)).expect("its owner");
        }
    }
}

/// All folders below one, each before what is in it.
fn folders(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.push(entry.path());
            found.extend(folders(&entry.path()));
        }
    }
    found
}

/// Has a command see these files at these paths: bind mounts in a mount namespace of its own.
/// To be asked before it becomes a user.
pub fn sees(command: &mut Command, files: &[(&Path, &str)]) {
    let text = |path: &OsStr| CString::new(path.as_bytes()).expect("a path");
    let mounts: Vec<(CString, CString)> = files
        .iter()
        .map(|(file, at)| (text(file.as_os_str()), text(OsStr::new(at))))
        .collect();
    let check = |result: libc::c_int| match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    };
    // SAFETY: system calls only, with memory that outlives them.
    unsafe {
        command.pre_exec(move || {
            let mount = |from: &CStr, to: &CStr, flags| {
                let none = std::ptr::null();
                check(libc::mount(
                    from.as_ptr(),
                    to.as_ptr(),
                    none,
                    flags,
                    none.cast(),
                ))
            };
            check(libc::unshare(libc::CLONE_NEWNS))?;
            mount(c"none", c"/", libc::MS_PRIVATE | libc::MS_REC)?;
            for (from, to) in &mounts {
                mount(from, to, libc::MS_BIND)?;
            }
            Ok(())
        });
    }
}
