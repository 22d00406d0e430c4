//! A launcher that leaks all it has, and what came of an attempt behind it.

use super::stage::{Stage, raw};
use casemate_escape::{BINARY_VARIABLE, KEY, Outcome, Report, VARIABLE, call, sys};
use nix::pty::openpty;
use std::ffi::{CString, OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

/// An attempt, a jail that is slow to start, and a machine that is busy.
const LIMIT: Duration = Duration::from_secs(30);

/// What came of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It got what it was after.
    Worked(String),
    /// It did not.
    Refused(String),
    /// It was killed for trying; the exit status, or the signal.
    Killed(String),
    /// There is no such thing on this host.
    Absent(String),
    /// The jail did not start, or said something else than the attempt does.
    Broken(String),
}

impl Verdict {
    /// Whether the jail held.
    pub fn held(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Killed(_))
    }

    /// Whether it got what it was after.
    pub fn worked(&self) -> bool {
        matches!(self, Self::Worked(_))
    }
}

/// What starts a jail.
pub trait Launcher {
    /// The whole command line for this program with its arguments.
    fn command(&self, program: &[OsString]) -> Vec<OsString>;

    /// A user to become first; root where there is none.
    fn user(&self) -> Option<u32> {
        None
    }

    /// Files by which cgroups are joined before that.
    fn joins(&self) -> Vec<PathBuf> {
        Vec::new()
    }
}

/// A jail whose words simply stand before the program's; without words, no jail at all.
#[derive(Debug, Clone, Default)]
pub struct Words {
    /// The jail's own words.
    pub words: Vec<OsString>,
    /// A user to become first.
    pub user: Option<u32>,
}

impl Launcher for Words {
    fn command(&self, program: &[OsString]) -> Vec<OsString> {
        self.words.iter().chain(program).cloned().collect()
    }

    fn user(&self) -> Option<u32> {
        self.user
    }
}

/// Makes one attempt under a jail.
pub fn attempt(stage: &Stage, jail: &dyn Launcher, name: &str) -> Verdict {
    let bait = serde_json::to_string(stage.bait()).expect("a bait");
    let words = jail.command(&[stage.program().into(), name.into(), bait.into()]);
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    let terminal = name.starts_with("terminal-");
    match careless(&mut command, stage, jail, terminal) {
        Ok(output) => judge(name, &output),
        Err(e) => Verdict::Broken(e.to_string()),
    }
}

/// Runs a command with all that a careless launcher hands down.
fn careless(
    command: &mut Command,
    stage: &Stage,
    jail: &dyn Launcher,
    terminal: bool,
) -> io::Result<Output> {
    let pty = match terminal {
        true => Some(openpty(None, None)?),
        false => None,
    };
    let tty = pty.as_ref().map(|pty| pty.slave.as_raw_fd());
    command
        .env(VARIABLE, &stage.bait().token)
        .env(OsStr::from_bytes(BINARY_VARIABLE), &stage.bait().token)
        .current_dir(stage.outside())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let hands_down = HandsDown {
        leaks: raw(&stage.leaks),
        tty,
        joins: jail
            .joins()
            .iter()
            .map(|path| OpenOptions::new().write(true).open(path))
            .collect::<Result<_, _>>()?,
        user: jail.user(),
        key: [KEY.0, KEY.1].map(sys::text),
        token: stage.bait().token.clone(),
    };
    // SAFETY: only system calls and no allocation happen between fork and exec.
    unsafe { command.pre_exec(move || hands_down.apply()) };
    let child = command.spawn()?;
    wait(child, pty.map(|pty| pty.master))
}

/// What is done between fork and exec.
struct HandsDown {
    leaks: Vec<(RawFd, RawFd)>,
    tty: Option<RawFd>,
    joins: Vec<File>,
    user: Option<u32>,
    key: [CString; 2],
    token: String,
}

