//! The cgroup tree and its controllers (cgroups(7)).

use crate::check::Check;
use casemate_proto::cell::Layer;
use std::collections::BTreeSet;
use std::fs;

/// What the limits of a cell need.
const NEEDED: [&str; 3] = ["memory", "cpu", "pids"];

/// Which version is mounted, with which controllers.
pub fn check() -> Check {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    verdict(&Tree::read(&mounts, |root| {
        fs::read_to_string(format!("{root}/cgroup.controllers")).unwrap_or_default()
    }))
}

/// Which controllers are where.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tree {
    v1: BTreeSet<String>,
    v2: BTreeSet<String>,
    v2_mounted: bool,
}

impl Tree {
    /// From proc_mounts(5) and each v2 root's `cgroup.controllers`.
    fn read(mounts: &str, controllers: impl Fn(&str) -> String) -> Self {
        let mut tree = Self::default();
        for line in mounts.lines() {
            let mut fields = line.split(' ').skip(1);
            let (Some(root), Some(kind), Some(options)) =
                (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            match kind {
                "cgroup" => tree.v1.extend(options.split(',').map(str::to_owned)),
                "cgroup2" => {
                    tree.v2_mounted = true;
                    let list = controllers(root);
                    tree.v2.extend(list.split_whitespace().map(str::to_owned));
                }
                _ => {}
            }
        }
        tree
    }
}

fn verdict(tree: &Tree) -> Check {
    let name = "cgroup";
    let lacking = |set: &BTreeSet<String>| {
        NEEDED
            .into_iter()
            .filter(|&controller| !set.contains(controller))
            .collect::<Vec<_>>()
    };
    let consequence = "memory, CPU time and tasks of a cell are limited";
    let have = NEEDED.join(", ");
    if tree.v2_mounted && lacking(&tree.v2).is_empty() {
        return Check::ok(name, format!("version 2 with {have}"), consequence);
    }
    if lacking(&tree.v1).is_empty() {
        return Check::ok(name, format!("version 1 with {have}"), consequence);
    }
    let found = if tree.v2_mounted && tree.v1.is_disjoint(&NEEDED.map(str::to_owned).into()) {
        format!("version 2 without {}", lacking(&tree.v2).join(", "))
    } else if tree.v1.is_empty() {
        "no cgroup tree is mounted".to_owned()
    } else {
        format!("version 1 without {}", lacking(&tree.v1).join(", "))
    };
    Check::fail(
        name,
        found,
        "a guest could take the host's memory, CPU time and tasks",
        "mount cgroup2 at /sys/fs/cgroup with the controllers memory, cpu and pids \
         (cgroup_enable=memory on the host's kernel command line where it is off)",
    )
    .missing([Layer::Cgroup])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Status;

    #[test]
    fn tells_version_1_hybrid_and_2() {
        let v1 = "cgroup /c/memory cgroup rw,memory 0 0\n\
                  cgroup /c/cpu cgroup rw,cpu,cpuacct 0 0\n\
                  cgroup /c/pids cgroup rw,pids 0 0\n\
                  cgroup2 /c/unified cgroup2 rw 0 0\n";
        let check = verdict(&Tree::read(v1, |_| "hugetlb".into()));
        assert_eq!(check.status, Status::Ok);
        assert!(check.found.starts_with("version 1"));

        let v2 = "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n";
        let check = verdict(&Tree::read(v2, |_| "cpuset cpu io memory pids".into()));
        assert!(check.found.starts_with("version 2 with"));
        let check = verdict(&Tree::read(v2, |_| "cpu pids".into()));
        assert_eq!(check.status, Status::Fail);
        assert_eq!(check.found, "version 2 without memory");
    }

    #[test]
    fn no_tree_is_a_missing_layer() {
        let check = verdict(&Tree::read("proc /proc proc rw 0 0\n", |_| String::new()));
        assert_eq!(check.found, "no cgroup tree is mounted");
        assert!(check.missing.contains(&Layer::Cgroup));
    }
}
