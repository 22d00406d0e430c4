//! `casemate jail`: any program under the jailer's layers, without a VM.

pub mod args;
mod record;
mod validate;

use crate::run::report;
use crate::{Startup, policy, say};
use args::JailArgs;
use casemate_jailer::jail::{self, Account, End, Request};
use casemate_policies::report::reporting;
use casemate_proto::status::{OWN_FAILURE, Outcome};
use record::Record;
use std::process::ExitCode;

/// Runs a program in a jail; the exit status is `casemate_proto::status`.
pub fn main(args: &JailArgs, startup: &Startup) -> ExitCode {
    if let Some(Err(e)) = args.report.as_deref().map(report::check) {
        say::line(e.to_string());
        return ExitCode::from(OWN_FAILURE);
    }
    let mut record = Record::new(args, startup.started_us);
    let mut account = Account::default();
    let outcome = match prepare(args, startup) {
        Ok(request) => {
            record.understood(&request);
            run(request, &mut account)
        }
        Err(detail) => Outcome::OwnFailure { detail },
    };
    for call in policy::call::all_refused(&account.refused_calls) {
        say::line(call);
    }
    if let Some(words) = words(&outcome, args) {
        say::line(words);
    }
    let mut status = outcome.exit_status();
    if let Some(path) = &args.report
        && let Err(e) = report::write(path, &record.report(&outcome, &account, status))
    {
        say::line(e.to_string());
        status = OWN_FAILURE;
    }
    ExitCode::from(status)
}

fn prepare(args: &JailArgs, startup: &Startup) -> Result<Request, String> {
    if let Some(fd) = startup.closed.iter().position(|&closed| closed) {
        return Err(crate::run::closed(fd).to_owned());
    }
    let mut policy = policy::load::jail(&args.policy).map_err(|e| e.to_string())?;
    if args.seccomp_report {
        policy.seccomp = policy.seccomp.as_ref().map(reporting);
    }
    validate::request(args, policy).map_err(|e| e.to_string())
}

fn run(request: Request, account: &mut Account) -> Outcome {
    match jail::run(request, account) {
        Err(refusal) => Outcome::OwnFailure {
            detail: say::plain(&refusal.message),
        },
        Ok(End::Exited(code)) => Outcome::Exited { code },
        Ok(End::Signaled(signal)) => Outcome::Signaled { signal },
        Ok(End::OutOfMemory) => Outcome::GuestOom,
        Ok(End::Timeout) => Outcome::Timeout,
        Ok(End::NotExecutable(detail)) => Outcome::NotExecutable { detail },
        Ok(End::NotFound(detail)) => Outcome::NotFound { detail },
    }
}

/// What is said of an end that the program did not come to by itself.
fn words(outcome: &Outcome, args: &JailArgs) -> Option<String> {
    let program = args
        .command
        .first()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    Some(match outcome {
        Outcome::OwnFailure { detail } => detail.clone(),
        Outcome::NotFound { detail } | Outcome::NotExecutable { detail } => {
            format!("{program}: {detail}")
        }
        Outcome::Timeout => format!(
            "the time limit of {} was reached",
            args.timeout.as_deref().unwrap_or("the policy")
        ),
        Outcome::GuestOom => {
            "the jail ran out of memory: give it more with --memory, or the program less to do"
                .to_owned()
        }
        _ => return None,
    })
}
