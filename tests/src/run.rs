//! One `casemate run`, and what came of it.

use casemate_proto::report::Report;
use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A `casemate run` to be.
pub struct Run {
    options: Vec<OsString>,
    program: Vec<OsString>,
    stdin: Vec<u8>,
    report: tempfile::TempPath,
}

/// What came of it.
#[derive(Debug)]
pub struct Finished {
    /// The exit status; 128 + n where a signal ended the CLI itself.
    pub status: i32,
    /// All of its standard output.
    pub stdout: Vec<u8>,
    /// All of its standard error.
    pub stderr: Vec<u8>,
    /// From start to exit.
    pub wall: Duration,
    /// The report, where one was written.
    pub report: Option<Report>,
}

impl Finished {
    /// Standard output as text.
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
    /// Standard error as text.
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }
    /// The report.
    ///
    /// # Panics
    /// Where none was written.
    pub fn report(&self) -> &Report {
        self.report
            .as_ref()
            .unwrap_or_else(|| panic!("no report; {}", self.err()))
    }
    /// Asserts the exit status, showing everything where it differs.
    #[track_caller]
    pub fn expect(self, status: i32) -> Self {
        assert_eq!(
            self.status,
            status,
            "after {:?}\nstdout: {}\nstderr: {}\nreport: {:#?}",
            self.wall,
            String::from_utf8_lossy(&self.stdout[..self.stdout.len().min(4096)]),
            self.err(),
            self.report
        );
        self
    }
}

impl Run {
    /// Runs `program` with no options but a report.
    pub fn new<S: Into<OsString>>(program: impl IntoIterator<Item = S>) -> Self {
        let report = tempfile::NamedTempFile::new().expect("a temporary file");
        Self {
            options: Vec::new(),
            program: program.into_iter().map(Into::into).collect(),
            stdin: Vec::new(),
            report: report.into_temp_path(),
        }
    }

    /// Runs a shell script.
    pub fn sh(script: &str) -> Self {
        Self::new(["sh", "-c", script])
    }

    /// Adds an option with its value.
    pub fn option(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.options.push(name.into());
        self.options.push(value.into());
        self
    }

    /// Adds an option that takes no value.
    pub fn flag(mut self, name: &str) -> Self {
        self.options.push(name.into());
        self
    }

    /// What the program finds on its standard input.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// The command, for callers who start it themselves.
    pub fn command(&self) -> Command {
        let mut command = Command::new(crate::bin("casemate"));
        command.args(["run", "--no-audit"]);
        if !self.options.iter().any(|option| option == "--kernel") {
            // The one that boots fastest.
            command.arg("--kernel").arg(crate::fixture::lean_kernel());
        }
        command
            .arg("--report")
            .arg(PathBuf::from(self.report.as_os_str()))
            .args(&self.options)
            .arg("--")
            .args(&self.program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Starts it and leaves it running.
    pub fn spawn(&self) -> Child {
        self.command().spawn().expect("casemate starts")
    }

    /// Runs it to its end.
    pub fn go(self) -> Finished {
        let start = Instant::now();
        let mut child = self.spawn();
        let mut input = child.stdin.take().expect("a pipe");
        let bytes = self.stdin;
        let feeder = std::thread::spawn(move || {
            // A program that does not read all of it closes the pipe: not an error.
            let _ = input.write_all(&bytes);
        });
        let output = child.wait_with_output().expect("casemate ends");
        feeder.join().expect("the feeder ends");
        use std::os::unix::process::ExitStatusExt;
        Finished {
            status: output
                .status
                .code()
                .unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0)),
            stdout: output.stdout,
            stderr: output.stderr,
            wall: start.elapsed(),
            report: std::fs::read(&self.report)
                .ok()
                .and_then(|text| serde_json::from_slice(&text).ok()),
        }
    }
}
