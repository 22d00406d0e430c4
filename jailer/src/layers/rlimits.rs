//! Resource limits (getrlimit(2)), soft and hard alike.

use super::{Observation, Step, StepError};
use crate::child::Jail;
use crate::passed::Passed;
use crate::readback::Seen;
use casemate_proto::cell::{Launch, Layer};
use rustix::process::{Resource, setrlimit};

/// The step.
pub const STEP: Step = Step {
    name: "rlimits",
    layer: Some(Layer::Rlimits),
    apply,
};

/// One limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rlimit {
    resource: Resource,
    /// Its line's name in `/proc/PID/limits`.
    name: &'static str,
    value: u64,
}

/// A cell's limits.
///
/// Core is 1 and not 0: with 0, a dump still goes to a `core_pattern` that is a pipe, guest
/// memory and all; 1 is the value for which the kernel dumps to neither (core(5)).
/// File size is that of the largest writable disk image, so that none can be made to grow.
pub fn table(launch: &Launch, passed: &Passed) -> Vec<Rlimit> {
    let writable = launch
        .vm
        .disks
        .iter()
        .zip(&passed.disks)
        .filter(|(config, _)| !config.read_only)
        .filter_map(|(_, disk)| disk.file_size)
        .max()
        .unwrap_or(0);
    [
        (Resource::Core, "Max core file size", 1),
        (Resource::Fsize, "Max file size", writable),
        (
            Resource::Nofile,
            "Max open files",
            launch.limits.nofile.into(),
        ),
        (Resource::Nproc, "Max processes", launch.limits.pids.into()),
        (Resource::Memlock, "Max locked memory", 0),
        (Resource::Msgqueue, "Max msgqueue size", 0),
        (Resource::Sigpending, "Max pending signals", 64),
        (Resource::Nice, "Max nice priority", 0),
        (Resource::Rtprio, "Max realtime priority", 0),
    ]
    .map(|(resource, name, value)| Rlimit {
        resource,
        name,
        value,
    })
    .to_vec()
}

fn apply(jail: &mut Jail<'_>) -> Result<(), StepError> {
    for limit in &jail.plan.rlimits {
        let both = rustix::process::Rlimit {
            current: Some(limit.value),
            maximum: Some(limit.value),
        };
        setrlimit(limit.resource, both).map_err(|e| {
            StepError::new(
                format!("setting \"{}\" to {}", limit.name, limit.value),
                e,
                "raise the hard limit under which the jailer is started (ulimit -H)",
            )
        })?;
    }
    Ok(())
}

/// `/proc/PID/limits`; limits are the process', not a thread's.
pub fn read_back(seen: &Seen<'_>) -> Observation {
    let line = |limit: &Rlimit, value: &str| format!("{} {value}", &limit.name["Max ".len()..]);
    let declared: Vec<String> = seen
        .plan
        .rlimits
        .iter()
        .map(|limit| line(limit, &limit.value.to_string()))
        .collect();
    let observed = seen
        .read("limits")
        .map_err(|e| format!("limits: {e}"))
        .and_then(|text| {
            seen.plan
                .rlimits
                .iter()
                .map(|limit| match find(&text, limit.name) {
                    Some((soft, hard)) if soft == hard => Ok(line(limit, soft)),
                    Some((soft, hard)) => Err(format!("{} {soft}, hard {hard}", limit.name)),
                    None => Err(format!("{}: no such line", limit.name)),
                })
                .collect::<Result<Vec<_>, _>>()
        });
    match observed {
        Ok(lines) => Observation::compare(declared.join(", "), lines.join(", ")),
        Err(e) => Observation::of(declared.join(", "), Err(e)),
    }
}

/// Soft and hard limit on the line of that name.
fn find<'a>(limits: &'a str, name: &str) -> Option<(&'a str, &'a str)> {
    let rest = limits.lines().find_map(|line| line.strip_prefix(name))?;
    let mut columns = rest.split_ascii_whitespace();
    Some((columns.next()?, columns.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_columns_are_found() {
        let text = "Limit                     Soft Limit           Hard Limit           Units\n\
                    Max core file size        1                    unlimited            bytes\n";
        assert_eq!(find(text, "Max core file size"), Some(("1", "unlimited")));
        assert_eq!(find(text, "Max open files"), None);
    }
}
