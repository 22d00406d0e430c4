//! A time namespace (time_namespaces(7)): the program's boot and monotonic clocks begin
//! when it does, and tell nothing of the host's uptime.
//!
//! Only children of its maker are in it, so it is made before the program is forked. A VMM
//! is cloned into one with the host's clocks, whose times it reports.

use super::{Step, StepError, Who, namespaces};
use crate::child::Jail;
use casemate_proto::cell::Layer;
use rustix::thread::{UnshareFlags, unshare_unsafe};
use rustix::time::{ClockId, clock_gettime};
use std::fs::OpenOptions;
use std::io::Write;

/// The step.
pub const STEP: Step = Step {
    name: "time-namespace",
    who: &[Who::Init],
    layer: Some(Layer::TimeNs),
    apply,
};

fn apply(_: &mut Jail<'_>) -> Result<(), StepError> {
    // SAFETY: only CLONE_FILES could make fds of this process invalid, and it is not given.
    unsafe { unshare_unsafe(UnshareFlags::NEWTIME) }
        .map_err(|e| namespaces::failed(Layer::TimeNs, e))?;
    let ago = |clock| -clock_gettime(clock).tv_sec;
    let offsets = format!(
        "monotonic {} 0\nboottime {} 0\n",
        ago(ClockId::Monotonic),
        ago(ClockId::Boottime)
    );
    OpenOptions::new()
        .write(true)
        .open("/proc/self/timens_offsets")
        .and_then(|mut file| file.write_all(offsets.as_bytes()))
        .map_err(|e| {
            StepError::new(
                "writing /proc/self/timens_offsets",
                e,
                "run the jailer with CAP_SYS_TIME, and with /proc mounted",
            )
        })
}
