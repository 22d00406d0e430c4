//! What the attempts are after, laid out on the host.

use super::listeners::Listeners;
use casemate_escape::{Bait, Leaked, attempts, call, sys};
use casemate_testbed::Way;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::stat::Mode;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// The host as the attempts should not find it. Taken away when dropped.
#[derive(Debug)]
pub struct Stage {
    folder: TempDir,
    bait: Bait,
    victim: Child,
    /// Fds that the launcher leaks, and the numbers at which it does.
    pub(super) leaks: Vec<(OwnedFd, RawFd)>,
    /// The other end of the leaked socket.
    _peer: OwnedFd,
}

/// Whose the folder is that is shared to be written, for root.
const NOBODY: u32 = 65534;
/// First number of the leaked fds, well above what a launcher opens itself.
const LEAKED: RawFd = 40;

/// Fds that the launcher may have at least: more than an attempt asks for.
const LAUNCHERS_FDS: u64 = 8192;

/// A folder whose file system has idmapped mounts, and executes.
fn parent() -> &'static str {
    match Way::detect() {
        Way::InsideBed => "/scratch",
        _ => "/srv",
    }
}

impl Stage {
    /// Lays everything out. With `user`, the victim and the shared folders are that user's,
    /// for launchers that are not root.
    ///
    /// # Panics
    /// Where the host does not allow it: it takes root.
    pub fn new(user: Option<u32>) -> Self {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
        if hard < LAUNCHERS_FDS {
            setrlimit(Resource::RLIMIT_NOFILE, LAUNCHERS_FDS, LAUNCHERS_FDS).expect("root may");
        }
        let folder = tempfile::Builder::new()
            .prefix("casemate-escape-")
            .permissions(mode(0o755))
            .tempdir_in(parent())
            .expect("a folder for the stage");
        let token = token(folder.path());
        let marker = folder.path().join("marker");
        fs::write(&marker, &token).expect("the marker");
        let (ro, rw) = (folder.path().join("share"), folder.path().join("written"));
        share(&ro, &marker, &token);
        fs::create_dir(&rw).expect("a folder");
        fs::set_permissions(&rw, mode(0o777)).expect("its mode");
        // Root's folder would make root's files.
        let owner = user.unwrap_or(NOBODY);
        std::os::unix::fs::chown(&rw, Some(owner), Some(owner)).expect("its owner");
        let path_socket = folder.path().join("socket");
        let listeners = Listeners::start(&path_socket, &token).expect("sockets");
        fs::set_permissions(&path_socket, mode(0o777)).expect("its mode");
        let (victim, address, fd) = victim(&ro.join("escape"), &token, user);
        let (leaks, peer, leaked) = leaks(&marker, &victim, &token);
        let bait = Bait {
            marker_inode: fs::metadata(&marker).map_or(0, |stat| stat.ino()),
            handle: handle(&marker),
            shadow: attempts::shadow(),
            pid: victim.id() as i32,
            address,
            fd,
            launcher: std::process::id() as i32,
            tcp: listeners.tcp,
            udp: listeners.udp,
            abstract_socket: listeners.name,
            path_socket,
            interfaces: interfaces(),
            shm: shared_memory(&token),
            host_name: nix::unistd::gethostname()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default(),
            leaked,
            memory_bytes: 1536 << 20,
            processes: 1500,
            fds: 5000,
            token,
            marker,
            ro,
            rw,
        };
        Self {
            folder,
            bait,
            victim,
            leaks,
            _peer: peer,
        }
    }

    /// What there is, for the attempts.
    pub fn bait(&self) -> &Bait {
        &self.bait
    }

    /// The program in the folder that jails share read-only.
    pub fn program(&self) -> PathBuf {
        self.bait.ro.join("escape")
    }

    /// A folder that no jail is given.
    pub fn outside(&self) -> &Path {
        self.folder.path()
    }

    /// Whether the victim is as it was.
    pub fn victim_lives(&self) -> bool {
        crate::proc::Process(self.bait.pid).alive()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = self.victim.kill();
        let _ = self.victim.wait();
        // SAFETY: takes a number; marks the segment for removal.
        unsafe { libc::shmctl(self.bait.shm, libc::IPC_RMID, std::ptr::null_mut()) };
    }
}

fn mode(bits: u32) -> fs::Permissions {
    fs::Permissions::from_mode(bits)
}

/// Sixteen random characters.
fn token(folder: &Path) -> String {
    let seed = fs::read("/proc/sys/kernel/random/uuid").unwrap_or_default();
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed);
    hasher.update(folder.as_os_str().as_encoded_bytes());
    hasher.finalize().to_hex()[..16].to_owned()
}

/// The folder that is shared read-only.
fn share(ro: &Path, marker: &Path, token: &str) {
    fs::create_dir(ro).expect("a folder");
    let program = ro.join("escape");
    for (name, bits) in [
        ("escape", 0o755),
        ("escape-setuid", 0o4755),
        ("escape-setgid", 0o2755),
        ("escape-capable", 0o755),
    ] {
        let copy = ro.join(name);
        fs::copy(super::probe(), &copy).expect("a copy of the probe");
        fs::set_permissions(&copy, mode(bits)).expect("its mode");
    }
    // vfs_cap_data of revision 2: CAP_SYS_CHROOT, permitted and effective (capabilities(7)).
    let mut capability = [0; 20];
    capability[..4].copy_from_slice(&0x0200_0001_u32.to_le_bytes());
    capability[4..8].copy_from_slice(&(1_u32 << 18).to_le_bytes());
    let capable = sys::text(ro.join("escape-capable"));
    // Where the file system has none, the attempt does not work without a jail either.
    let _ = call!(
        libc::SYS_setxattr,
        capable.as_c_str(),
        c"security.capability",
        &capability[..],
        20,
        0
    );
    symlink(marker, ro.join("link")).expect("a link");
    fs::write(ro.join("open"), "here").expect("a file");
    fs::set_permissions(ro.join("open"), mode(0o666)).expect("its mode");
    fs::write(ro.join("private"), token).expect("a file");
    fs::set_permissions(ro.join("private"), mode(0o600)).expect("its mode");
    assert!(program.is_file());
}

