//! What is kept of a jail, and the report made of it.

use super::args::JailArgs;
use crate::clock::now_us;
use casemate_jailer::jail::{Account, Request};
use casemate_policy::CgroupLimits;
use casemate_proto::cell::Layer;
use casemate_proto::report::{Phases, PolicyUsed, Report, VERSION};
use casemate_proto::status::Outcome;
use std::collections::BTreeSet;

/// What is kept, filled in as things go on.
#[derive(Debug)]
pub struct Record {
    tenant: String,
    id: String,
    command: Vec<String>,
    policy: Option<PolicyUsed>,
    limits: Option<CgroupLimits>,
    allow_missing: BTreeSet<Layer>,
    started_us: u64,
}

impl Record {
    /// Of arguments that were not understood yet.
    pub fn new(args: &JailArgs, started_us: u64) -> Self {
        let lossy = |text: &std::ffi::OsString| text.to_string_lossy().into_owned();
        Self {
            tenant: lossy(&args.tenant),
            id: args.id.as_ref().map(lossy).unwrap_or_default(),
            command: args.command.iter().map(lossy).collect(),
            policy: None,
            limits: None,
            allow_missing: BTreeSet::new(),
            started_us,
        }
    }

    /// The arguments were understood.
    pub fn understood(&mut self, request: &Request) {
        self.id = request.id.to_string();
        self.policy = Some(PolicyUsed {
            name: request.policy.name.to_string(),
            digest: request.policy.digest.to_string(),
        });
        self.limits = Some(request.policy.cgroup.clone());
        self.allow_missing = request.allow_missing.clone();
    }

    /// The report.
    pub fn report(&self, outcome: &Outcome, account: &Account, exit_status: u8) -> Report {
        Report {
            version: VERSION,
            casemate: env!("CARGO_PKG_VERSION").to_owned(),
            tenant: self.tenant.clone(),
            id: self.id.clone(),
            command: self.command.clone(),
            kernel: None,
            rootfs: None,
            vcpus: 0,
            memory_mib: 0,
            limits: None,
            policy: self.policy.clone(),
            cgroup: self.limits.clone(),
            outcome: outcome.clone(),
            exit_status,
            guest_oom_kills: account.oom_kills,
            phases: self.phases(account),
            usage: account.usage,
            confinement: account.confinement.clone(),
            allow_missing: self.allow_missing.clone(),
        }
    }

    fn phases(&self, account: &Account) -> Phases {
        let since = |from: Option<u64>, to: Option<u64>| Some(to?.saturating_sub(from?));
        let times = &account.times;
        let asked = (times.asked > 0).then_some(times.asked);
        let now = now_us();
        Phases {
            cli_us: since(Some(self.started_us), asked),
            jailer_us: since(asked, times.ready),
            readback_us: since(times.ready, times.go),
            command_us: since(times.go, times.ended),
            teardown_us: since(times.ended, Some(now)),
            total_us: now.saturating_sub(self.started_us),
            ..Phases::default()
        }
    }
}
