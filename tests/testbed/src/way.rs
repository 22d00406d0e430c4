//! Where a test that needs a Linux guest runs: on this host, or in the bed.

use crate::assets::Assets;
use crate::bed::Bed;
use crate::cache::Cache;
use crate::error::{BedError, Result};
use crate::job::Job;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The product's programs; each finds the others beside itself.
pub const PROGRAMS: [&str; 4] = [
    "casemate",
    "casemate-jailer",
    "casemate-vmm",
    "casemate-init",
];

/// Folder of the programs in the bed.
const BED_PROGRAMS: &str = "/usr/local/bin";
/// Where a test executable lies in the bed.
const BED_TEST: &str = "/run/bed/test";
/// Time for one test in the bed.
const TEST_LIMIT: Duration = Duration::from_secs(600);

/// How a Linux guest can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// This host's `/dev/kvm` can run one.
    Direct,
    /// This process already runs in the bed.
    InsideBed,
    /// Only in the bed.
    Bed,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Direct => "directly, on this host's /dev/kvm",
            Self::InsideBed => "inside the test-bed",
            Self::Bed => "in the test-bed (this host's /dev/kvm cannot run a guest kernel)",
        })
    }
}

impl Way {
    /// `$CASEMATE_IN_BED=1` (set by the bed), else `$CASEMATE_TEST_WAY` (`bed` or
    /// `direct`), else what `casemate doctor` says about this host's KVM.
    pub fn detect() -> Self {
        let is = |name, value: &str| std::env::var_os(name).is_some_and(|v| v == value);
        if is("CASEMATE_IN_BED", "1") {
            Self::InsideBed
        } else if is("CASEMATE_TEST_WAY", "direct") {
            Self::Direct
        } else if is("CASEMATE_TEST_WAY", "bed") || !kvm_can_run_linux() {
            Self::Bed
        } else {
            Self::Direct
        }
    }
}

/// Whether `casemate doctor` finds that this host's KVM can run a kernel. No doctor, no.
pub fn kvm_can_run_linux() -> bool {
    let Ok(programs) = programs() else {
        return false;
    };
    let doctor = Command::new(programs.join("casemate"))
        .args(["doctor", "--json"])
        .output();
    doctor.is_ok_and(|output| kvm_is_full(&output.stdout))
}

/// Reads the doctor's answer: `{"checks": [{"name": "full-kvm", "status": "ok"}, …]}`.
/// The check is absent where there is no KVM at all.
fn kvm_is_full(answer: &[u8]) -> bool {
    let answer: serde_json::Value = serde_json::from_slice(answer).unwrap_or_default();
    let checks = answer["checks"].as_array();
    checks
        .into_iter()
        .flatten()
        .any(|check| check["name"] == "full-kvm" && check["status"] == "ok")
}

/// Folder of the product's programs: `$CASEMATE_PROGRAMS`, in the bed `/usr/local/bin`,
/// else the folder of release programs beside this executable's, else of its own profile.
pub fn programs() -> Result<PathBuf> {
    if let Some(given) = std::env::var_os("CASEMATE_PROGRAMS") {
        return Ok(given.into());
    }
    if std::env::var_os("CASEMATE_IN_BED").is_some() {
        return Ok(BED_PROGRAMS.into());
    }
    let here = std::env::current_exe().map_err(BedError::io("find", "/proc/self/exe"))?;
    // target/TRIPLE/PROFILE/deps/test-1234 or target/TRIPLE/PROFILE/xtask
    here.ancestors()
        .skip(1)
        .take(3)
        .flat_map(|dir| [dir.with_file_name("release"), dir.to_path_buf()])
        .find(|dir| PROGRAMS.iter().all(|p| dir.join(p).is_file()))
        .ok_or_else(|| {
            BedError::BadJob(
                "the product's programs are not built; run cargo build --release, \
                 or name their folder in CASEMATE_PROGRAMS"
                    .into(),
            )
        })
}

/// Adds the product's programs to a job's PATH.
pub fn with_programs(mut job: Job) -> Result<Job> {
    let folder = programs()?;
    for program in PROGRAMS {
        job = job.input(folder.join(program), Path::new(BED_PROGRAMS).join(program));
    }
    Ok(job)
}

/// Runs `body` where Linux guests can run, with the product's programs in [`programs`].
///
/// On such a host, and in the bed, `body` just runs. Elsewhere this very executable is
/// run in a fresh bed, asked for the one test `test` (its full name as libtest prints
/// it), so `body` runs there; its output is passed on. `inputs` are (path here, absolute
/// path there).
///
/// # Panics
/// When the test fails in the bed, or the bed itself fails.
pub fn in_kvm_host(test: &str, inputs: &[(PathBuf, PathBuf)], body: impl FnOnce()) {
    let way = Way::detect();
    println!("{test}: runs {way}");
    if way != Way::Bed {
        return body();
    }
    if let Err(error) = run_test_in_bed(test, inputs) {
        panic!("{test}: {error}");
    }
}

fn run_test_in_bed(test: &str, inputs: &[(PathBuf, PathBuf)]) -> Result<()> {
    let executable = std::env::current_exe().map_err(BedError::io("find", "/proc/self/exe"))?;
    let mut job = Job::new([BED_TEST, test, "--exact", "--nocapture"]).input(executable, BED_TEST);
    for (here, there) in inputs {
        job = job.input(here, there);
    }
    job = with_programs(job)?.env("RUST_BACKTRACE", "1");
    job.timeout = TEST_LIMIT;
    let assets = Assets::get(&Cache::open()?)?;
    let result = Bed::prepare()?.with_assets(assets.image).run(&job)?;
    let stdout = String::from_utf8_lossy(&result.stdout);
    print!("{stdout}");
    crate::skip::record_all(&stdout);
    eprint!("{}", String::from_utf8_lossy(&result.stderr));
    if result.status != 0 {
        return Err(BedError::BadJob(format!(
            "failed in the bed with status {}",
            result.status
        )));
    }
    // A name that matches no test is a success to libtest.
    if !stdout.contains("test result: ok. 1 passed") {
        return Err(BedError::BadJob(
            "no test of that name ran in the bed; the name must be the full one".into(),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_full_kvm_means_direct() {
        let answer = |name: &str, status: &str| {
            let check = format!(r#"{{"name":"{name}","status":"{status}"}}"#);
            format!(r#"{{"checks":[{{"name":"kvm","status":"ok"}},{check}]}}"#)
        };
        assert!(kvm_is_full(answer("full-kvm", "ok").as_bytes()));
        assert!(!kvm_is_full(answer("full-kvm", "fail").as_bytes()));
        assert!(!kvm_is_full(answer("other", "ok").as_bytes()));
        assert!(!kvm_is_full(br#"{"checks":[]}"#));
        assert!(!kvm_is_full(b""));
    }
}
