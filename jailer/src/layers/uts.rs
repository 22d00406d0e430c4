//! Host name: one for all cells, so that it tells nothing of the host.

use super::{FIRST, Step, StepError};
use crate::child::Jail;
use crate::plan::HOSTNAME;
use casemate_proto::cell::Layer;
use rustix::system::{setdomainname, sethostname};

/// The step; runs only inside an own UTS namespace.
pub const STEP: Step = Step {
    name: "hostname",
    who: FIRST,
    layer: Some(Layer::UtsNs),
    apply,
};

fn apply(jail: &mut Jail<'_>) -> Result<(), StepError> {
    if jail.missing.contains(&Layer::UtsNs) {
        // Without the namespace, this would rename the host.
        return Ok(());
    }
    sethostname(HOSTNAME.as_bytes())
        .and_then(|()| setdomainname(b"(none)"))
        .map_err(|e| {
            StepError::new(
                "setting the host name",
                e,
                "run the jailer with CAP_SYS_ADMIN",
            )
        })
}
