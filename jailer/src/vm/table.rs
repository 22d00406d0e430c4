//! The VMM's fds against `proto::fds`.

use crate::layers::Observation;
use crate::readback::Seen;
use casemate_proto::control::VmConfig;
use casemate_proto::fds::{CONTROL, EVENT_BASE, FdKind, INITRD, expected};
use std::collections::BTreeMap;
use std::os::fd::RawFd;

/// Where the child keeps its own socket to the supervisor and the VMM's binary until the
/// exec, both close-on-exec: free numbers below the disks'.
pub const STATUS: RawFd = 8;
/// See [`STATUS`].
pub const BINARY: RawFd = 9;
const _: () = assert!(STATUS > INITRD && BINARY < casemate_proto::fds::DISK_BASE);
const _: () = assert!(CONTROL < STATUS);

/// Above every number that the VMM uses.
pub const STAGE: RawFd = 2 * EVENT_BASE;

/// The whole list against `proto::fds`.
pub fn read_back(config: &VmConfig, seen: &Seen<'_>) -> Observation {
    let expected = expected(config);
    let declared = list(expected.keys().copied());
    let observed = (|| {
        let mut found = BTreeMap::new();
        for name in seen.list("fd").map_err(|e| format!("fd: {e}"))? {
            let link = seen
                .read_link(&format!("fd/{name}"))
                .map_err(|e| format!("fd/{name}: {e}"))?;
            let fd: i32 = name
                .parse()
                .map_err(|_| format!("fd/{name} is no number"))?;
            let kind = FdKind::of_link(fd, &link);
            match (fd >= EVENT_BASE, kind, expected.get(&fd)) {
                (true, Some(FdKind::Event), _) => {}
                (false, Some(kind), Some(&wanted)) if kind == wanted => {
                    found.insert(fd, kind);
                }
                _ => return Err(format!("fd {fd} is {link}")),
            }
        }
        match expected.keys().find(|fd| !found.contains_key(fd)) {
            Some(fd) => Err(format!("fd {fd} is not open")),
            None => Ok(list(found.into_keys())),
        }
    })();
    Observation::of(declared, observed)
}

fn list(fds: impl Iterator<Item = i32>) -> String {
    let fds: Vec<String> = fds.map(|fd| fd.to_string()).collect();
    format!("{}, and event fds from {EVENT_BASE} on", fds.join(" "))
}
