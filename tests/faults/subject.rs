//! What is started: a plain program in a jail, and a VM.

use super::trace::Point;
use casemate_tests::audit::AuditLog;
use casemate_tests::{bin, bin_dir, leftovers, tiny_guest};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How a start came out.
#[derive(Debug, PartialEq)]
pub struct Ran {
    /// What the program, or the guest, said.
    said: String,
    /// What the report says of the confinement; empty where there is no report.
    confinement: Vec<String>,
    /// Standard error.
    errors: String,
    status: Option<i32>,
}

/// The statuses that are ours.
const OURS: [i32; 5] = [123, 124, 125, 126, 127];

impl Ran {
    pub fn spoke(&self) -> bool {
        !self.said.is_empty()
    }

    pub fn only_lines_of(&self, whole: &Self) -> bool {
        let among = |a: &str, b: &str| a.lines().all(|line| b.lines().any(|l| l == line));
        among(&self.said, &whole.said)
            && (!self.spoke()
                || self.confinement.is_empty()
                || self.confinement == whole.confinement)
    }

    pub fn failed_in_one_line(&self) -> bool {
        let ours = self
            .errors
            .lines()
            .filter(|line| line.starts_with("casemate: "))
            .count();
        self.status.is_some_and(|status| OURS.contains(&status)) && ours == 1
    }
}

/// A thing that can be started under strace.
pub trait Subject {
    /// What the line of a trace with the program's exec contains, and no other exec's.
    fn program(&self) -> &'static str;
    /// Whether this is how a start comes out that nothing was wrong with.
    fn is_whole(&self, ran: &Ran) -> bool;
    /// The audit log that all starts are recorded in.
    fn log(&self) -> &AuditLog;
    /// A start without strace.
    fn plain(&self, run_dir: &Path) -> Ran;
    /// A start with this of strace's options.
    fn under_strace(&self, run_dir: &Path, options: &[String]) -> (Ran, String);

    /// A whole start, and its trace.
    fn traced(&self, run_dir: &Path) -> (Ran, String) {
        self.under_strace(run_dir, &["-f".to_owned()])
    }

    /// A start with one call that does not go well.
    fn faulted(&self, run_dir: &Path, point: &Point, action: &str) -> (Ran, String) {
        let Point { call, nth, .. } = point;
        let mut options = vec![
            "-e".to_owned(),
            format!("trace={call},execve,execveat"),
            "-e".to_owned(),
            format!("inject={call}:{action}:when={nth}"),
        ];
        if point.follow {
            options.push("-f".to_owned());
        }
        self.under_strace(run_dir, &options)
    }
}

/// Ends a start that hangs: its status is then none.
fn patient(program: &Path) -> Command {
    let mut command = Command::new("timeout");
    command.args(["-s", "KILL", "20"]).arg(program);
    command
}

fn ran(output: &Output, said: String, confinement: Vec<String>) -> Ran {
    Ran {
        said,
        confinement,
        errors: String::from_utf8_lossy(&output.stderr).into_owned(),
        status: output.status.code(),
    }
}

/// A shell under every layer of a plain program, which tells what it has.
pub struct Jail {
    log: AuditLog,
}

const SCRIPT: &str = "exec 2>/dev/null
    grep -E '^(Uid|Groups|Cap|NoNewPrivs|Seccomp):?' /proc/self/status
    test -e /etc/shadow && echo escaped
    echo end";

impl Jail {
    pub fn new() -> Self {
        Self {
            log: AuditLog::new(),
        }
    }

    fn start(&self, run_dir: &Path, mut command: Command) -> Ran {
        let output = command
            .args(["jail", "--proc", "--id", "faulty", "--tenant"])
            .arg(leftovers::tenant(run_dir))
            .arg("--run-dir")
            .arg(run_dir)
            .arg("--audit-dir")
            .arg(self.log.folder())
            .args(["--", "/bin/sh", "-c", SCRIPT])
            .stdin(Stdio::null())
            .output()
            .expect("casemate starts");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        ran(&output, said, Vec::new())
    }
}

