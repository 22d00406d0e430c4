//! Whole-policy files: what they come to, and every kind of bad one with its file and line.

use casemate_policy::{Capabilities, Device, MountKind, Namespace, Network, Proc, Resource};
use casemate_policy_compiler::{CompiledPolicy, Error, Readers, compile_policy};
use std::io;

/// The least that a whole policy must say; lines 1 to 8.
const LEAST: &str = "[[rule]]\nsyscall = \"exit\"\nwhy = \"ends\"\n\n[cgroup]\nmemory = \"64M\"\npids = 8\nwhy = \"bounded\"\n";

fn compiled(text: &str) -> Result<CompiledPolicy, Error> {
    let folder = |name: &str| match name {
        "a.toml" => Ok(text.to_owned()),
        "rules.toml" => Ok("[[rule]]\nsyscall = \"read\"\nwhy = \"reads\"\n".to_owned()),
        "empty.toml" => Ok("# nothing\n".to_owned()),
        "loop.toml" => Ok("base = \"loop.toml\"\n".to_owned()),
        _ => Err(io::Error::from_raw_os_error(2)),
    };
    let shipped = |name: &str| match name {
        "common.toml" => Ok("[[rule]]\nsyscall = \"write\"\nwhy = \"writes\"\n".to_owned()),
        _ => Err(io::Error::from_raw_os_error(2)),
    };
    let readers = Readers {
        folder: &folder,
        shipped: &shipped,
    };
    compile_policy("a.toml", readers)
}

/// [`LEAST`], then these lines from line 9 on.
fn with(lines: &str) -> String {
    format!("{LEAST}{lines}\n")
}

#[track_caller]
fn refused_at(text: &str, place: &str, words: &str) {
    let message = compiled(text).unwrap_err().to_string();
    assert!(message.starts_with(&format!("{place}: ")), "{message}");
    assert!(message.contains(words), "{message}");
    assert!(!message.contains('\n'), "one line: {message}");
}

#[test]
fn what_is_not_said_is_at_its_strictest() {
    let CompiledPolicy { policy, .. } = compiled(LEAST).unwrap();
    assert_eq!(policy.name, "a");
    assert_eq!(policy.digest.len(), 64);
    assert_eq!(*policy.namespaces, Namespace::ALL);
    assert_eq!(policy.network, Network::None);
    assert!(policy.filesystem.mounts.is_empty() && !policy.filesystem.dev);
    assert_eq!(policy.filesystem.proc, Proc::None);
    assert_eq!(policy.capabilities, Capabilities(0));
    let landlock = &policy.landlock;
    assert!(landlock.bind_tcp.is_empty() && landlock.connect_tcp.is_empty());
    assert!(!landlock.connect_any && !landlock.ioctl_dev);
    assert!(landlock.scope_abstract_socket && landlock.scope_signal);
    let rlimit = |resource| {
        let found = policy.rlimits.iter().find(|l| l.resource == resource);
        found.map(|limit| limit.value)
    };
    assert_eq!(rlimit(Resource::Core), Some(1));
    assert_eq!(rlimit(Resource::Memlock), Some(0));
    assert_eq!(rlimit(Resource::Nofile), None);
    assert_eq!(policy.cgroup.memory_bytes, Some(64 << 20));
    assert_eq!(policy.cgroup.swap_bytes, Some(0));
    assert_eq!(policy.wall_clock_ms, None);
    assert!(policy.environment.keep.is_empty() && policy.environment.set.is_empty());
    assert!(policy.keep_fds.is_empty() && policy.devices.is_empty());
    assert!(policy.seccomp.is_some());
}

