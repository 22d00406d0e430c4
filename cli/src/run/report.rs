//! What is kept of a run, and the report made of it.

use super::session::state::Marks;
use super::validate::Plan;
use super::written::{self, WrittenError, folder};
use crate::args::RunArgs;
use casemate_proto::cell::{LayerReport, Limits, Usage};
use casemate_proto::report::{Artifact, Phases, Report, VERSION};
use casemate_proto::status::Outcome;
use std::collections::BTreeSet;
use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why there will be no report.
#[derive(Debug, Error)]
pub enum ReportError {
    /// The path is taken by something that is no file.
    #[error("report {path} exists and is no regular file: give another path", path = .0.display())]
    NotAFile(PathBuf),
    /// The folder is not there.
    #[error("report {path}: its folder is missing; make it first", path = .0.display())]
    NoFolder(PathBuf),
    /// A link of others.
    #[error(transparent)]
    Link(#[from] WrittenError),
    /// It could not be written.
    #[error("report {path} could not be written: {source}", path = path.display())]
    Write {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What is kept, filled in as the run goes on.
#[derive(Debug)]
pub struct Record {
    tenant: String,
    id: String,
    command: Vec<String>,
    vcpus: u8,
    memory_mib: u32,
    allow_missing: BTreeSet<casemate_proto::cell::Layer>,
    started_us: u64,
    /// The kernel.
    pub kernel: Option<Artifact>,
    /// The root.
    pub rootfs: Option<Artifact>,
    /// The limits.
    pub limits: Option<Limits>,
    /// When the jailer was launched.
    pub launched_us: Option<u64>,
    /// When things happened from then on.
    pub marks: Marks,
    /// What was used.
    pub usage: Usage,
    /// What was read back.
    pub confinement: Vec<LayerReport>,
    /// Times the guest's OOM killer ran.
    pub oom_kills: u32,
}

impl Record {
    /// Of arguments that were not understood yet.
    pub fn new(args: &RunArgs, started_us: u64) -> Self {
        let lossy = |text: &std::ffi::OsString| text.to_string_lossy().into_owned();
        Self {
            tenant: lossy(&args.tenant),
            id: args.id.as_ref().map(lossy).unwrap_or_default(),
            command: args.command.iter().map(lossy).collect(),
            vcpus: 0,
            memory_mib: 0,
            allow_missing: BTreeSet::new(),
            started_us,
            kernel: None,
            rootfs: None,
            limits: None,
            launched_us: None,
            marks: Marks::default(),
            usage: Usage::default(),
            confinement: Vec::new(),
            oom_kills: 0,
        }
    }

    /// The arguments were understood.
    pub fn understood(&mut self, plan: &Plan) {
        self.id = plan.id.to_string();
        self.vcpus = plan.vcpus;
        self.memory_mib = plan.memory_mib;
        self.allow_missing = plan.allow_missing.clone();
    }

    /// Guest memory in MiB.
    pub fn memory_mib(&self) -> u32 {
        self.memory_mib
    }

    /// The program, as it was given.
    pub fn program(&self) -> &str {
        self.command.first().map_or("", String::as_str)
    }

    /// The report, at the time `now_us`.
    pub fn report(&self, outcome: &Outcome, exit_status: u8, now_us: u64) -> Report {
        Report {
            version: VERSION,
            casemate: env!("CARGO_PKG_VERSION").to_owned(),
            tenant: self.tenant.clone(),
            id: self.id.clone(),
            command: self.command.clone(),
            kernel: self.kernel.clone(),
            rootfs: self.rootfs.clone(),
            vcpus: self.vcpus,
            memory_mib: self.memory_mib,
            limits: self.limits.clone(),
            policy: None,
            cgroup: None,
            outcome: outcome.clone(),
            exit_status,
            guest_oom_kills: self.oom_kills,
            phases: self.phases(now_us),
            usage: self.usage,
            confinement: self.confinement.clone(),
            allow_missing: self.allow_missing.clone(),
        }
    }

    /// The phases. Times of the guest's own account are only used to divide what
    /// was measured here: no phase is longer than the time it stands in.
    pub fn phases(&self, now_us: u64) -> Phases {
        let since = |from: Option<u64>, to: Option<u64>| Some(to?.saturating_sub(from?));
        let marks = &self.marks;
        let start = marks.start.as_ref();
        let go = start.map(|s| s.go);
        let boot = since(go, marks.hello);
        let init_to_hello = boot.map(|boot| marks.init_us.min(boot));
        Phases {
            cli_us: since(Some(self.started_us), self.launched_us),
            jailer_us: since(self.launched_us, start.map(|s| s.vmm_entered)),
            vmm_us: start.and_then(|s| since(Some(s.vmm_entered), Some(s.vmm_ready))),
            readback_us: start.and_then(|s| since(Some(s.vmm_ready), Some(s.go))),
            kernel_us: boot.zip(init_to_hello).map(|(boot, init)| boot - init),
            init_us: init_to_hello
                .zip(since(marks.hello, marks.started))
                .map(|(to_hello, to_program)| to_hello + to_program),
            command_us: since(marks.started, marks.ended),
            teardown_us: marks.ended.map(|ended| now_us.saturating_sub(ended)),
            total_us: now_us.saturating_sub(self.started_us),
        }
    }
}

/// The phases on one line, in milliseconds.
pub fn summary(phases: &Phases) -> String {
    let parts = [
        ("cli", phases.cli_us),
        ("jailer", phases.jailer_us),
        ("vmm", phases.vmm_us),
        ("read-back", phases.readback_us),
        ("kernel", phases.kernel_us),
        ("init", phases.init_us),
        ("command", phases.command_us),
        ("teardown", phases.teardown_us),
        ("total", Some(phases.total_us)),
    ];
    let words: Vec<String> = parts
        .into_iter()
        .filter_map(|(name, us)| Some(format!("{name} {:.1} ms", us? as f64 / 1000.0)))
        .collect();
    words.join(", ")
}

/// Whether a report can be written there, as far as can be told before.
pub fn check(path: &Path) -> Result<(), ReportError> {
    match path.metadata() {
        Ok(meta) if !meta.is_file() => return Err(ReportError::NotAFile(path.to_owned())),
        _ => {}
    }
    if !folder(path).is_dir() || path.file_name().is_none() {
        return Err(ReportError::NoFolder(path.to_owned()));
    }
    written::target("report", path)?;
    Ok(())
}

/// Writes it whole or not at all.
pub fn write(path: &Path, report: &Report) -> Result<(), ReportError> {
    check(path)?;
    let failed = |source| ReportError::Write {
        path: path.to_owned(),
        source,
    };
    // Through a link of ours, the file it points to is replaced and not the link.
    let target = written::target("report", path)?;
    let json = serde_json::to_vec_pretty(report).map_err(|e| failed(e.into()))?;
    let mut file = tempfile::Builder::new()
        .prefix(".casemate-report-")
        .permissions(Permissions::from_mode(0o666)) // less the umask
        .tempfile_in(folder(&target))
        .map_err(failed)?;
    file.write_all(&json).map_err(failed)?;
    file.write_all(b"\n").map_err(failed)?;
    file.persist(&target).map_err(|e| failed(e.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use casemate_proto::cell::StartTimes;
    use clap::Parser;

    fn record() -> Record {
        let Command::Run(args) = Cli::try_parse_from(["casemate", "run", "--", "x"])
            .unwrap()
            .command
        else {
            panic!("not run");
        };
        Record::new(&args, 1000)
    }

    #[test]
    fn phases_add_up_to_the_total() {
        let mut record = record();
        record.launched_us = Some(1100);
        record.marks = Marks {
            start: Some(StartTimes {
                jailer_entered: 1150,
                vmm_entered: 1300,
                vmm_ready: 1500,
                go: 1600,
            }),
            hello: Some(5600),
            init_us: 400,
            started: Some(5700),
            ended: Some(6700),
        };
        let phases = record.phases(7000);
        assert_eq!(phases.cli_us, Some(100));
        assert_eq!(phases.jailer_us, Some(200));
        assert_eq!(phases.kernel_us, Some(3600));
        assert_eq!(phases.init_us, Some(500));
        let parts = [
            phases.cli_us,
            phases.jailer_us,
            phases.vmm_us,
            phases.readback_us,
            phases.kernel_us,
            phases.init_us,
            phases.command_us,
            phases.teardown_us,
        ];
        assert_eq!(parts.into_iter().flatten().sum::<u64>(), phases.total_us);
    }

    #[test]
    fn a_guest_that_lies_about_time_wraps_nothing() {
        let mut record = record();
        record.marks.start = Some(StartTimes::default());
        record.marks.hello = Some(10);
        record.marks.init_us = u64::MAX;
        assert_eq!(record.phases(20).kernel_us, Some(0));
        assert_eq!(record.phases(20).command_us, None);
    }

    #[test]
    fn a_report_is_written_whole_and_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.json");
        for code in [1, 2] {
            let report = record().report(&Outcome::Exited { code }, code, 2000);
            write(&path, &report).unwrap();
            let read: Report = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            assert_eq!(read, report);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_device_or_a_missing_folder_is_refused_before() {
        assert!(matches!(
            check(Path::new("/dev/null")),
            Err(ReportError::NotAFile(_))
        ));
        assert!(matches!(
            check(Path::new("/nonexistent/r.json")),
            Err(ReportError::NoFolder(_))
        ));
        assert!(check(Path::new("r.json")).is_ok());
    }
}