impl Subject for Jail {
    fn program(&self) -> &'static str {
        "execve(\"/bin/sh\""
    }

    fn is_whole(&self, ran: &Ran) -> bool {
        let lines: Vec<&str> = ran.said.lines().collect();
        lines.len() == 11 && lines.last() == Some(&"end") && ran.status == Some(0)
    }

    fn log(&self) -> &AuditLog {
        &self.log
    }

    fn plain(&self, run_dir: &Path) -> Ran {
        self.start(run_dir, patient(&bin("casemate")))
    }

    fn under_strace(&self, run_dir: &Path, options: &[String]) -> (Ran, String) {
        let trace = run_dir.with_extension("trace");
        let mut command = patient(Path::new("strace"));
        command
            .args(["-qq", "-o"])
            .arg(&trace)
            .args(options)
            .arg(bin("casemate"));
        let ran = self.start(run_dir, command);
        let text = fs::read_to_string(&trace).unwrap_or_default();
        let _ = fs::remove_file(&trace);
        (ran, text)
    }
}

/// A freestanding guest that resets itself, behind `casemate-jailer supervise`. The jailer
/// is traced, and not who starts it.
pub struct Vm {
    /// Our programs, with a jailer that starts the real one under strace when `options` is
    /// beside it.
    bins: TempDir,
    log: AuditLog,
}

/// strace as the tracee's grandchild (`-D`): its parent is who started it, as without. After a
/// death the reaper is traced as well, and writes to the same file (`-A`).
const WRAPPER: &str = r#"#!/bin/sh
test -e "$0.options" || exec "$0.real" "$@"
exec strace -D -qq -A -o "$0.trace" $(cat "$0.options") "$0.real" "$@"
"#;

impl Vm {
    pub fn new() -> Self {
        let bins = tempfile::tempdir().expect("a folder");
        for (from, to) in [
            ("casemate", "casemate"),
            ("casemate-init", "casemate-init"),
            ("casemate-vmm", "casemate-vmm"),
            ("casemate-jailer", "casemate-jailer.real"),
        ] {
            fs::copy(bin_dir().join(from), bins.path().join(to)).expect("copied");
        }
        let wrapper = bins.path().join("casemate-jailer");
        fs::write(&wrapper, WRAPPER).expect("written");
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).expect("executable");
        Self {
            bins,
            log: AuditLog::new(),
        }
    }

    fn file(&self, ending: &str) -> PathBuf {
        self.bins
            .path()
            .join("casemate-jailer")
            .with_extension(ending)
    }

    fn start(&self, run_dir: &Path) -> Ran {
        let (console, report) = (self.file("console"), self.file("report"));
        let _ = fs::remove_file(&console);
        let _ = fs::remove_file(&report);
        let output = patient(&self.bins.path().join("casemate"))
            .args(["run", "--allow-missing", "full-kvm", "--memory", "64M"])
            .arg("--kernel")
            .arg(tiny_guest())
            .args(["--cmdline-append", "tiny=reset", "--id", "faulty"])
            .args(["--tenant", &leftovers::tenant(run_dir), "--run-dir"])
            .arg(run_dir)
            .arg("--audit-dir")
            .arg(self.log.folder())
            .arg("--console")
            .arg(&console)
            .arg("--report")
            .arg(&report)
            .args(["--", "never-run"])
            .stdin(Stdio::null())
            .output()
            .expect("casemate starts");
        let said = fs::read_to_string(&console).unwrap_or_default();
        let text = fs::read(&report).unwrap_or_default();
        let report: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
        let layers = report["confinement"].as_array().cloned();
        let confinement = layers.unwrap_or_default().iter().map(words).collect();
        ran(&output, said, confinement)
    }
}

/// A layer, and whether it holds; what exactly was observed differs from start to start.
fn words(layer: &serde_json::Value) -> String {
    format!("{} {}", layer["layer"], layer["holds"])
}

impl Subject for Vm {
    fn program(&self) -> &'static str {
        "[\"casemate-vmm\""
    }

    fn is_whole(&self, ran: &Ran) -> bool {
        let held = ran.confinement.iter().all(|layer| layer.ends_with(" true"));
        ran.said == "tiny: up\n" && ran.confinement.len() > 20 && held
    }

    fn log(&self) -> &AuditLog {
        &self.log
    }

    fn plain(&self, run_dir: &Path) -> Ran {
        let _ = fs::remove_file(self.file("options"));
        self.start(run_dir)
    }

    fn under_strace(&self, run_dir: &Path, options: &[String]) -> (Ran, String) {
        let _ = fs::remove_file(self.file("trace"));
        fs::write(self.file("options"), options.join(" ")).expect("written");
        let ran = self.start(run_dir);
        // strace writes on until its last tracee is gone.
        let deadline = Instant::now() + Duration::from_secs(5);
        let lives = |what: &String| what.starts_with("process");
        while leftovers::all(run_dir).iter().any(lives) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        (
            ran,
            fs::read_to_string(self.file("trace")).unwrap_or_default(),
        )
    }
}
