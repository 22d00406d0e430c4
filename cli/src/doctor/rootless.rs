//! What a jail takes where it is not root who starts it.

use casemate_jailer::cgroup;
use casemate_jailer::rights;
use casemate_preflight::{Check, Status};

/// What every jail takes.
const EVERY: [&str; 4] = ["namespaces", "cgroup", "landlock", "seccomp"];

/// Whether ordinary users can start jails, and the one who asks, with limits.
pub fn checks() -> Vec<Check> {
    let root = nix::unistd::geteuid().is_root();
    let mut checks = vec![namespaces(rights::probe(), root)];
    if !root {
        checks.push(limits(handed()));
    }
    checks
}

fn namespaces(tried: Result<(), String>, root: bool) -> Check {
    let name = "rootless";
    match tried {
        Ok(()) => Check::ok(
            name,
            "ordinary users can make user namespaces, and others in them",
            "casemate jail works without root",
        ),
        Err(why) => {
            let (found, remedy) = why
                .split_once(": ")
                .unwrap_or((&why, "start jails as root"));
            let consequence = "casemate jail works as root only";
            match root {
                true => Check::warn(name, found, consequence, remedy),
                false => Check::fail(name, found, consequence, remedy),
            }
        }
    }
}

/// The cgroups below which the asking user's jails have theirs.
fn handed() -> Option<String> {
    let places: Vec<String> = cgroup::detect()
        .ok()?
        .into_iter()
        .map(|hierarchy| {
            Some(
                cgroup::delegated(hierarchy)
                    .ok()?
                    .mount
                    .display()
                    .to_string(),
            )
        })
        .collect::<Option<_>>()?;
    Some(places.join(", "))
}

fn limits(handed: Option<String>) -> Check {
    let name = "rootless-cgroup";
    match handed {
        Some(places) => Check::ok(
            name,
            format!("{places} was handed to this user"),
            "memory, CPU time and tasks of its jails are limited",
        ),
        None => Check::warn(
            name,
            "no cgroup was handed to this user",
            "casemate jail refuses, or with --allow-missing cgroup limits neither memory nor CPU \
             time",
            "start it by systemd-run --user --scope -p Delegate=yes, or have root hand a cgroup \
             over and name it with --parent-cgroup",
        ),
    }
}

/// Whether a jail with every layer can work for who asks. Its cgroup may be named yet.
pub fn can_jail(checks: &[Check]) -> bool {
    let who = match nix::unistd::geteuid().is_root() {
        true => "privilege",
        false => "rootless",
    };
    checks
        .iter()
        .filter(|check| EVERY.contains(&check.name) || check.name == who)
        .all(|check| check.status != Status::Fail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_forbids_it_is_told_with_its_remedy() {
        let why = "making a user namespace fails (EPERM): /proc/sys/x is 0: set it to 1";
        let check = namespaces(Err(why.to_owned()), true);
        assert_eq!(check.status, Status::Warn);
        assert_eq!(check.found, "making a user namespace fails (EPERM)");
        assert_eq!(
            check.remedy.as_deref(),
            Some("/proc/sys/x is 0: set it to 1")
        );
        assert!(can_jail(&[check]));
        let check = namespaces(Err(why.to_owned()), false);
        assert_eq!(check.status, Status::Fail);
        assert_eq!(namespaces(Ok(()), false).status, Status::Ok);
        assert_eq!(limits(None).status, Status::Warn);
        assert!(
            limits(Some("/a".to_owned()))
                .found
                .starts_with("/a was handed")
        );
    }
}
