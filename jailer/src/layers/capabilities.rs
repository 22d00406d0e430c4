//! Capabilities: all five sets are the policy's, empty in every shipped one, and no way back
//! (capabilities(7)).
//!
//! Two steps around the change of user: the bounding set and the securebits ask for
//! CAP_SETPCAP, which must still be there; the rest goes after the change, which asks for
//! CAP_SETUID.

use super::{FIRST, Observation, Step, StepError, libc_result};
use crate::child::Jail;
use crate::plan::Plan;
use crate::readback::{CAPABILITY_SETS, Seen};
use casemate_proto::cell::Layer;
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, clear_ambient_capability_set,
    configure_capability_in_ambient_set, set_capabilities, set_capabilities_secure_bits,
};

/// Bounding set, ambient set and securebits.
pub const BOUNDING: Step = Step {
    name: "bounding-set",
    who: FIRST,
    layer: Some(Layer::Capabilities),
    apply: bound,
};

/// Effective, permitted and inheritable sets.
pub const STEP: Step = Step {
    name: "capabilities",
    who: FIRST,
    layer: Some(Layer::Capabilities),
    apply,
};

const REMEDY: &str = "run the jailer with CAP_SETPCAP";

/// uid 0 means nothing, changes of uid neither give nor take, none of it can be undone.
pub const SECURE: CapabilitiesSecureBits = CapabilitiesSecureBits::NO_ROOT
    .union(CapabilitiesSecureBits::NO_ROOT_LOCKED)
    .union(CapabilitiesSecureBits::NO_SETUID_FIXUP)
    .union(CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED)
    .union(CapabilitiesSecureBits::KEEP_CAPS_LOCKED);
/// Nor can an ambient capability be had, where none is to be kept over the exec.
const NO_AMBIENT: CapabilitiesSecureBits = CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
    .union(CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED);

fn kept(plan: &Plan) -> CapabilitySet {
    CapabilitySet::from_bits_retain(plan.policy.capabilities.0)
}

fn bound(jail: &mut Jail<'_>) -> Result<(), StepError> {
    let keep = kept(jail.plan);
    if !keep.is_empty() && jail.missing.contains(&Layer::UserNs) {
        return Err(StepError::new(
            "keeping capabilities",
            "without a user namespace they would be the host's",
            "take them out of the policy",
        ));
    }
    keep_in_bounding_set(keep)?;
    clear_ambient_capability_set()
        .map_err(|e| StepError::new("clearing the ambient set", e, REMEDY))?;
    let secure = match keep.is_empty() {
        true => SECURE | NO_AMBIENT,
        false => SECURE,
    };
    set_capabilities_secure_bits(secure)
        .map_err(|e| StepError::new("locking the securebits", e, REMEDY))
}

/// Drops all but `keep` from the calling thread's bounding set: every capability that the
/// kernel has, those newer than this program too.
pub fn keep_in_bounding_set(keep: CapabilitySet) -> Result<(), StepError> {
    for number in 0..u64::BITS {
        if keep.bits() & (1 << number) != 0 {
            continue;
        }
        // SAFETY: prctl(PR_CAPBSET_DROP) takes a number and no memory.
        let dropped = libc_result(
            unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(number), 0, 0, 0) }
                .into(),
        );
        match dropped {
            Ok(_) => {}
            // Beyond the kernel's last.
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => break,
            Err(e) => {
                let what = format!("dropping capability {number} from the bounding set");
                return Err(StepError::new(what, e, REMEDY));
            }
        }
    }
    Ok(())
}

fn apply(jail: &mut Jail<'_>) -> Result<(), StepError> {
    let keep = kept(jail.plan);
    let sets = CapabilitySets {
        effective: keep,
        permitted: keep,
        inheritable: keep,
    };
    set_capabilities(None, sets).map_err(|e| StepError::new("dropping capabilities", e, REMEDY))?;
    for one in keep {
        configure_capability_in_ambient_set(one, true)
            .map_err(|e| StepError::new("keeping a capability over the exec", e, REMEDY))?;
    }
    Ok(())
}

/// The five sets of every thread.
pub fn read_back(seen: &Seen<'_>) -> Observation {
    let kept = kept(seen.plan).bits();
    let declared = format!("all five sets {kept:x}");
    let observed = seen.of_threads(|thread| {
        let full = CAPABILITY_SETS
            .iter()
            .zip(thread.capabilities)
            .find(|(_, set)| *set != kept);
        match full {
            None => Ok(()),
            Some((name, set)) => Err(format!("{name} {set:016x}")),
        }
    });
    Observation::of(&declared, observed.map(|()| declared.clone()))
}
