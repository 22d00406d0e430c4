//! The bed: prepared once, then one fresh machine for each job.

use crate::cache::{Cache, Key};
use crate::control::{Control, NoLine};
use crate::debian_kernel::{DebianKernel, Series};
use crate::debootstrap;
use crate::error::{BedError, Result};
use crate::host;
use crate::job::{INPUT_DISK, Job, JobResult, Output, Stdin};
use crate::machine::{Running, Sockets};
use crate::qemu::{CMDLINE, CPUS, MEMORY, Machine, Qemu};
use crate::root::BedRoot;
use crate::streams::Streams;
use crate::tool;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Time for a boot from nothing, on a busy machine.
const BOOT_LIMIT: Duration = Duration::from_secs(180);
/// Time from "go" to the job's start: unpacking the inputs, mostly.
const START_LIMIT: Duration = Duration::from_secs(120);
/// Size of the assets disk, in bytes: fixed, since a warm kernel remembers it.
pub(crate) const ASSETS_DISK: u64 = 4 << 30;
/// Size of the scratch file system.
const SCRATCH: &str = "16G";

/// A prepared test-bed; cheap to clone, safe to use from many threads and processes.
#[derive(Clone, Debug)]
pub struct Bed {
    cache: Cache,
    qemu: Qemu,
    kernel: PathBuf,
    initramfs: PathBuf,
    root: PathBuf,
    /// Folder with `empty`, `scratch.ext4`, `memory` and `state`.
    warm: PathBuf,
    assets: Option<PathBuf>,
}

impl Bed {
    /// Builds whatever is not in the cache yet (minutes, once) and returns the bed.
    pub fn prepare() -> Result<Self> {
        let cache = Cache::open()?;
        host::install_missing()?;
        let qemu = Qemu::find(&cache)?;
        let kernel = DebianKernel::get(&cache, Series::V6_12)?;
        let root = BedRoot::get(&cache, &kernel)?;
        let mut bed = Self {
            kernel: kernel.vmlinuz(),
            initramfs: root.initramfs,
            root: root.image,
            warm: PathBuf::new(),
            assets: None,
            qemu,
            cache,
        };
        let key = Key::new("warm", 1)
            .with(&bed.qemu.version)
            .with(CMDLINE)
            .with(format!(
                "{MEMORY} {CPUS} {INPUT_DISK} {ASSETS_DISK} {SCRATCH}"
            ))
            .with_entry(bed.root.parent().unwrap_or(&bed.root));
        bed.warm = bed.cache.entry(&format!("warm-{}", key.hex()), |half| {
            tool::step("booting the bed once and saving its warm state", || {
                bed.save_warm(half).or_else(|error| {
                    // It happens once and everything waits for it: worth a second try.
                    eprintln!("testbed: {error}\ntestbed: trying once more");
                    empty_dir(half)?;
                    bed.save_warm(half)
                })
            })
        })?;
        Ok(bed)
    }

    /// The same bed with `image` (ext4, made by [`crate::Assets`]) mounted at `/casemate`.
    #[must_use]
    pub fn with_assets(mut self, image: PathBuf) -> Self {
        self.assets = Some(image);
        self
    }

    /// One line about what the bed is made of.
    pub fn describe(&self) -> String {
        format!(
            "{}; {MEMORY}, {CPUS} CPUs; {}",
            self.qemu.version,
            self.kernel.display()
        )
    }

    /// Runs one job in a fresh bed. A panic of the bed's own kernel is retried once.
    ///
    /// # Errors
    /// Only what goes wrong with the bed; the job's own failure is its status.
    pub fn run(&self, job: &Job) -> Result<JobResult> {
        let first = self.run_once(job);
        let Err(BedError::Died {
            panicked: true,
            status,
            console,
        }) = &first
        else {
            return first;
        };
        eprintln!("testbed: the bed's own kernel panicked (QEMU: {status}); console:\n{console}");
        if matches!(job.stdin, Stdin::Inherit) {
            return first;
        }
        eprintln!("testbed: trying once more");
        match self.run_once(job) {
            Err(BedError::Died {
                panicked: true,
                console,
                ..
            }) => Err(BedError::Panicked(console)),
            second => second,
        }
    }

    fn run_once(&self, job: &Job) -> Result<JobResult> {
        let work = tempfile::tempdir_in(self.cache.tmp())
            .map_err(BedError::io("create a folder in", self.cache.tmp()))?;
        let input = work.path().join("input.tar");
        job.write_archive(&input)?;
        let scratch = work.path().join("scratch.ext4");
        tool::run(
            "copying the scratch image",
            Command::new("cp")
                .args(["--sparse=always", "--reflink=auto"])
                .arg(self.warm.join("scratch.ext4"))
                .arg(&scratch),
        )?;
        let memory = if job.cold {
            work.path().join("memory")
        } else {
            self.warm.join("memory")
        };
        let mut running = self.start(&Start {
            memory: &memory,
            memory_is_shared: false,
            input: &input,
            scratch: &scratch,
            empty: &self.warm.join("empty"),
            restore: !job.cold,
        })?;
        if !job.cold {
            running.qmp.restore(&self.warm.join("state"))?;
        }
        // QEMU has its files open: unlinked now, they cannot outlive us.
        drop(work);
        self.converse(running, job)
    }

