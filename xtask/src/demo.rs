//! `cargo xtask demo`: the main job, end to end, on a real Debian userland.

use crate::binaries;
use anyhow::{Context, Result, ensure};
use casemate_proto::report::Report;
use casemate_testbed::{
    Assets, Bed, Cache, Job, Output, Way, install_missing, programs, with_programs,
};
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

/// What the guest runs: a program that looks around and works a little.
const PROGRAM: &str = r#"
import hashlib, os, platform, sys
name = dict(l.rstrip().split("=", 1) for l in open("/etc/os-release") if "=" in l)["PRETTY_NAME"].strip('"')
print(f"hello from Python {platform.python_version()} on {name}, Linux {platform.release()}")
print(f"{os.cpu_count()} CPU, {os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') >> 20} MiB, pid {os.getpid()}")
print("sha256 of a million zeros:", hashlib.sha256(b"0" * 1_000_000).hexdigest()[:16])
print("this line is standard error", file=sys.stderr)
"#;

/// Time for the whole run, a slow emulation included.
const LIMIT: Duration = Duration::from_secs(300);

/// Runs the demo.
pub fn main() -> Result<ExitCode> {
    let start = Instant::now();
    install_missing()?;
    println!("demo: building the release programs");
    binaries::build()?;
    let assets = Assets::get(&Cache::open()?)?;
    let way = Way::detect();
    println!("demo: a guest of Debian with Python runs {way}");
    let folder = tempfile::tempdir().context("cannot create a temporary folder")?;
    let report = folder.path().join("report.json");
    let status = match way {
        Way::Bed => in_bed(&assets, folder.path())?,
        Way::Direct | Way::InsideBed => direct(&assets, &report)?,
    };
    println!();
    ensure!(
        status == 0,
        "casemate run ended with status {status}, not 0"
    );
    let text = std::fs::read(&report).context("casemate run wrote no report")?;
    let report: Report = serde_json::from_slice(&text).context("the report cannot be read")?;
    print_confinement(&report);
    ensure!(
        !report.confinement.is_empty() && report.confinement.iter().all(|layer| layer.holds),
        "a layer of the confinement does not hold"
    );
    println!("demo: done in {:.1} s", start.elapsed().as_secs_f64());
    Ok(ExitCode::SUCCESS)
}

/// The command line, with the paths of one side.
fn command_line(casemate: &Path, kernel: &Path, rootfs: &Path, report: &Path) -> Vec<OsString> {
    let words: [&dyn AsRef<std::ffi::OsStr>; 12] = [
        &casemate,
        &"run",
        &"--kernel",
        &kernel,
        &"--rootfs",
        &rootfs,
        &"--report",
        &report,
        &"--",
        &"python3",
        &"-c",
        &PROGRAM,
    ];
    let words: Vec<OsString> = words.iter().map(|w| w.as_ref().to_owned()).collect();
    let shown: Vec<_> = words[..words.len() - 1]
        .iter()
        .map(|w| w.to_string_lossy())
        .collect();
    println!("demo: {} '…'\n", shown.join(" "));
    words
}

fn in_bed(assets: &Assets, outputs: &Path) -> Result<i32> {
    let mut job = Job::new(command_line(
        Path::new("casemate"),
        Path::new("/casemate/kernels/lean/vmlinux"),
        Path::new("/casemate/userlands/debian-python.erofs"),
        Path::new("/out/report.json"),
    ));
    job.output = Output::Stream;
    job.outputs = Some(outputs.to_path_buf());
    job.timeout = LIMIT;
    let bed = Bed::prepare()?.with_assets(assets.image.clone());
    Ok(bed.run(&with_programs(job)?)?.status)
}

fn direct(assets: &Assets, report: &Path) -> Result<i32> {
    let casemate = programs()?.join("casemate");
    let words = command_line(
        &casemate,
        &assets.lean.vmlinux,
        &assets.userland.erofs,
        report,
    );
    let status = Command::new(&casemate)
        .args(&words[1..])
        .status()
        .context("cannot start casemate")?;
    Ok(status.code().unwrap_or(125))
}

fn print_confinement(report: &Report) {
    println!("confinement of the process around the guest, read back from the kernel:");
    let width = |text: fn(&casemate_proto::cell::LayerReport) -> usize| {
        report.confinement.iter().map(text).max().unwrap_or(0)
    };
    let name = width(|l| l.layer.name().len());
    let declared = width(|l| l.declared.len()).min(60);
    println!(
        "  {:name$}  {:5}  {:declared$}  observed",
        "layer", "holds", "declared"
    );
    for layer in &report.confinement {
        let holds = if layer.holds { "yes" } else { "NO" };
        println!(
            "  {:name$}  {holds:5}  {:declared$}  {}",
            layer.layer.name(),
            layer.declared,
            layer.observed
        );
    }
}
