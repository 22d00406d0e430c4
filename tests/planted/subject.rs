//! What is started: a plain program, a VM, and a program through the peer's command line.

use super::paths;
use super::plant::private;
use casemate_tests::{bin, leftovers, tiny_guest};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longest that a refusal may take. The machine may be busy.
const SOON: Duration = Duration::from_secs(5);

/// How a start came out.
#[derive(Debug)]
pub struct Came {
    /// The program, or the guest, ran as it should.
    pub whole: bool,
    status: Option<i32>,
    errors: String,
    took: Duration,
}

impl Came {
    fn of(output: &Output, whole: bool, took: Duration) -> Self {
        Self {
            whole,
            status: output.status.code(),
            errors: String::from_utf8_lossy(&output.stderr).into_owned(),
            took,
        }
    }

    pub fn failed_soon(&self) -> bool {
        self.status.is_some() && self.took < SOON
    }

    pub fn refused_in_one_line(&self, refusal: i32) -> bool {
        let ours = |line: &&str| line.starts_with("casemate");
        let lines = self.errors.lines().filter(ours).count();
        self.failed_soon() && self.status == Some(refusal) && lines == 1
    }
}

/// A thing that can be started with all it writes below one folder.
pub trait Subject {
    /// The command, under `wrapper` if there is one.
    fn command(&self, scratch: &Path, wrapper: &[String]) -> Command;
    /// Whether this is how a start comes out that nothing was wrong with.
    fn is_whole(&self, output: &Output, scratch: &Path) -> bool;
    /// The status of a refusal.
    fn refusal(&self) -> i32 {
        125
    }
    /// The least number of paths to be found.
    fn least(&self) -> usize;
    /// Where the jail's `/` is, below the scratch folder.
    fn root(&self) -> PathBuf {
        // A tmpfs that no path leads to.
        "nowhere".into()
    }

    fn start(&self, scratch: &Path) -> Came {
        let limit = ["timeout", "-s", "KILL", "20"].map(str::to_owned);
        self.run(scratch, self.command(scratch, &limit))
    }

    fn run(&self, scratch: &Path, mut command: Command) -> Came {
        let begun = Instant::now();
        let output = command.stdin(Stdio::null()).output().expect("it starts");
        let whole = self.is_whole(&output, scratch);
        Came::of(&output, whole, begun.elapsed())
    }

    /// A whole start, and its trace.
    fn traced(&self, scratch: &Path) -> (Came, String) {
        let trace = scratch.with_extension("trace");
        let mut wrapper = vec!["strace".to_owned()];
        wrapper.extend(paths::options());
        wrapper.extend(["-o".to_owned(), trace.display().to_string()]);
        let came = self.run(scratch, self.command(scratch, &wrapper));
        let text = fs::read_to_string(&trace).expect("a trace");
        let _ = fs::remove_file(&trace);
        (came, text)
    }
}

fn wrapped(wrapper: &[String], program: &Path) -> Command {
    let mut command = Command::new(&wrapper[0]);
    command.args(&wrapper[1..]).arg(program);
    command
}

/// A plain program.
pub struct Jail;

impl Subject for Jail {
    fn command(&self, scratch: &Path, wrapper: &[String]) -> Command {
        let mut command = wrapped(wrapper, &bin("casemate"));
        command
            .args(["jail", "--id", "planted", "--tenant"])
            .arg(leftovers::tenant(scratch))
            .arg("--run-dir")
            .arg(scratch.join("run"))
            .arg("--audit-dir")
            .arg(scratch.join("audit"))
            .args(["--", "echo", "whole"]);
        command
    }

    fn is_whole(&self, output: &Output, _: &Path) -> bool {
        output.status.success() && output.stdout == b"whole\n" && output.stderr.is_empty()
    }

    fn least(&self) -> usize {
        12
    }
}

/// A freestanding guest that resets itself.
pub struct Vm;

impl Subject for Vm {
    fn command(&self, scratch: &Path, wrapper: &[String]) -> Command {
        let mut command = wrapped(wrapper, &bin("casemate"));
        command
            .args(["run", "--allow-missing", "full-kvm", "--memory", "64M"])
            .arg("--kernel")
            .arg(tiny_guest())
            .args(["--cmdline-append", "tiny=reset", "--id", "planted"])
            .args(["--tenant", &leftovers::tenant(scratch), "--run-dir"])
            .arg(scratch.join("run"))
            .arg("--audit-dir")
            .arg(scratch.join("audit"))
            .args(["--", "never-run"]);
        command
    }

    fn is_whole(&self, output: &Output, _: &Path) -> bool {
        // The documented status of a guest that resets before its program ends.
        output.status.code() == Some(121)
    }

    fn least(&self) -> usize {
        12
    }
}

/// A program through the command line of Firecracker's jailer.
pub struct Peer {
    /// Holds the program: a busybox that is called as its applet is.
    folder: TempDir,
}

const PEER_UID: &str = "12345";

impl Peer {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("echo");
        fs::copy("/bin/busybox", &program).expect("busybox-static is installed");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("executable");
        Self { folder }
    }
}

impl Subject for Peer {
    fn command(&self, scratch: &Path, wrapper: &[String]) -> Command {
        for folder in ["run", "base"] {
            private(&scratch.join(folder)).expect("made");
        }
        let mut command = wrapped(wrapper, &bin("casemate-jailer"));
        command
            .args(["--id", "planted", "--exec-file"])
            .arg(self.folder.path().join("echo"))
            .args(["--uid", PEER_UID, "--gid", PEER_UID])
            .arg("--chroot-base-dir")
            .arg(scratch.join("base"))
            .arg("--run-dir")
            .arg(scratch.join("run"))
            .args(["--", "whole"]);
        command
    }

    fn is_whole(&self, output: &Output, _: &Path) -> bool {
        output.status.success() && output.stdout.ends_with(b" whole\n")
    }

    fn refusal(&self) -> i32 {
        // As the peer's.
        1
    }

    fn least(&self) -> usize {
        15
    }

    fn root(&self) -> PathBuf {
        "base/echo/planted/root".into()
    }
}
