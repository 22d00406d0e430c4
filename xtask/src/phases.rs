//! `cargo xtask phases`: what a start costs, phase by phase.

use crate::binaries;
use anyhow::{Context, Result, ensure};
use casemate_proto::report::{Phases, Report};
use casemate_testbed::{Assets, Bed, Cache, Job, Way, install_missing, programs, with_programs};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

/// Arguments of `phases`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Counted runs of each kind, after one that is not counted
    #[arg(long, default_value_t = 9)]
    runs: usize,
}

/// A phase's name and where the report has it.
type Phase = (&'static str, fn(&Phases) -> Option<u64>);

const PHASES: [Phase; 9] = [
    ("CLI: arguments, images, preflight", |p| p.cli_us),
    ("jailer: to the VMM's main", |p| p.jailer_us),
    ("VMM: to ready", |p| p.vmm_us),
    ("read-back", |p| p.readback_us),
    ("kernel: to its init", |p| p.kernel_us),
    ("init: to the program", |p| p.init_us),
    ("program (true)", |p| p.command_us),
    ("teardown", |p| p.teardown_us),
    ("all", |p| Some(p.total_us)),
];

/// Prints one table for the freestanding guest on this machine's KVM and one for
/// a Linux guest, where Linux guests can run.
pub fn main(arguments: &Arguments) -> Result<ExitCode> {
    install_missing()?;
    binaries::build()?;
    println!("Freestanding guest, on this machine's KVM, which resets at once:\n");
    table(&freestanding(arguments.runs)?);
    let way = Way::detect();
    println!("\nLean kernel, built-in userland, `true`; run {way}:\n");
    table(&linux(arguments.runs, way)?);
    Ok(ExitCode::SUCCESS)
}

fn freestanding(runs: usize) -> Result<Vec<Phases>> {
    let folder = tempfile::tempdir().context("cannot create a temporary folder")?;
    let report = folder.path().join("report.json");
    let casemate = programs()?.join("casemate");
    let mut phases = Vec::new();
    for _ in 0..=runs {
        let status = Command::new(&casemate)
            .args(["run", "--rootfs", "none", "--memory", "128M", "--kernel"])
            .arg(casemate_tests::tiny_guest())
            .args(["--allow-missing", "full-kvm"])
            .args(["--cmdline-append", "tiny=reset", "--report"])
            .arg(&report)
            .args(["--", "never-run"])
            .stderr(Stdio::null())
            .status()
            .context("cannot start casemate")?;
        ensure!(status.code() == Some(121), "casemate run: {status}");
        phases.push(read(&report)?.phases);
    }
    Ok(phases.split_off(1))
}

/// Runs it `runs` times and once more, in one bed, each start a new cell.
fn linux(runs: usize, way: Way) -> Result<Vec<Phases>> {
    let folder = tempfile::tempdir().context("cannot create a temporary folder")?;
    let assets = Assets::get(&Cache::open()?)?;
    let script = |casemate: &Path, kernel: &Path, out: &Path| {
        format!(
            "for n in $(seq 0 {runs}); do {} run --kernel {} --report {}/$n.json -- true || exit; done",
            casemate.display(),
            kernel.display(),
            out.display()
        )
    };
    let status = if way == Way::Bed {
        let kernel = Path::new("/casemate/kernels/lean/vmlinux");
        let text = script(Path::new("casemate"), kernel, Path::new("/out"));
        let mut job = Job::new(["sh", "-c", &text]);
        job.outputs = Some(folder.path().to_path_buf());
        job.timeout = Duration::from_secs(60 + 30 * runs as u64);
        let bed = Bed::prepare()?.with_assets(assets.image);
        bed.run(&with_programs(job)?)?.status
    } else {
        let casemate = programs()?.join("casemate");
        let text = script(&casemate, &assets.lean.vmlinux, folder.path());
        let status = Command::new("sh").args(["-c", &text]).status();
        status.context("cannot start sh")?.code().unwrap_or(125)
    };
    ensure!(status == 0, "casemate run ended with status {status}");
    let reports = (1..=runs).map(|n| Ok(read(&folder.path().join(format!("{n}.json")))?.phases));
    reports.collect()
}

fn read(path: &Path) -> Result<Report> {
    let text = std::fs::read(path).with_context(|| format!("no report {}", path.display()))?;
    serde_json::from_slice(&text).context("the report cannot be read")
}

fn table(runs: &[Phases]) {
    println!("| phase | median ms | least | most |\n|---|---|---|---|");
    for (name, phase) in PHASES {
        let mut times: Vec<u64> = runs.iter().filter_map(phase).collect();
        times.sort_unstable();
        let (Some(least), Some(most)) = (times.first(), times.last()) else {
            continue;
        };
        let ms = |us: u64| us as f64 / 1000.0;
        let median = times[times.len() / 2];
        println!(
            "| {name} | {:.1} | {:.1} | {:.1} |",
            ms(median),
            ms(*least),
            ms(*most)
        );
    }
    println!("\n{} runs.", runs.len());
}
