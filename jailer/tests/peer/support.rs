//! Jails with a base and a run directory of their own.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The jailer under test.
pub const JAILER: &str = env!("CARGO_BIN_EXE_casemate-jailer");
/// The program it jails.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_peer-program");
/// Its name, as folder and in the root.
pub const NAME: &str = "peer-program";

pub const UID: u32 = 0x6010_1010;
pub const GID: u32 = 0x6010_2020;

/// One jail.
pub struct Jail {
    pub dir: TempDir,
    pub id: String,
    pub flags: Vec<OsString>,
}

impl Jail {
    pub fn new(test: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("base")).unwrap();
        Self {
            dir,
            id: format!("{test}-{}", std::process::id()),
            flags: Vec::new(),
        }
    }

    pub fn with(test: &str, flags: &[&str]) -> Self {
        let mut jail = Self::new(test);
        jail.flags = flags.iter().map(OsString::from).collect();
        jail
    }

    pub fn base(&self) -> PathBuf {
        self.dir.path().join("base")
    }

    pub fn run_dir(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    /// The jail's own directory.
    pub fn jail(&self) -> PathBuf {
        self.base().join(NAME).join(&self.id)
    }

    pub fn root(&self) -> PathBuf {
        self.jail().join("root")
    }

    /// The command line, up to what the program is told.
    pub fn command(&self, told: &[&str]) -> Command {
        let mut command = Command::new(JAILER);
        command
            .args(["--id", &self.id, "--exec-file", PROGRAM])
            .args(["--uid", &UID.to_string(), "--gid", &GID.to_string()])
            .arg("--chroot-base-dir")
            .arg(self.base())
            .arg("--run-dir")
            .arg(self.run_dir())
            .args(&self.flags)
            .arg("--")
            .args(told)
            .stdin(Stdio::null());
        command
    }

    /// Runs it to its end, which must be good.
    pub fn report(&self, told: &[&str]) -> Report {
        Report::of(self.command(told).output().unwrap())
    }

    /// Runs it; it must fail with one line and status 1.
    pub fn refused(&self) -> String {
        refusal(self.command(&[]).output().unwrap())
    }

    /// Starts it, and waits until the program has told what it sees.
    pub fn start(&self, told: &[&str]) -> Running {
        Running::of(self.command(told))
    }

    /// Clears what is dead.
    pub fn reap(&self) -> String {
        let output = Command::new(JAILER)
            .arg("reap")
            .arg("--run-dir")
            .arg(self.run_dir())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// After a reaping, nothing that the jailer made may be there.
    pub fn nothing_is_left(&self) {
        self.reap();
        let left: Vec<PathBuf> = walk(&self.base()).chain(walk(&self.run_dir())).collect();
        assert_eq!(left, Vec::<PathBuf>::new());
    }
}

impl Drop for Jail {
    fn drop(&mut self) {
        for pid in processes_in(&self.root()) {
            // SAFETY: takes no memory; the process is this jail's.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        self.reap();
    }
}

/// A jail whose program runs.
pub struct Running {
    pub child: Child,
    pub report: Report,
    _stdout: BufReader<ChildStdout>,
}

impl Running {
    pub fn of(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let report = Report::until_done(&mut lines);
        Self {
            child,
            report,
            _stdout: lines,
        }
    }

    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// kill -9, and its end.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// What the program told.
#[derive(Debug, Clone)]
pub struct Report(Vec<String>);

impl Report {
    pub fn of(output: Output) -> Self {
        assert!(output.status.success(), "{output:?}");
        assert!(output.stderr.is_empty(), "{output:?}");
        Self::until_done(&mut &output.stdout[..])
    }

    pub fn until_done(lines: &mut impl BufRead) -> Self {
        let mut report = Vec::new();
        for line in lines.lines().map(Result::unwrap) {
            if line == "done 1" {
                return Self(report);
            }
            report.push(line);
        }
        panic!("the program did not finish its report: {report:#?}");
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        self.0
            .iter()
            .filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
            .collect()
    }

    pub fn one(&self, name: &str) -> &str {
        match self.all(name)[..] {
            [one] => one,
            ref other => panic!("{name}: {other:?} in {self:#?}"),
        }
    }

    /// What came of an attempt: an errno, or 0.
    pub fn tried(&self, name: &str) -> i32 {
        self.one(&format!("try {name}")).parse().unwrap()
    }
}

pub fn refusal(output: Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(line.starts_with("casemate-jailer: "), "{line}");
    line
}

/// Every path below a directory.
pub fn walk(dir: &Path) -> impl Iterator<Item = PathBuf> {
    let mut todo = vec![dir.to_owned()];
    let mut found = Vec::new();
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                todo.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    found.into_iter()
}

/// Processes whose root is that directory.
pub fn processes_in(root: &Path) -> Vec<i32> {
    let Ok(root) = std::fs::metadata(root) else {
        return Vec::new();
    };
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            std::fs::metadata(format!("/proc/{pid}/root/."))
                .is_ok_and(|m| (m.dev(), m.ino()) == (root.dev(), root.ino()))
        })
        .collect()
}

/// Waits for something to become true.
pub fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(10);
    while !check() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A line of a process' status.
pub fn status(pid: i32, name: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let words: Vec<&str> = line.unwrap().split_ascii_whitespace().collect();
    words.join(" ")
}

pub fn namespace(pid: i32, kind: &str) -> PathBuf {
    std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap()
}

/// Runs something in the child between fork and exec.
pub fn before_exec(
    command: &mut Command,
    f: impl FnMut() -> std::io::Result<()> + Send + Sync + 'static,
) {
    // SAFETY: what the tests pass makes system calls only.
    unsafe { command.pre_exec(f) };
}

/// The pid that a jail's pid file tells.
pub fn pid_file(jail: &Jail) -> i32 {
    let path = jail.root().join(format!("{NAME}.pid"));
    let text = std::fs::read_to_string(&path).unwrap();
    text.parse()
        .unwrap_or_else(|_| panic!("{path:?}: {text:?}"))
}

/// Reads a file as soon as it holds a whole report.
pub fn report_in(path: &Path) -> Report {
    let mut text = String::new();
    eventually("a report", || {
        text.clear();
        std::fs::File::open(path)
            .and_then(|mut file| file.read_to_string(&mut text))
            .is_ok()
            && text.ends_with("done 1\n")
    });
    Report::until_done(&mut text.as_bytes())
}

pub fn os(text: impl AsRef<OsStr>) -> OsString {
    text.as_ref().to_owned()
}
