//! The six namespaces of the jail (namespaces(7)).

use crate::check::Check;
use casemate_proto::cell::Layer;
use std::fs;
use std::path::Path;

/// File in `/proc/self/ns`, its part of the limit's name in `/proc/sys/user`, layer.
const NEEDED: [(&str, &str, Layer); 6] = [
    ("mnt", "mnt", Layer::MountNs),
    ("pid", "pid", Layer::PidNs),
    ("net", "net", Layer::NetNs),
    ("ipc", "ipc", Layer::IpcNs),
    ("uts", "uts", Layer::UtsNs),
    ("cgroup", "cgroup", Layer::CgroupNs),
];

/// Whether the kernel has them and lets more be made.
pub fn check() -> Check {
    verdict(Path::new("/proc"))
}

fn verdict(proc: &Path) -> Check {
    let name = "namespaces";
    let mut absent = Vec::new();
    let mut missing = Vec::new();
    for (file, limit, layer) in NEEDED {
        let most = fs::read_to_string(proc.join(format!("sys/user/max_{limit}_namespaces")))
            .ok()
            .and_then(|text| text.trim().parse::<u64>().ok());
        if fs::symlink_metadata(proc.join("self/ns").join(file)).is_err() {
            absent.push(format!("{file} is not in this kernel"));
            missing.push(layer);
        } else if most == Some(0) {
            absent.push(format!("user.max_{limit}_namespaces is 0"));
            missing.push(layer);
        }
    }
    if absent.is_empty() {
        let all: Vec<_> = NEEDED.iter().map(|n| n.0).collect();
        return Check::ok(
            name,
            all.join(", "),
            "the VMM sees no mount, process, network, message queue, host name or cgroup of the host",
        );
    }
    Check::fail(
        name,
        absent.join(", "),
        "the VMM would share these with the host",
        "run a kernel with these namespaces, and raise the limits with sysctl",
    )
    .missing(missing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Status;

    #[test]
    fn names_what_is_missing() {
        let check = verdict(Path::new("/nonexistent"));
        assert_eq!(check.status, Status::Fail);
        assert_eq!(check.missing.len(), NEEDED.len());
        assert!(check.found.contains("cgroup is not in this kernel"));
    }
}