#[test]
fn every_section_is_read() {
    let text = with(
        "swap = \"1M\"
cpu-millis = 1500
cpu-weight = 10
[[cgroup.io]]
device = \"8:0\"
read = \"10M\"
why = \"w\"
[namespaces]
own = [\"pid\", \"mount\"]
why = \"w\"
[network]
join = \"/run/netns/a\"
why = \"w\"
[filesystem]
proc = \"pids\"
dev = true
why = \"w\"
[[mount]]
ro = \"/usr\"
why = \"w\"
[[mount]]
rw = \"/srv/in\"
at = \"/in\"
optional = true
why = \"w\"
[[mount]]
tmpfs = \"/tmp\"
size = \"1M\"
why = \"w\"
[capabilities]
keep = [\"CAP_NET_RAW\", \"CAP_CHOWN\"]
why = \"w\"
[landlock]
min-abi = 4
bind-tcp = [8080, 80]
connect-tcp = \"any\"
ioctl-dev = true
scope-signal = false
why = \"w\"
[rlimits]
core = \"unlimited\"
why = \"w\"
[wall-clock]
limit = \"90s\"
why = \"w\"
[environment]
keep = [\"LANG\"]
set = { A = \"b\" }
why = \"w\"
[fds]
keep = [5, 3]
why = \"w\"
[devices]
guest = [\"vsock\", \"block\"]
why = \"w\"",
    );
    refused_at(&text, "a.toml:49", "leave the key out");
    let text = text.replace("core = \"unlimited\"", "nofile = 99");
    let text = text
        .replace("why = \"bounded\"\n", "")
        .replace("cpu-weight = 10\n", "cpu-weight = 10\nwhy = \"w\"\n");
    let policy = compiled(&text).unwrap().policy;
    assert_eq!(*policy.namespaces, [Namespace::Mount, Namespace::Pid]);
    assert_eq!(policy.network, Network::Join("/run/netns/a".into()));
    assert_eq!(policy.filesystem.proc, Proc::Pids);
    let mounts: Vec<_> = policy
        .filesystem
        .mounts
        .iter()
        .map(|m| (m.kind, &*m.host, &*m.jail, m.optional))
        .collect();
    assert_eq!(
        mounts,
        [
            (MountKind::Ro, "/usr", "/usr", false),
            (MountKind::Rw, "/srv/in", "/in", true),
            (MountKind::Tmpfs { bytes: 1 << 20 }, "", "/tmp", false),
        ]
    );
    assert_eq!(policy.capabilities, Capabilities(1 << 13 | 1));
    assert_eq!(policy.landlock.min_abi, 4);
    assert_eq!(*policy.landlock.bind_tcp, [80, 8080]);
    assert!(policy.landlock.connect_any && policy.landlock.ioctl_dev);
    assert!(policy.landlock.scope_abstract_socket && !policy.landlock.scope_signal);
    assert_eq!(policy.cgroup.swap_bytes, Some(1 << 20));
    assert_eq!(policy.cgroup.cpu_millis, Some(1500));
    assert_eq!(policy.cgroup.cpu_weight, Some(10));
    assert_eq!(policy.cgroup.io[0].read_bps, Some(10 << 20));
    assert_eq!(policy.cgroup.io[0].write_bps, None);
    assert_eq!(policy.wall_clock_ms, Some(90_000));
    assert_eq!(policy.environment.keep[0], "LANG");
    assert_eq!(policy.environment.set[0], ("A".into(), "b".into()));
    assert_eq!(*policy.keep_fds, [3, 5]);
    assert_eq!(*policy.devices, [Device::Block, Device::Vsock]);
}

#[test]
fn a_digest_is_of_what_is_enforced() {
    let digest = |text: &str| compiled(text).unwrap().policy.digest;
    let least = digest(LEAST);
    assert_eq!(digest(&LEAST.replace("bounded", "within bounds")), least);
    assert_ne!(digest(&LEAST.replace("64M", "65M")), least);
    assert_ne!(digest(&LEAST.replace("\"exit\"", "\"exit_group\"")), least);
}

#[test]
fn includes_are_of_the_folder_or_shipped() {
    let rules = |text: &str| compiled(text).unwrap().rules.len();
    assert_eq!(
        rules(&format!(
            "include = [\"rules.toml\", \"shipped/common.toml\"]\n{LEAST}"
        )),
        3
    );
    let include = |name: &str| format!("include = [\"{name}\"]\n{LEAST}");
    for outside in [
        "../rules.toml",
        "shipped/../x.toml",
        "/etc/x.toml",
        "shipped/",
    ] {
        refused_at(&include(outside), "a.toml:1", "plain file name");
    }
    refused_at(&include("none.toml"), "a.toml:1", "cannot read");
    refused_at(&include("shipped/none.toml"), "a.toml:1", "cannot read");
    refused_at(&include("empty.toml"), "empty.toml:1", "no [[rule]]");
}

#[test]
fn unknown_keys_and_types() {
    refused_at(&with("[sandbox]\nwhy = \"w\""), "a.toml:9", "`sandbox`");
    refused_at(
        &with("[network]\nports = []\nwhy = \"w\""),
        "a.toml:10",
        "`ports`",
    );
    refused_at(
        &with("[[mount]]\nro = \"/a\"\nexec = true\nwhy = \"w\""),
        "a.toml:11",
        "`exec`",
    );
    refused_at(
        &with("[fds]\nkeep = \"3\"\nwhy = \"w\""),
        "a.toml:10",
        "sequence",
    );
    refused_at(
        &with("[landlock]\nbind-tcp = [70000]\nwhy = \"w\""),
        "a.toml:10",
        "70000",
    );
    refused_at(
        &with("[rlimits]\nnofile = -1\nwhy = \"w\""),
        "a.toml:10",
        "negative",
    );
    refused_at(&with("own = [\"vcpu\"]"), "a.toml:9", "`own`");
}

#[test]
fn every_section_needs_its_why() {
    for section in [
        "[namespaces]\nown = []",
        "[network]\nmode = \"none\"",
        "[filesystem]\ndev = true",
        "[[mount]]\nro = \"/usr\"",
        "[capabilities]\nkeep = []",
        "[landlock]\nioctl-dev = true",
        "[rlimits]\nnofile = 9",
        "[[cgroup.io]]\ndevice = \"8:0\"",
        "[wall-clock]\nlimit = \"1s\"",
        "[environment]\nkeep = []",
        "[fds]\nkeep = []",
        "[devices]\nguest = []",
    ] {
        refused_at(&with(section), "a.toml:9", "`why`");
        refused_at(
            &with(&format!("{section}\nwhy = \" \"")),
            "a.toml:11",
            "`why`",
        );
    }
    refused_at(
        &LEAST.replace("why = \"bounded\"\n", ""),
        "a.toml:5",
        "`why`",
    );
}

#[test]
fn values_that_cannot_be() {
    let one = |section: &str, line: &str, words: &str| {
        refused_at(
            &with(&format!("[{section}]\n{line}\nwhy = \"w\"")),
            "a.toml:10",
            words,
        );
    };
    one("namespaces", "own = [\"pids\"]", "namespace \"pids\"");
    one("namespaces", "own = [\"pid\", \"pid\"]", "twice");
    one("network", "mode = \"bridge\"", "network \"bridge\"");
    one("network", "join = \"netns/a\"", "absolute path");
    one("filesystem", "proc = \"all\"", "\"all\"");
    one(
        "capabilities",
        "keep = [\"SYS_ADMIN\"]",
        "capability \"SYS_ADMIN\"",
    );
    one("landlock", "min-abi = 0", "out of range");
    one("landlock", "min-abi = 8", "out of range");
    one("landlock", "bind-tcp = [80, 80]", "twice");
    one("landlock", "connect-tcp = \"all\"", "\"all\"");
    one("rlimits", "nofile = \"many\"", "\"many\"");
    one("rlimits", "core = 0", "core_pattern");
    one("wall-clock", "limit = \"5\"", "\"5\"");
    one("wall-clock", "limit = \"0s\"", "\"0s\"");
    one("environment", "keep = [\"A=b\"]", "\"A=b\"");
    one("environment", "set = { \"\" = \"b\" }", "\"\"");
    one("environment", "set = { A = \"\\u0000\" }", "\"A\"");
    one("fds", "keep = [2]", "fd 2");
    one("fds", "keep = [3, 3]", "twice");
    one("devices", "guest = [\"gpu\"]", "device \"gpu\"");
    refused_at(&with("[network]\nwhy = \"w\""), "a.toml:9", "exactly one");
    refused_at(
        &with("[network]\nmode = \"none\"\njoin = \"/a\"\nwhy = \"w\""),
        "a.toml:9",
        "exactly one",
    );
    refused_at(
        &LEAST.replace("pids = 8", "pids = 0"),
        "a.toml:7",
        "out of range",
    );
    refused_at(&LEAST.replace("pids = 8\n", ""), "a.toml:1", "no `pids`");
    refused_at(
        &LEAST.replace("memory = \"64M\"\n", ""),
        "a.toml:1",
        "no `memory`",
    );
    let weight = LEAST.replace("pids = 8", "pids = 8\ncpu-weight = 10001");
    refused_at(&weight, "a.toml:8", "out of range");
    let io = |device: &str| {
        with(&format!(
            "[[cgroup.io]]\ndevice = \"{device}\"\nwhy = \"w\""
        ))
    };
    for bad in ["sda", "8", "8:x", "8:-1"] {
        refused_at(&io(bad), "a.toml:10", "block device");
    }
}

#[test]
fn mounts_that_cannot_be() {
    let mount = |lines: &str| with(&format!("[[mount]]\n{lines}\nwhy = \"w\""));
    refused_at(&mount("at = \"/a\""), "a.toml:9", "exactly one");
    refused_at(
        &mount("ro = \"/a\"\nrw = \"/a\""),
        "a.toml:9",
        "exactly one",
    );
    for bad in ["usr", "/usr/../etc", "/usr/", "//usr", "/usr/."] {
        refused_at(
            &mount(&format!("ro = \"{bad}\"")),
            "a.toml:10",
            "absolute path",
        );
    }
    refused_at(&mount("ro = \"/\""), "a.toml:10", "on /");
    refused_at(&mount("ro = \"/a\"\nat = \"/\""), "a.toml:10", "on /");
    refused_at(&mount("tmpfs = \"/a\""), "a.toml:9", "needs `size`");
    refused_at(
        &mount("tmpfs = \"/a\"\nsize = 0"),
        "a.toml:9",
        "needs `size`",
    );
    refused_at(
        &mount("tmpfs = \"/a\"\nsize = \"unlimited\""),
        "a.toml:9",
        "needs `size`",
    );
    refused_at(&mount("ro = \"/a\"\nsize = 5"), "a.toml:11", "for a tmpfs");
    let twice =
        "[[mount]]\nro = \"/a\"\nwhy = \"w\"\n[[mount]]\nrw = \"/b\"\nat = \"/a\"\nwhy = \"w\"";
    refused_at(&with(twice), "a.toml:12", "twice");
}

#[test]
fn rules_are_held_to_the_same() {
    let rule = |lines: &str| with(&format!("[[rule]]\n{lines}"));
    refused_at(
        &rule("syscall = \"exit\"\nwhy = \"w\""),
        "a.toml:9",
        "a.toml:1 already",
    );
    refused_at(
        &rule("syscall = \"exit\"\nerrno = \"EPERM\"\nwhy = \"w\""),
        "a.toml:9",
        "contradictory",
    );
    refused_at(
        &rule("syscall = \"raed\"\nwhy = \"w\""),
        "a.toml:10",
        "\"raed\"",
    );
    refused_at(&rule("syscall = \"read\""), "a.toml:9", "`why`");
    refused_at(
        &LEAST.replace("[[rule]]\nsyscall = \"exit\"\nwhy = \"ends\"\n", ""),
        "a.toml:1",
        "no [[rule]]",
    );
    refused_at(
        &with("[[deny]]\nsyscall = \"exit\"\nwhy = \"w\""),
        "a.toml:9",
        "takes away from a base",
    );
}

#[test]
fn threads_have_files_of_their_own() {
    let threads = |files: &str| {
        format!(
            "[threads]\nfiles = [{files}]\nwhy = \"w\"\n[cgroup]\nmemory = 1\npids = 1\nwhy = \"w\"\n"
        )
    };
    let compiled_threads = compiled(&threads("\"rules.toml\"")).unwrap();
    assert_eq!(compiled_threads.threads[0].0, "rules");
    assert!(compiled_threads.policy.seccomp.is_none());
    refused_at(&threads("\"empty.toml\""), "empty.toml:1", "no [[rule]]");
    refused_at(&threads("\"none.toml\""), "a.toml:2", "cannot read");
    refused_at(&threads("\"../x.toml\""), "a.toml:2", "plain file name");
    refused_at(
        &threads("\"rules.toml\", \"rules.toml\""),
        "a.toml:2",
        "twice",
    );
    refused_at(&threads(""), "a.toml:1", "no [[rule]]");
    let both = format!(
        "{}[[rule]]\nsyscall = \"exit\"\nwhy = \"w\"\n",
        threads("\"rules.toml\"")
    );
    refused_at(&both, "a.toml:8", "beside [threads]");
}

#[test]
fn bases_that_cannot_be() {
    refused_at("base = \"none\"\n", "a.toml:1", "unknown base \"none\"");
    refused_at("base = \"../x.toml\"\n", "a.toml:1", "plain file name");
    refused_at("\nbase = \"x.toml\"\n", "a.toml:2", "cannot read");
    refused_at("base = \"loop.toml\"\n", "loop.toml:1", "more than 8 bases");
    refused_at("base = \"\"\n", "a.toml:1", "unknown base");
}
