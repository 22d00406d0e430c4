//! Starts jails.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

/// One run directory, and a name of its own among the host's cgroups.
pub struct Bench {
    pub dir: TempDir,
    pub id: String,
}

impl Bench {
    pub fn new(test: &str) -> Self {
        // Not in /tmp, in which links are not followed.
        let dir = tempfile::tempdir_in("/var/lib").expect("a folder");
        let id = format!("{test}-{}", std::process::id());
        Self { dir, id }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn run_dir(&self) -> PathBuf {
        self.path("run")
    }

    /// `casemate jail` with these options and, after `--`, this command.
    pub fn command<O: AsRef<OsStr>, C: AsRef<OsStr>>(&self, options: &[O], cmd: &[C]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_casemate"));
        command
            .args([
                "jail",
                "--no-audit",
                "--tenant=jail-tests",
                "--id",
                &self.id,
                "--run-dir",
            ])
            .arg(self.run_dir())
            .args(options)
            .arg("--")
            .args(cmd)
            .stdin(Stdio::null());
        command
    }

    /// Runs a shell's script in it to the end; nothing may be left.
    pub fn sh(&self, options: &[&str], script: &str) -> Output {
        self.run(options, &["sh", "-c", script])
    }

    /// Runs a command in it to the end; nothing may be left.
    pub fn run(&self, options: &[&str], cmd: &[&str]) -> Output {
        let output = self.command(options, cmd).output().expect("casemate runs");
        self.nothing_is_left();
        output
    }

    pub fn start(&self, options: &[&str], script: &str) -> Child {
        self.command(options, &["sh", "-c", script])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("casemate starts")
    }

    pub fn cgroups(&self) -> Vec<PathBuf> {
        let (tenant, id) = ("jail-tests".parse().unwrap(), self.id.parse().unwrap());
        casemate_jailer::cgroup::detect()
            .unwrap()
            .iter()
            .map(|h| h.cell_path(&tenant, &id))
            .filter(|path| path.exists())
            .collect()
    }

    pub fn nothing_is_left(&self) {
        assert_eq!(self.cgroups(), Vec::<PathBuf>::new());
        let left = walk(&self.run_dir());
        assert_eq!(left, Vec::<PathBuf>::new());
    }
}

pub fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Its output, of a run that must have ended well.
pub fn good(output: Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    out(&output)
}

fn walk(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    entries
        .flat_map(|entry| {
            let path = entry.unwrap().path();
            let mut found = walk(&path);
            found.push(path);
            found
        })
        .collect()
}