impl HandsDown {
    fn apply(&self) -> io::Result<()> {
        const JOIN_SESSION_KEYRING: i32 = 1;
        const SESSION_KEYRING: i32 = -3;
        // Mounts of an attempt, or of a jail without its own namespace, stay in here.
        call!(libc::SYS_unshare, libc::CLONE_NEWNS)?;
        let private = libc::MS_PRIVATE | libc::MS_REC;
        call!(libc::SYS_mount, c"none", c"/", 0, private, 0)?;
        if let Some(tty) = self.tty {
            call!(libc::SYS_setsid)?;
            call!(libc::SYS_ioctl, tty, libc::TIOCSCTTY, 1)?;
            call!(libc::SYS_dup2, tty, 0)?;
        }
        for &(fd, at) in &self.leaks {
            call!(libc::SYS_dup2, fd, at)?;
        }
        for cgroup in &self.joins {
            call!(libc::SYS_write, cgroup.as_raw_fd(), &b"0"[..], 1)?;
        }
        if let Some(user) = self.user {
            call!(libc::SYS_setgroups, 0, 0)?;
            call!(libc::SYS_setresgid, user, user, user)?;
            call!(libc::SYS_setresuid, user, user, user)?;
        }
        call!(libc::SYS_keyctl, JOIN_SESSION_KEYRING, 0)?;
        let [kind, name] = &self.key;
        let token = self.token.as_bytes();
        call!(
            libc::SYS_add_key,
            kind.as_c_str(),
            name.as_c_str(),
            token,
            token.len(),
            SESSION_KEYRING
        )?;
        call!(libc::SYS_umask, 0)?;
        // SAFETY: ignores a signal and blocks another, of which nothing here knows.
        unsafe {
            libc::signal(libc::SIGUSR2, libc::SIG_IGN);
        }
        let blocked = (1_u64 << (libc::SIGUSR1 - 1)).to_ne_bytes();
        call!(
            libc::SYS_rt_sigprocmask,
            libc::SIG_BLOCK,
            &blocked[..],
            0,
            8
        )?;
        Ok(())
    }
}

/// Waits for its end, at most so long.
fn wait(mut child: Child, _terminal: Option<OwnedFd>) -> io::Result<Output> {
    let start = Instant::now();
    let (mut out, mut err) = (child.stdout.take(), child.stderr.take());
    let said = std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = err.as_mut().map(|err| err.read_to_end(&mut text));
        text
    });
    let printed = std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = out.as_mut().map(|out| out.read_to_end(&mut text));
        text
    });
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if start.elapsed() > LIMIT {
            child.kill()?;
            child.wait()?;
            return Err(io::Error::other(format!("no end within {LIMIT:?}")));
        }
        std::thread::sleep(Duration::from_micros(500));
    };
    Ok(Output {
        status,
        stdout: printed.join().unwrap_or_default(),
        stderr: said.join().unwrap_or_default(),
    })
}

fn judge(name: &str, output: &Output) -> Verdict {
    let printed = String::from_utf8_lossy(&output.stdout);
    let report = printed
        .lines()
        .find_map(|line| serde_json::from_str::<Report>(line).ok())
        .filter(|report| report.attempt == name);
    if let Some(report) = report {
        let detail = report.detail;
        return match report.outcome {
            Outcome::Worked => Verdict::Worked(detail),
            Outcome::Refused => Verdict::Refused(detail),
            Outcome::Absent => Verdict::Absent(detail),
        };
    }
    let said = String::from_utf8_lossy(&output.stderr);
    match killed(output.status) {
        Some(how) => Verdict::Killed(how),
        None => Verdict::Broken(format!("{}: {}{}", output.status, printed, said)),
    }
}

/// By a signal, or a status that means one, or (122) for want of memory.
fn killed(status: ExitStatus) -> Option<String> {
    use std::os::unix::process::ExitStatusExt;
    if let Some(signal) = status.signal() {
        return Some(format!("signal {signal}"));
    }
    match status.code()? {
        122 => Some("out of memory".to_owned()),
        code @ 129..=192 => Some(format!("signal {}", code - 128)),
        _ => None,
    }
}
