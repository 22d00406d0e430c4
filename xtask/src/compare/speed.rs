//! `cargo xtask compare --speed`: from start to exit of a static `true`, under our jail and
//! under others, in one run of hyperfine(1).

use super::peers::{find, output};
use anyhow::{Context, Result, bail};
use casemate_testbed::programs;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// A static program, and the word that makes it do nothing.
const TRUE: &str = "/bin/busybox true";
const WARMUP: &str = "50";
const RUNS: &str = "300";

/// An allow-list of about the size of our own policies, as nsjail's users write them.
const KAFEL: &str = "\
POLICY plain {
  ALLOW {
    read, write, close, newfstat, newfstatat, lseek, mmap, mprotect, munmap, brk, rt_sigaction,
    rt_sigprocmask, rt_sigreturn, ioctl, pread64, pwrite64, readv, writev, access, pipe, pipe2,
    select, sched_yield, mremap, madvise, dup, dup2, dup3, nanosleep, getpid, getuid, getgid,
    geteuid, getegid, getppid, getpgrp, setsid, socket, connect, sendto, recvfrom, sendmsg,
    recvmsg, bind, listen, clone, fork, vfork, execve, execveat, poll, getresuid, getresgid, setuid, setgid, getgroups, exit, exit_group, wait4, kill, newuname,
    fcntl, flock, fsync, fdatasync, truncate, ftruncate, getdents64, getcwd, chdir, rename,
    mkdir, rmdir, unlink, symlink, readlink, chmod, fchmod, umask, gettimeofday, getrlimit,
    getrusage, sysinfo, sigaltstack, arch_prctl, prctl, gettid, futex, set_tid_address,
    set_robust_list, clock_gettime, clock_nanosleep, epoll_create1, epoll_ctl, epoll_wait,
    openat, mkdirat, unlinkat, renameat, readlinkat, faccessat, ppoll, pselect6, prlimit64,
    getrandom, statx, rseq
  }
}
USE plain DEFAULT KILL";

/// The cgroups below which nsjail makes its own: it wants them to be there.
struct Parents(Vec<&'static str>);

impl Parents {
    const PATHS: [&str; 2] = ["/sys/fs/cgroup/memory/NSJAIL", "/sys/fs/cgroup/pids/NSJAIL"];

    fn make() -> Self {
        let made = |path: &&str| std::fs::create_dir(path).is_ok();
        Self(Self::PATHS.into_iter().filter(made).collect())
    }
}

impl Drop for Parents {
    fn drop(&mut self) {
        for path in &self.0 {
            let _ = std::fs::remove_dir(path);
        }
    }
}

/// Runs it and prints all of hyperfine's output, then each one's ratio to the first.
pub fn main(given: &BTreeMap<String, PathBuf>) -> Result<ExitCode> {
    let Some(hyperfine) = find("hyperfine", given) else {
        bail!("hyperfine is not here: apt-get install hyperfine");
    };
    // As /run is: a tmpfs.
    let folder = tempfile::tempdir_in("/dev/shm")?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    let casemate = programs()?.join("casemate").display().to_string();
    let run_dir = path("run");
    let mut commands = vec![
        format!("{casemate} jail --no-audit --run-dir {run_dir} -- {TRUE}"),
        format!(
            "{casemate} jail --audit-dir {} --run-dir {run_dir} -- {TRUE}",
            path("audit")
        ),
    ];
    if let Some(bwrap) = find("bwrap", given) {
        let bwrap = bwrap.display();
        commands.push(format!("{bwrap} --unshare-all --ro-bind / / {TRUE}"));
    }
    let parents = Parents::make();
    if let Some(nsjail) = find("nsjail", given) {
        std::fs::write(path("policy.kafel"), KAFEL)?;
        commands.push(format!(
            "{} -Mo --really_quiet --user 65534 --group 65534 -R / --cgroup_mem_max 268435456 \
             --cgroup_pids_max 64 --seccomp_policy {} -- {TRUE}",
            nsjail.display(),
            path("policy.kafel")
        ));
    }
    commands.push(TRUE.to_owned());
    let export = path("figures.json");
    let status = Command::new(&hyperfine)
        .args(["-N", "--style", "basic", "--warmup", WARMUP, "--runs", RUNS])
        .args(["--export-json", &export])
        .args(&commands)
        .status()
        .with_context(|| format!("{} does not start", hyperfine.display()))?;
    drop(parents);
    // Its log is append-only.
    casemate_tests::audit::unlock(folder.path());
    if !status.success() {
        bail!("hyperfine: {status}; one of the jails does not run a program here");
    }
    let figures: Value = serde_json::from_slice(&std::fs::read(&export)?)?;
    let of = |n: usize, what: &str| figures["results"][n][what].as_f64().unwrap_or(f64::NAN);
    println!(
        "\n{}; Linux {}",
        output("date", &["-u", "+%F"]),
        output("uname", &["-r"])
    );
    println!("median ms   min ms   median of the first / this one's");
    for (n, command) in commands.iter().enumerate() {
        println!(
            "{:9.2} {:8.2}   {:5.2}   {command}",
            of(n, "median") * 1e3,
            of(n, "min") * 1e3,
            of(0, "median") / of(n, "median")
        );
    }
    Ok(ExitCode::SUCCESS)
}