/// Starts the victim: (process, address of the token in it, its fd).
fn victim(program: &Path, token: &str, user: Option<u32>) -> (Child, u64, i32) {
    let mut command = Command::new(program);
    command
        .args(["victim", token])
        .env(casemate_escape::VARIABLE, token)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    if let Some(user) = user {
        use std::os::unix::process::CommandExt;
        command.uid(user).gid(user);
    }
    let mut child = command.spawn().expect("the victim starts");
    let mut line = String::new();
    let out = child.stdout.take().expect("piped");
    BufReader::new(out).read_line(&mut line).expect("its line");
    let mut numbers = line.split_whitespace().map(str::parse::<u64>);
    let (Some(Ok(address)), Some(Ok(fd))) = (numbers.next(), numbers.next()) else {
        panic!("the victim said {line:?}");
    };
    (child, address, fd as i32)
}

/// Opens all that a careless launcher could leave open.
fn leaks(marker: &Path, victim: &Child, token: &str) -> (Vec<(OwnedFd, RawFd)>, OwnedFd, Leaked) {
    let mut leaks = Vec::new();
    let mut leak = |fd: OwnedFd| {
        let number = LEAKED + leaks.len() as RawFd;
        // Above all the numbers at which they are leaked.
        let high = fcntl(&fd, FcntlArg::F_DUPFD_CLOEXEC(100)).expect("a copy");
        // SAFETY: fresh from the kernel.
        leaks.push((unsafe { OwnedFd::from_raw_fd(high) }, number));
        number
    };
    let opened = |path: &Path, flags| {
        open(path, flags | OFlag::O_CLOEXEC, Mode::empty())
            .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    };
    let (theirs, ours) = socketpair(
        AddressFamily::Unix,
        SockType::Stream,
        None,
        SockFlag::SOCK_CLOEXEC,
    )
    .expect("a socket pair");
    nix::unistd::write(&ours, token.as_bytes()).expect("written");
    let pidfd = sys::owned(call!(libc::SYS_pidfd_open, victim.id(), 0).expect("a pidfd"));
    let kvm = open("/dev/kvm", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty());
    let leaked = Leaked {
        directory: leak(opened(Path::new("/"), OFlag::O_RDONLY)),
        path_directory: leak(opened(Path::new("/"), OFlag::O_PATH)),
        path_file: leak(opened(marker, OFlag::O_PATH)),
        file: leak(opened(marker, OFlag::O_RDONLY)),
        socket: leak(theirs),
        pidfd: leak(pidfd),
        mount_namespace: leak(opened(Path::new("/proc/self/ns/mnt"), OFlag::O_RDONLY)),
        net_namespace: leak(opened(Path::new("/proc/self/ns/net"), OFlag::O_RDONLY)),
        kvm: kvm.map_or(-1, leak),
    };
    (leaks, ours, leaked)
}

/// name_to_handle_at(2): type and bytes.
fn handle(path: &Path) -> (i32, Vec<u8>) {
    let mut handle = [0; 136];
    handle[..4].copy_from_slice(&128_u32.to_ne_bytes());
    let mut mount = [0; 4];
    let name = sys::text(path);
    let asked = call!(
        libc::SYS_name_to_handle_at,
        libc::AT_FDCWD,
        name.as_c_str(),
        &mut handle[..],
        &mut mount[..],
        0
    );
    if asked.is_err() {
        return (0, Vec::new());
    }
    let word = |at: usize| {
        let bytes = [handle[at], handle[at + 1], handle[at + 2], handle[at + 3]];
        u32::from_ne_bytes(bytes)
    };
    let len = word(0) as usize;
    (word(4) as i32, handle[8..8 + len.min(128)].to_vec())
}

fn interfaces() -> Vec<String> {
    fs::read_dir("/sys/class/net")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name != "lo")
        .collect()
}

/// A segment that everybody may read, with the token.
fn shared_memory(token: &str) -> i32 {
    // SAFETY: plain numbers.
    let id = unsafe { libc::shmget(libc::IPC_PRIVATE, 4096, libc::IPC_CREAT | 0o666) };
    assert!(id >= 0, "shmget: {}", std::io::Error::last_os_error());
    // SAFETY: attaches the new segment, a page long, at an address of the kernel's choice;
    // the token is shorter, and the segment is detached again.
    unsafe {
        let at = libc::shmat(id, std::ptr::null(), 0);
        assert!(
            at as isize != -1,
            "shmat: {}",
            std::io::Error::last_os_error()
        );
        std::ptr::copy_nonoverlapping(token.as_ptr(), at.cast::<u8>(), token.len());
        libc::shmdt(at);
    }
    id
}

/// What the leaked fds are at, for callers that set them up.
pub(super) fn raw(leaks: &[(OwnedFd, RawFd)]) -> Vec<(RawFd, RawFd)> {
    leaks.iter().map(|(fd, at)| (fd.as_raw_fd(), *at)).collect()
}
