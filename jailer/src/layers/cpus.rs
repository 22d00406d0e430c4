//! CPU pinning (sched_setaffinity(2)).

use super::{FIRST, Observation, Step, StepError};
use crate::child::Jail;
use crate::readback::Seen;
use casemate_proto::cell::Layer;
use rustix::thread::{CpuSet, sched_setaffinity};

/// The step.
pub const STEP: Step = Step {
    name: "cpu-pinning",
    who: FIRST,
    layer: Some(Layer::CpuPinning),
    apply,
};

fn apply(jail: &mut Jail<'_>) -> Result<(), StepError> {
    let mut set = CpuSet::new();
    for &cpu in &jail.plan.cpus {
        if cpu >= CpuSet::MAX_CPU {
            return Err(StepError::new(
                format!("pinning to CPU {cpu}"),
                "there is none",
                "name CPUs of /sys/devices/system/cpu/online",
            ));
        }
        set.set(cpu);
    }
    sched_setaffinity(None, &set).map_err(|e| {
        StepError::new(
            format!("pinning to the CPUs {}", list(&jail.plan.cpus)),
            e,
            "name CPUs of /sys/devices/system/cpu/online",
        )
    })
}

/// `Cpus_allowed_list` of every thread.
pub fn read_back(seen: &Seen<'_>) -> Observation {
    let declared = list(&seen.plan.cpus);
    let observed = seen.of_threads(|thread| match expand(&thread.cpus) == seen.plan.cpus {
        true => Ok(()),
        false => Err(thread.cpus.clone()),
    });
    Observation::of(&declared, observed.map(|()| declared.clone()))
}

fn list(cpus: &[usize]) -> String {
    let cpus: Vec<String> = cpus.iter().map(usize::to_string).collect();
    cpus.join(",")
}

/// `0-2,4` as numbers (cpuset(7)); nothing where it is malformed.
pub fn expand(list: &str) -> Vec<usize> {
    let range = |part: &str| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
        (from <= to && to < CpuSet::MAX_CPU).then_some(from..=to)
    };
    let ranges: Option<Vec<_>> = list.split(',').map(range).collect();
    let mut cpus: Vec<usize> = ranges.into_iter().flatten().flatten().collect();
    cpus.sort_unstable();
    cpus.dedup();
    cpus
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lists_are_expanded() {
        assert_eq!(expand("0-2,4"), [0, 1, 2, 4]);
        assert_eq!(expand("3"), [3]);
        for bad in ["", "x", "2-1", "0-99999999", "1,", "-1"] {
            assert_eq!(expand(bad), Vec::<usize>::new(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in ".{0,40}") {
            let _ = expand(&text);
        }
    }
}
