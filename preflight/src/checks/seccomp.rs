//! seccomp filters and the actions the kernel knows (seccomp(2)).

use crate::check::Check;
use casemate_proto::cell::Layer;
use std::fs;

/// What our filters answer with.
const NEEDED: [&str; 3] = ["kill_process", "errno", "allow"];

/// Whether the kernel has seccomp with the actions the policies use.
pub fn check() -> Check {
    verdict(fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").ok())
}

fn verdict(actions: Option<String>) -> Check {
    let name = "seccomp";
    let consequence = "a VMM that was broken into would have every system call";
    let Some(actions) = actions else {
        return Check::fail(
            name,
            "not in this kernel",
            consequence,
            "run a kernel built with CONFIG_SECCOMP_FILTER",
        )
        .missing([Layer::Seccomp]);
    };
    let actions: Vec<&str> = actions.split_whitespace().collect();
    let absent: Vec<&str> = NEEDED
        .into_iter()
        .filter(|action| !actions.contains(action))
        .collect();
    if !absent.is_empty() {
        return Check::fail(
            name,
            format!("filters without the action {}", absent.join(", ")),
            consequence,
            "run Linux 4.14 or later",
        )
        .missing([Layer::Seccomp]);
    }
    Check::ok(
        name,
        if actions.contains(&"user_notif") {
            "filters, with user_notif"
        } else {
            "filters, without user_notif"
        },
        "every thread of the VMM is held to the system calls of its policy",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Status;

    #[test]
    fn wants_the_actions_of_our_policies() {
        assert_eq!(
            verdict(Some("kill_process errno log allow\n".into())).status,
            Status::Ok
        );
        assert_eq!(verdict(Some("errno allow".into())).status, Status::Fail);
        assert!(verdict(None).missing.contains(&Layer::Seccomp));
    }
}
