//! Resource limits (getrlimit(2)), soft and hard alike.

use super::{FIRST, Observation, Step, StepError, libc_result};
use crate::child::Jail;
use crate::readback::{Moment, Seen};
use casemate_policy::{Resource, RlimitValue};
use casemate_proto::cell::Layer;

/// The step.
pub const STEP: Step = Step {
    name: "rlimits",
    who: FIRST,
    layer: Some(Layer::Rlimits),
    apply,
};

/// These limits as far as an ordinary user can set them, who cannot raise a hard one.
pub fn attainable(limits: &[RlimitValue]) -> Vec<RlimitValue> {
    limits
        .iter()
        .map(|limit| {
            let mut own = libc::rlimit {
                rlim_cur: libc::RLIM_INFINITY,
                rlim_max: libc::RLIM_INFINITY,
            };
            // SAFETY: `own` outlives the call, which writes to it. Where it fails, which takes
            // a resource that the kernel does not know, setting the limit will, too.
            unsafe { libc::getrlimit(number(limit.resource), &raw mut own) };
            RlimitValue {
                value: limit.value.min(own.rlim_max),
                ..*limit
            }
        })
        .collect()
}

fn apply(jail: &mut Jail<'_>) -> Result<(), StepError> {
    for limit in jail.plan.policy.rlimits.iter() {
        let both = libc::rlimit {
            rlim_cur: limit.value,
            rlim_max: limit.value,
        };
        // SAFETY: `both` outlives the call, which reads it.
        libc_result(unsafe { libc::setrlimit(number(limit.resource), &raw const both) }.into())
            .map_err(|e| {
                StepError::new(
                    format!("setting {} to {}", limit.resource.name(), limit.value),
                    e,
                    "raise the hard limit under which the jailer is started (ulimit -H)",
                )
            })?;
    }
    Ok(())
}

/// The kernel's number of a resource.
fn number(resource: Resource) -> libc::__rlimit_resource_t {
    match resource {
        Resource::As => libc::RLIMIT_AS,
        Resource::Core => libc::RLIMIT_CORE,
        Resource::Cpu => libc::RLIMIT_CPU,
        Resource::Data => libc::RLIMIT_DATA,
        Resource::Fsize => libc::RLIMIT_FSIZE,
        Resource::Locks => libc::RLIMIT_LOCKS,
        Resource::Memlock => libc::RLIMIT_MEMLOCK,
        Resource::Msgqueue => libc::RLIMIT_MSGQUEUE,
        Resource::Nice => libc::RLIMIT_NICE,
        Resource::Nofile => libc::RLIMIT_NOFILE,
        Resource::Nproc => libc::RLIMIT_NPROC,
        Resource::Rss => libc::RLIMIT_RSS,
        Resource::Rtprio => libc::RLIMIT_RTPRIO,
        Resource::Rttime => libc::RLIMIT_RTTIME,
        Resource::Sigpending => libc::RLIMIT_SIGPENDING,
        Resource::Stack => libc::RLIMIT_STACK,
    }
}

/// `/proc/PID/limits`; limits are the process', not a thread's.
pub fn read_back(seen: &Seen<'_>) -> Observation {
    let rlimits = &seen.plan.policy.rlimits;
    let line = |limit: &RlimitValue, value: &str| format!("{} {value}", limit.resource.name());
    let declared: Vec<String> = rlimits
        .iter()
        .map(|limit| line(limit, &shown(limit.value)))
        .collect();
    let observed = seen
        .read("limits")
        .map_err(|e| format!("limits: {e}"))
        .and_then(|text| {
            rlimits
                .iter()
                .map(|limit| match find(&text, limit.resource.line()) {
                    Some((soft, hard)) if soft == hard && seen.moment == Moment::Start => {
                        Ok(line(limit, soft))
                    }
                    // What runs may lower its own.
                    Some((_, hard)) if seen.moment == Moment::Running && lower(hard, limit) => {
                        Ok(line(limit, &shown(limit.value)))
                    }
                    Some((soft, hard)) => Err(line(limit, &format!("{soft}, hard {hard}"))),
                    None => Err(format!("{}: no such line", limit.resource.line())),
                })
                .collect::<Result<Vec<_>, _>>()
        });
    match observed {
        Ok(lines) => Observation::compare(declared.join(", "), lines.join(", ")),
        Err(e) => Observation::of(declared.join(", "), Err(e)),
    }
}

/// Whether a hard limit is no higher than declared.
fn lower(hard: &str, limit: &RlimitValue) -> bool {
    limit.value == libc::RLIM_INFINITY || hard.parse().is_ok_and(|hard: u64| hard <= limit.value)
}

/// As the kernel prints a value.
fn shown(value: u64) -> String {
    match value {
        libc::RLIM_INFINITY => "unlimited".to_owned(),
        value => value.to_string(),
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