    /// Talks to a started bed until the job has ended.
    fn converse(&self, mut running: Running, job: &Job) -> Result<JobResult> {
        let mut ports = std::mem::take(&mut running.ports).into_iter();
        let Some(port) = ports.next() else {
            return Err(BedError::Qmp("the control port is missing".into()));
        };
        let mut control = Control::new(port);
        let streams = Streams::start(ports.collect(), job)?;
        let outcome = dialogue(&mut control, job);
        if matches!(outcome, Err(Unfinished::Died(_))) {
            running.wait_briefly();
        }
        let silence = match outcome {
            Err(Unfinished::TimedOut(..)) => running.explain_silence(),
            _ => String::new(),
        };
        let how = running.stop();
        let (stdout, stderr) = streams.finish(outcome.is_ok())?;
        match outcome {
            Ok(status) => Ok(JobResult {
                status,
                stdout,
                stderr,
                console: running.console(),
            }),
            Err(Unfinished::TimedOut(what, limit)) => {
                show_captured(job, &stdout, &stderr);
                eprintln!("testbed: its tasks and processors at the end:\n{silence}");
                Err(BedError::TimedOut {
                    what,
                    limit,
                    console: running.console_tail(),
                })
            }
            Err(Unfinished::Died(why)) => {
                show_captured(job, &stdout, &stderr);
                Err(BedError::Died {
                    status: format!("{how}{why}"),
                    panicked: running.panicked(),
                    console: running.console_tail(),
                })
            }
        }
    }

    fn start(&self, start: &Start<'_>) -> Result<Running> {
        let sockets = Sockets::new()?;
        let command = self.qemu.bed(&Machine {
            memory: start.memory,
            memory_is_shared: start.memory_is_shared,
            kernel: &self.kernel,
            initramfs: &self.initramfs,
            root: &self.root,
            input: start.input,
            assets: self.assets.as_deref().unwrap_or(start.empty),
            scratch: start.scratch,
            qmp_fd: sockets.qmp_fd(),
            console_fd: sockets.console_fd(),
            port_fds: sockets.port_fds(),
            restore: start.restore,
        });
        Running::start(command, sockets)
    }

    /// Boots to the point where the bed waits for a job, and saves that.
    fn save_warm(&self, half: &Path) -> Result<()> {
        let scratch = half.join("scratch.ext4");
        debootstrap::ext4(None, &scratch, SCRATCH)?;
        let empty = half.join("empty");
        File::create(&empty)
            .and_then(|f| f.set_len(ASSETS_DISK))
            .map_err(BedError::io("create", &empty))?;
        let input = half.join("input");
        File::create(&input)
            .and_then(|f| f.set_len(INPUT_DISK))
            .map_err(BedError::io("create", &input))?;
        let mut running = self.start(&Start {
            memory: &half.join("memory"),
            memory_is_shared: true,
            input: &input,
            scratch: &scratch,
            empty: &empty,
            restore: false,
        })?;
        let mut control = Control::new(running.ports.remove(0));
        match control.line(Instant::now() + BOOT_LIMIT) {
            Ok(line) if line == "WARM" => {}
            Ok(line) => return Err(BedError::Qmp(format!("the bed said {line:?}, not WARM"))),
            Err(NoLine::TimedOut) => {
                return Err(BedError::TimedOut {
                    what: "the bed's first boot",
                    limit: BOOT_LIMIT,
                    console: running.console_tail(),
                });
            }
            Err(NoLine::Closed) => {
                let status = running.stop();
                return Err(BedError::Died {
                    status,
                    panicked: running.panicked(),
                    console: running.console_tail(),
                });
            }
        }
        // Let the kernel finish what it does when idle (RCU, module loading's tail).
        std::thread::sleep(Duration::from_millis(500));
        running.qmp.save(&half.join("state"))?;
        let console = running.console();
        running.stop();
        let path = half.join("console");
        fs::write(&path, console).map_err(BedError::io("write", &path))?;
        Ok(())
    }
}

/// What a job that will have no result had written.
fn show_captured(job: &Job, stdout: &[u8], stderr: &[u8]) {
    if job.output == Output::Capture {
        for (name, text) in [("output", stdout), ("error", stderr)] {
            eprintln!(
                "testbed: the job's standard {name} had been:\n{}",
                String::from_utf8_lossy(text)
            );
        }
    }
}

fn empty_dir(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(BedError::io("list", dir))? {
        let path = entry.map_err(BedError::io("list", dir))?.path();
        fs::remove_file(&path).map_err(BedError::io("remove", &path))?;
    }
    Ok(())
}

/// What differs between the starts of a bed.
struct Start<'a> {
    memory: &'a Path,
    memory_is_shared: bool,
    input: &'a Path,
    scratch: &'a Path,
    empty: &'a Path,
    restore: bool,
}

/// Why a job has no status.
enum Unfinished {
    TimedOut(&'static str, Duration),
    Died(String),
}

fn dialogue(control: &mut Control, job: &Job) -> std::result::Result<i32, Unfinished> {
    let died = |_| Unfinished::Died(String::new());
    if job.cold {
        expect(control, "WARM", "the bed's boot", BOOT_LIMIT)?;
    }
    control
        .go(!matches!(job.stdin, Stdin::Null))
        .map_err(died)?;
    expect(control, "STARTED", "unpacking the inputs", START_LIMIT)?;
    let line = next(control, "the job", job.timeout)?;
    let status = line.strip_prefix("EXIT ").and_then(|s| s.parse().ok());
    status.ok_or_else(|| Unfinished::Died(format!("; it said: {line}")))
}

fn expect(
    control: &mut Control,
    wanted: &str,
    what: &'static str,
    limit: Duration,
) -> std::result::Result<(), Unfinished> {
    let line = next(control, what, limit)?;
    if line == wanted {
        return Ok(());
    }
    Err(Unfinished::Died(format!("; it said: {line}")))
}

fn next(
    control: &mut Control,
    what: &'static str,
    limit: Duration,
) -> std::result::Result<String, Unfinished> {
    control.line(Instant::now() + limit).map_err(|e| match e {
        NoLine::TimedOut => Unfinished::TimedOut(what, limit),
        NoLine::Closed => Unfinished::Died(String::new()),
    })
}
