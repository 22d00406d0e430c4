//! Cells of the freestanding guest `tests/guests/tiny`, on this machine's own KVM.

use crate::leftovers;
use crate::proc::Process;
use casemate_proto::cell::Layer;
use casemate_proto::report::Report;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// What the guest does once it is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Halts for ever.
    Idle,
    /// Loops for ever.
    Spin,
    /// Asks the i8042 for a reset.
    Reset,
    /// Triple-faults.
    Triple,
    /// Writes to the serial port for ever.
    Flood,
}

impl Mode {
    fn argument(self) -> &'static str {
        match self {
            Self::Idle => "tiny=idle",
            Self::Spin => "tiny=spin",
            Self::Reset => "tiny=reset",
            Self::Triple => "tiny=triple",
            Self::Flood => "tiny=flood",
        }
    }
}

/// An empty run folder, as the jailer wants it: root's own.
pub fn run_folder() -> TempDir {
    tempfile::Builder::new()
        .permissions(std::fs::Permissions::from_mode(0o700))
        .tempdir()
        .expect("a run folder")
}

/// A `casemate run` of the tiny guest.
#[derive(Debug)]
pub struct Guest {
    cli: Child,
    owned: Option<TempDir>,
    console: PathBuf,
}

fn command(mode: Mode, run_dir: &Path, id: &str, bins: &Path, extra: &[&str]) -> Command {
    let mut command = Command::new(bins.join("casemate"));
    command
        .args([
            "run",
            "--no-audit",
            "--allow-missing",
            "full-kvm",
            "--memory",
            "64M",
            "--kernel",
        ])
        .arg(crate::tiny_guest())
        .args(["--cmdline-append", mode.argument(), "--id", id])
        .args(["--tenant", &leftovers::tenant(run_dir), "--run-dir"])
        .arg(run_dir)
        .arg("--console")
        .arg(console_file(run_dir))
        .arg("--report")
        .arg(report_file(run_dir))
        .args(extra)
        .args(["--", "never-run"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

fn console_file(run_dir: &Path) -> PathBuf {
    run_dir.with_extension("console")
}

fn report_file(run_dir: &Path) -> PathBuf {
    run_dir.with_extension("report")
}

/// The report of the last run with this run folder.
pub fn report(run_dir: &Path) -> Report {
    let text = std::fs::read(report_file(run_dir)).expect("a report");
    serde_json::from_slice(&text).expect("a report that parses")
}

/// Starts a cell and does not wait.
pub fn spawn(mode: Mode, run_dir: &Path, id: &str, extra: &[&str]) -> Guest {
    spawn_from(&crate::bin_dir(), mode, run_dir, id, extra)
}

fn spawn_from(bins: &Path, mode: Mode, run_dir: &Path, id: &str, extra: &[&str]) -> Guest {
    let console = console_file(run_dir);
    let _ = std::fs::remove_file(&console);
    Guest {
        cli: command(mode, run_dir, id, bins, extra)
            .spawn()
            .expect("casemate starts"),
        owned: None,
        console,
    }
}

/// Starts a cell and waits until its guest speaks.
pub fn start_in(mode: Mode, run_dir: &Path, id: &str, extra: &[&str]) -> Guest {
    let mut guest = spawn(mode, run_dir, id, extra);
    guest.wait_until_up();
    guest
}

/// Starts a cell in a run folder of its own and waits until its guest speaks.
pub fn start(mode: Mode, extra: &[&str]) -> Guest {
    let folder = run_folder();
    let mut guest = start_in(mode, folder.path(), "tiny", extra);
    guest.owned = Some(folder);
    guest
}

/// The binaries that know how to leave layers out.
pub(crate) fn layer_off_bins() -> &'static Path {
    static BINS: OnceLock<PathBuf> = OnceLock::new();
    BINS.get_or_init(|| {
        if let Some(given) = std::env::var_os("CASEMATE_LAYER_OFF_DIR") {
            return given.into();
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let target = root.join("target/layer-off");
        let built = Command::new("cargo")
            .args(["build", "--quiet", "--release"])
            .args(["-p", "casemate-jailer", "--bin", "casemate-jailer"])
            .args(["-p", "casemate-vmm", "--bin", "casemate-vmm"])
            .args(["-p", "casemate", "--bin", "casemate", "--features"])
            .arg("casemate-jailer/layer-off,casemate-vmm/layer-off,casemate/layer-off")
            .arg("--target-dir")
            .arg(&target)
            .current_dir(&root)
            .status()
            .expect("cargo starts");
        assert!(built.success(), "the jailer does not build with layer-off");
        let bins = target.join("x86_64-unknown-linux-gnu/release");
        replace(&crate::bin("casemate-init"), &bins.join("casemate-init"));
        bins
    })
}

/// Copies a program over another that may be running.
fn replace(from: &Path, to: &Path) {
    let new = to.with_extension(std::process::id().to_string());
    std::fs::copy(from, &new).expect("copied");
    std::fs::rename(&new, to).expect("renamed");
}

/// Layers that cannot be without this one.
fn dependents(layer: Layer) -> &'static [Layer] {
    match layer {
        Layer::MountNs => &[Layer::Root],
        Layer::User => &[Layer::UserNs],
        Layer::NoNewPrivs => &[Layer::Landlock, Layer::Seccomp],
        _ => &[],
    }
}

/// Starts a cell with one layer left out and allowed to be missing.
pub fn start_with_layer_off(layer: Layer) -> Guest {
    let folder = run_folder();
    let mut extra = vec!["--leave-out", layer.name(), "--allow-missing", layer.name()];
    for needs_it in dependents(layer) {
        extra.extend(["--allow-missing", needs_it.name()]);
    }
    let mut guest = spawn_from(layer_off_bins(), Mode::Idle, folder.path(), "off", &extra);
    guest.wait_until_up();
    guest.owned = Some(folder);
    guest
}

/// What is said when one layer is left out and not allowed to be missing.
///
/// # Panics
/// Where the guest starts all the same.
pub fn refused_with_layer_off(layer: Layer) -> String {
    let folder = run_folder();
    let extra = ["--leave-out", layer.name(), "--timeout", "10s"];
    let out = command(Mode::Idle, folder.path(), "off", layer_off_bins(), &extra)
        .output()
        .expect("casemate starts");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(125), "{layer}: {said}");
    assert_eq!(
        leftovers::all(folder.path()),
        Vec::<String>::new(),
        "{layer}"
    );
    said
}

impl Guest {
    /// The CLI's process.
    pub fn cli(&self) -> Process {
        Process(self.cli.id() as i32)
    }

    /// The VMM's process.
    ///
    /// # Panics
    /// Where it is not there.
    pub fn vmm(&self) -> Process {
        self.cli()
            .children()
            .into_iter()
            .find(|p| p.name().starts_with("casemate-jail"))
            .and_then(|supervisor| supervisor.children().into_iter().next())
            .expect("a VMM under a supervisor under the CLI")
    }

    /// What the guest wrote to its serial port.
    pub fn console(&self) -> String {
        let bytes = std::fs::read(&self.console).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn wait_until_up(&mut self) {
        let start = Instant::now();
        while !self.console().contains("tiny: up") {
            if self.cli.try_wait().expect("a child").is_some() || start.elapsed().as_secs() > 20 {
                self.cli().kill();
                let mut said = String::new();
                if let Some(err) = self.cli.stderr.as_mut() {
                    let _ = err.read_to_string(&mut said);
                }
                panic!("the tiny guest did not come up: {said} {}", self.console());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits for the CLI, up to `limit`, and gives its exit status.
    ///
    /// # Panics
    /// Where the limit passes or a signal ended it.
    pub fn wait(&mut self, limit: Duration) -> i32 {
        let start = Instant::now();
        loop {
            if let Some(status) = self.cli.try_wait().expect("a child") {
                return status.code().expect("an exit status");
            }
            assert!(
                start.elapsed() < limit,
                "casemate did not end within {limit:?}"
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Reaps a CLI that was killed.
    pub fn reap(&mut self) {
        self.cli.wait().expect("a child");
    }

    /// Stops the cell as a user would, with two interrupts, and gives its run folder.
    pub fn stop(mut self) -> TempDir {
        self.interrupt();
        self.owned.take().expect("a guest of start()")
    }

    /// Stops the cell as a user would, with two interrupts.
    pub fn stop_in_place(mut self) {
        self.interrupt();
    }

    fn interrupt(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.cli.id() as i32);
        for _ in 0..2 {
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT);
            std::thread::sleep(Duration::from_millis(20));
        }
        self.wait(Duration::from_secs(10));
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if self.cli.try_wait().is_ok_and(|status| status.is_none()) {
            self.cli().kill();
            let _ = self.cli.wait();
        }
    }
}
