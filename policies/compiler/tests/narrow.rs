//! A policy with a base can only narrow it: field by field, and rule by rule.

use casemate_policy::{Capabilities, MountKind, Network};
use casemate_policy_compiler::{
    AUDIT_ARCH_X86_64, Call, CompiledPolicy, Error, Readers, Verdict, compile_policy, decide,
    sock_filter,
};
use proptest::prelude::*;
use std::io;

const BASE: &str = r#"
[namespaces]
own = ["mount", "pid"]
why = "w"
[network]
mode = "host"
why = "w"
[filesystem]
proc = "pids"
dev = true
why = "w"
[[mount]]
ro = "/usr"
why = "w"
[[mount]]
tmpfs = "/usr/hidden"
size = "1M"
why = "hides"
[[mount]]
rw = "/srv"
why = "w"
[[mount]]
rw-exec = "/opt"
optional = true
why = "w"
[[mount]]
tmpfs = "/tmp"
size = "64M"
why = "w"
[capabilities]
keep = ["CAP_CHOWN", "CAP_KILL"]
why = "w"
[landlock]
min-abi = 4
bind-tcp = [80, 443]
connect-tcp = [53]
ioctl-dev = true
scope-abstract-socket = false
why = "w"
[rlimits]
nofile = 100
why = "w"
[cgroup]
memory = "64M"
swap = "1M"
cpu-millis = 1000
pids = 10
why = "w"
[[cgroup.io]]
device = "8:0"
read = "10M"
why = "w"
[wall-clock]
limit = "1m"
why = "w"
[environment]
keep = ["LANG", "TZ"]
set = { A = "b", C = "d" }
why = "w"
[fds]
keep = [3, 4]
why = "w"
[devices]
guest = ["block", "vsock"]
why = "w"
[[rule]]
syscall = ["read", "write"]
why = "w"
[[rule]]
syscall = "mprotect"
args = { prot = { only = "PROT_READ|PROT_WRITE" } }
why = "w"
[[rule]]
syscall = "ioctl"
args = { cmd = ["TCGETS", "FIONREAD"] }
why = "w"
[[rule]]
syscall = "clone3"
errno = "ENOSYS"
why = "w"
[[rule]]
syscall = "socket"
args = { domain = ["AF_UNIX", "AF_INET"] }
why = "w"
[[rule]]
syscall = "socket"
args = { type = "SOCK_RAW" }
errno = "EPERM"
why = "w"
"#;

fn compiled(text: &str) -> Result<CompiledPolicy, Error> {
    let folder = |name: &str| match name {
        "t.toml" => Ok(text.to_owned()),
        "middle.toml" => Ok("base = \"base\"\n[rlimits]\nnofile = 50\nwhy = \"w\"\n".to_owned()),
        _ => Err(io::Error::from_raw_os_error(2)),
    };
    let shipped = |name: &str| match name {
        "base.toml" => Ok(BASE.to_owned()),
        _ => Err(io::Error::from_raw_os_error(2)),
    };
    let readers = Readers {
        folder: &folder,
        shipped: &shipped,
    };
    compile_policy("t.toml", readers)
}

/// A tenant's file: these lines from line 2 on.
fn tenant(lines: &str) -> String {
    format!("base = \"base\"\n{lines}\n")
}

fn narrowed(lines: &str) -> CompiledPolicy {
    match compiled(&tenant(lines)) {
        Ok(compiled) => compiled,
        Err(error) => panic!("{error}"),
    }
}

/// One section with one line, which stands on line 3.
fn section(section: &str, line: &str) -> String {
    format!("{section}\n{line}\nwhy = \"w\"")
}

#[track_caller]
fn widens(lines: &str, line: usize, asked: &str, allowed: &str) {
    let message = compiled(&tenant(lines)).unwrap_err().to_string();
    assert!(
        message.starts_with(&format!("t.toml:{line}: widening: ")),
        "{message}"
    );
    let (said, base) = message.split_once(", but base \"base\" allows ").unwrap();
    assert!(said.contains(asked), "{message}");
    assert!(base.contains(allowed), "{message}");
}

#[test]
fn nothing_said_is_the_base() {
    let base = compiled(BASE).unwrap();
    let same = narrowed("");
    assert_eq!(same.policy.digest, base.policy.digest);
    assert_eq!(same.policy.name, "t");
    assert_eq!(same.bases, ["base"]);
}

#[test]
fn a_chain_of_bases() {
    let two = compiled("base = \"middle.toml\"\n[rlimits]\nnofile = 49\nwhy = \"w\"\n").unwrap();
    assert_eq!(two.bases, ["middle", "base"]);
    let error = compiled("base = \"middle.toml\"\n[rlimits]\nnofile = 51\nwhy = \"w\"\n");
    let message = error.unwrap_err().to_string();
    assert!(
        message.contains("nofile 51, but base \"middle\" allows 50"),
        "{message}"
    );
}

#[test]
fn namespaces_network_and_files() {
    let more = narrowed(&section(
        "[namespaces]",
        "own = [\"mount\", \"pid\", \"net\"]",
    ));
    assert_eq!(more.policy.namespaces.len(), 3);
    widens(
        &section("[namespaces]", "own = [\"mount\"]"),
        3,
        "mount",
        "mount, pid",
    );
    widens(
        &section("[namespaces]", "own = []"),
        3,
        "none",
        "mount, pid",
    );

    let none = narrowed(&section("[network]", "mode = \"none\""));
    assert_eq!(none.policy.network, Network::None);
    narrowed(&section("[network]", "mode = \"host\""));
    widens(
        &section("[network]", "join = \"/run/netns/a\""),
        3,
        "join /run/netns/a",
        "host",
    );

    assert!(
        !narrowed(&section("[filesystem]", "dev = false"))
            .policy
            .filesystem
            .dev
    );
    narrowed(&section("[filesystem]", "proc = \"none\""));
}

#[test]
fn what_the_strictest_base_has_not_cannot_be_had() {
    let strict =
        "[[rule]]\nsyscall = \"exit\"\nwhy = \"w\"\n[cgroup]\nmemory = 1\npids = 1\nwhy = \"w\"\n";
    let text = std::cell::RefCell::new(String::new());
    let folder = |name: &str| match name {
        "t.toml" => Ok(text.borrow().clone()),
        "strict.toml" => Ok(strict.to_owned()),
        _ => Err(io::Error::from_raw_os_error(2)),
    };
    for (head, line, allowed) in [
        ("[network]", "mode = \"host\"", "none"),
        ("[filesystem]", "proc = \"pids\"", "none"),
        ("[filesystem]", "dev = true", "false"),
        ("[capabilities]", "keep = [\"CAP_KILL\"]", "none"),
        ("[landlock]", "connect-tcp = \"any\"", "none"),
        ("[landlock]", "connect-tcp = [1]", "none"),
        ("[landlock]", "bind-tcp = [1]", "none"),
        ("[landlock]", "ioctl-dev = true", "false"),
        ("[landlock]", "scope-signal = false", "true"),
        ("[landlock]", "scope-abstract-socket = false", "true"),
        ("[rlimits]", "memlock = 1", "0"),
        ("[rlimits]", "core = 2", "1"),
        ("[cgroup]", "swap = 1", "0"),
        ("[cgroup]", "swap = \"unlimited\"", "0"),
        ("[cgroup]", "pids = \"unlimited\"", "1"),
        ("[cgroup]", "cpu-weight = 101", "100"),
        ("[environment]", "keep = [\"A\"]", "none"),
        ("[environment]", "set = { A = \"b\" }", "none"),
        ("[fds]", "keep = [3]", "none"),
        ("[devices]", "guest = [\"block\"]", "none"),
    ] {
        *text.borrow_mut() = format!("base = \"strict.toml\"\n{}\n", section(head, line));
        let readers = Readers {
            folder: &folder,
            shipped: &folder,
        };
        let message = compile_policy("t.toml", readers).unwrap_err().to_string();
        assert!(message.starts_with("t.toml:3: widening"), "{message}");
        assert!(message.contains(&format!("allows {allowed};")), "{message}");
    }
}

#[test]
fn mounts() {
    let mount = |lines: &str| format!("[[mount]]\n{lines}\nwhy = \"w\"\n");
    let kept = narrowed(&mount("rw = \"/srv\""));
    assert_eq!(kept.policy.filesystem.mounts.len(), 1);
    // Narrower kinds and sizes, in the base's order.
    let lines = mount("tmpfs = \"/tmp\"\nsize = \"1M\"") + &mount("ro = \"/opt\"\noptional = true");
    let kept = narrowed(&lines).policy.filesystem.mounts;
    assert_eq!((kept[0].kind, &*kept[0].jail), (MountKind::Ro, "/opt"));
    assert_eq!(kept[1].kind, MountKind::Tmpfs { bytes: 1 << 20 });
    narrowed(&mount("rw = \"/opt\""));

    widens(&mount("rw-exec = \"/srv\""), 2, "rw-exec /srv", "rw /srv");
    // A read-only mount can be executed from; this one cannot.
    widens(&mount("ro = \"/srv\""), 2, "ro /srv", "rw /srv");
    widens(&mount("rw = \"/usr\""), 2, "rw /usr", "ro /usr");
    widens(&mount("ro = \"/etc\""), 2, "ro /etc", "no mount there");
    widens(
        &mount("ro = \"/etc\"\nat = \"/usr\""),
        2,
        "ro /etc at /usr",
        "ro /usr at /usr",
    );
    // A path beneath may be a link to anywhere.
    widens(&mount("ro = \"/usr/bin\""), 2, "/usr/bin", "no mount there");
    widens(
        &mount("tmpfs = \"/tmp\"\nsize = \"65M\""),
        2,
        "68157440",
        "67108864",
    );
    // What one mount hides of another stays hidden.
    widens(
        &mount("ro = \"/usr\""),
        2,
        "/usr without /usr/hidden",
        "/usr under tmpfs /usr/hidden",
    );
    narrowed(&(mount("ro = \"/usr\"") + &mount("tmpfs = \"/usr/hidden\"\nsize = \"1M\"")));
}

#[test]
fn privileges() {
    let kept = narrowed(&section("[capabilities]", "keep = [\"CAP_KILL\"]"));
    assert_eq!(kept.policy.capabilities, Capabilities(1 << 5));
    widens(
        &section("[capabilities]", "keep = [\"CAP_KILL\", \"CAP_SYS_ADMIN\"]"),
        3,
        "CAP_SYS_ADMIN",
        "CAP_CHOWN, CAP_KILL",
    );

    let landlock = |line: &str| section("[landlock]", line);
    narrowed(&landlock("min-abi = 5"));
    widens(&landlock("min-abi = 3"), 3, "3", "4");
    assert_eq!(
        *narrowed(&landlock("bind-tcp = [80]"))
            .policy
            .landlock
            .bind_tcp,
        [80]
    );
    widens(&landlock("bind-tcp = [80, 8080]"), 3, "80, 8080", "80, 443");
    assert!(
        narrowed(&landlock("connect-tcp = []"))
            .policy
            .landlock
            .connect_tcp
            .is_empty()
    );
    widens(&landlock("connect-tcp = [53, 80]"), 3, "53, 80", "53");
    widens(&landlock("connect-tcp = \"any\""), 3, "any", "53");
    assert!(
        !narrowed(&landlock("ioctl-dev = false"))
            .policy
            .landlock
            .ioctl_dev
    );
    narrowed(&landlock("scope-abstract-socket = true"));
    widens(&landlock("scope-signal = false"), 3, "false", "true");

    assert_eq!(
        narrowed(&section("[devices]", "guest = [\"vsock\"]"))
            .policy
            .devices
            .len(),
        1
    );
    widens(
        &section("[devices]", "guest = [\"serial\"]"),
        3,
        "serial",
        "block, vsock",
    );
}

#[test]
fn limits() {
    let rlimit = |line: &str| section("[rlimits]", line);
    let has = |lines: &str, value| {
        let policy = narrowed(lines).policy;
        assert!(policy.rlimits.iter().any(|limit| limit.value == value));
    };
    has(&rlimit("nofile = 99"), 99);
    has(&rlimit("stack = 123456"), 123_456);
    widens(&rlimit("nofile = 101"), 3, "nofile 101", "100");

    let cgroup = |line: &str| section("[cgroup]", line);
    assert_eq!(
        narrowed(&cgroup("memory = \"32M\""))
            .policy
            .cgroup
            .memory_bytes,
        Some(32 << 20)
    );
    widens(&cgroup("memory = \"65M\""), 3, "68157440", "67108864");
    widens(
        &cgroup("memory = \"unlimited\""),
        3,
        "unlimited",
        "67108864",
    );
    narrowed(&cgroup("swap = 0"));
    widens(&cgroup("swap = \"2M\""), 3, "2097152", "1048576");
    narrowed(&cgroup("cpu-millis = 10"));
    widens(&cgroup("cpu-millis = 1001"), 3, "1001", "1000");
    narrowed(&cgroup("cpu-weight = 99"));
    widens(&cgroup("cpu-weight = 101"), 3, "101", "100");
    widens(
        &cgroup("cpu-weight = \"unlimited\"").replace("\"unlimited\"", "200"),
        3,
        "200",
        "100",
    );
    narrowed(&cgroup("pids = 9"));
    widens(&cgroup("pids = 11"), 3, "11", "10");

    let io = |line: &str| format!("[cgroup]\nwhy = \"w\"\n[[cgroup.io]]\n{line}\nwhy = \"w\"");
    let limited = narrowed(&io("device = \"8:0\"\nwrite = \"1M\""))
        .policy
        .cgroup
        .io;
    assert_eq!(
        (limited[0].read_bps, limited[0].write_bps),
        (Some(10 << 20), Some(1 << 20))
    );
    assert_eq!(
        narrowed(&io("device = \"8:16\"\nread = 1"))
            .policy
            .cgroup
            .io
            .len(),
        2
    );
    widens(
        &io("device = \"8:0\"\nread = \"11M\""),
        4,
        "11534336",
        "10485760",
    );

    narrowed(&section("[wall-clock]", "limit = \"59s\""));
    widens(
        &section("[wall-clock]", "limit = \"61s\""),
        3,
        "61000",
        "60000",
    );
    widens(
        &section("[wall-clock]", "limit = \"unlimited\""),
        3,
        "unlimited",
        "60000",
    );
}

#[test]
fn what_is_inherited() {
    let environment = |line: &str| section("[environment]", line);
    assert_eq!(
        narrowed(&environment("keep = [\"TZ\"]"))
            .policy
            .environment
            .keep
            .len(),
        1
    );
    widens(&environment("keep = [\"SECRET\"]"), 3, "SECRET", "LANG, TZ");
    assert!(
        narrowed(&environment("set = {}"))
            .policy
            .environment
            .set
            .is_empty()
    );
    widens(&environment("set = { A = \"c\" }"), 3, "A=c", "A=b, C=d");
    assert_eq!(
        *narrowed(&section("[fds]", "keep = [4]")).policy.keep_fds,
        [4]
    );
    widens(&section("[fds]", "keep = [4, 5]"), 3, "4, 5", "3, 4");
}

fn program(compiled: &CompiledPolicy) -> Vec<sock_filter> {
    let filter = compiled.policy.seccomp.as_ref().unwrap();
    filter
        .program
        .iter()
        .map(|i| sock_filter {
            code: i.code,
            jt: i.jt,
            jf: i.jf,
            k: i.k,
        })
        .collect()
}

fn ask(compiled: &CompiledPolicy, number: i64, args: [u64; 3]) -> Verdict {
    let call = Call {
        number: number as u32,
        arch: AUDIT_ARCH_X86_64,
        args: [args[0], args[1], args[2], 0, 0, 0],
    };
    decide(&program(compiled), &call)
}

#[test]
fn rules_under_a_base() {
    let rule = |lines: &str| format!("[[rule]]\n{lines}\nwhy = \"w\"\n");
    let cmd = rule("syscall = \"ioctl\"\nargs = { cmd = \"TCGETS\" }");
    let less = narrowed(&cmd);
    assert_eq!(
        ask(&less, libc::SYS_ioctl, [0, libc::TCGETS, 0]),
        Verdict::Allow
    );
    assert_eq!(
        ask(&less, libc::SYS_ioctl, [0, libc::FIONREAD, 0]),
        Verdict::KillProcess
    );
    // Other syscalls stay as they are.
    assert_eq!(ask(&less, libc::SYS_read, [0; 3]), Verdict::Allow);
    let prot = rule("syscall = \"mprotect\"\nargs = { prot = \"PROT_READ\" }");
    assert_eq!(
        ask(&narrowed(&prot), libc::SYS_mprotect, [0, 0, 1]),
        Verdict::Allow
    );
    assert_eq!(
        ask(&narrowed(&prot), libc::SYS_mprotect, [0, 0, 3]),
        Verdict::KillProcess
    );

    widens(
        &rule("syscall = \"ioctl\"\nargs = { cmd = \"TCSETS\" }"),
        2,
        "ioctl(cmd = TCSETS)",
        "ioctl(cmd = TCGETS) (base.toml:",
    );
    widens(
        &rule("syscall = \"ioctl\""),
        2,
        "rule ioctl",
        "ioctl(cmd = TCGETS)",
    );
    widens(&rule("syscall = \"execve\""), 2, "execve", "no execve");
    widens(&rule("syscall = \"clone3\""), 2, "clone3", "no clone3");
    let message = compiled(&tenant(&rule("syscall = \"read\"\nerrno = \"EPERM\"")));
    assert!(message.unwrap_err().to_string().contains("[[deny]]"));
}

#[test]
fn denials() {
    let deny = |lines: &str| format!("[[deny]]\n{lines}\nwhy = \"w\"\n");
    let gone = narrowed(&deny("syscall = \"write\""));
    assert_eq!(ask(&gone, libc::SYS_write, [0; 3]), Verdict::KillProcess);
    let part = narrowed(&deny(
        "syscall = \"socket\"\nargs = { domain = \"AF_INET\" }",
    ));
    assert_eq!(ask(&part, libc::SYS_socket, [1, 1, 0]), Verdict::Allow);
    assert_eq!(
        ask(&part, libc::SYS_socket, [2, 1, 0]),
        Verdict::KillProcess
    );
    let errno = narrowed(&deny("syscall = \"socket\"\nerrno = \"EAFNOSUPPORT\""));
    let refused = Verdict::Errno(libc::EAFNOSUPPORT as u16);
    assert_eq!(ask(&errno, libc::SYS_socket, [1, 1, 0]), refused);
    assert_eq!(ask(&errno, libc::SYS_socket, [2, 1, 0]), refused);
    // What the base kills is still killed, not answered.
    assert_eq!(
        ask(&errno, libc::SYS_socket, [3, 1, 0]),
        Verdict::KillProcess
    );

    for lines in [
        "syscall = \"execve\"",
        "syscall = \"clone3\"",
        "syscall = \"ioctl\"\nargs = { cmd = \"TIOCSTI\" }",
    ] {
        let message = compiled(&tenant(&deny(lines))).unwrap_err().to_string();
        assert!(
            message.starts_with("t.toml:2: nothing to deny"),
            "{message}"
        );
    }
    let message = compiled(&tenant("[[deny]]\nsyscall = \"read\"")).unwrap_err();
    assert!(
        message.to_string().starts_with("t.toml:2: a rule without"),
        "{message}"
    );
}

/// A condition on an argument of `socket`, `ioctl` or `mprotect`.
fn condition() -> impl Strategy<Value = String> {
    let bits = prop::sample::select(vec!["only", "none-of", "all-of"]);
    let domain = prop::sample::select(vec!["AF_UNIX", "AF_INET", "AF_INET6"]);
    let socket = prop::sample::select(vec!["SOCK_STREAM", "SOCK_RAW", "SOCK_CLOEXEC"]);
    let prot = prop::sample::select(vec!["PROT_READ", "PROT_WRITE", "PROT_READ|PROT_EXEC", "0"]);
    let cmd = prop::sample::select(vec!["TCGETS", "FIONREAD", "TCSETS"]);
    prop_oneof![
        domain.prop_map(|domain| format!("syscall = \"socket\"\nargs = {{ domain = \"{domain}\" }}")),
        (bits.clone(), socket).prop_map(|(bits, kind)| {
            format!("syscall = \"socket\"\nargs = {{ domain = \"AF_UNIX\", type = {{ {bits} = \"{kind}\" }} }}")
        }),
        (bits, prot).prop_map(|(bits, prot)| {
            format!("syscall = \"mprotect\"\nargs = {{ prot = {{ {bits} = \"{prot}\" }} }}")
        }),
        cmd.prop_map(|cmd| format!("syscall = \"ioctl\"\nargs = {{ cmd = \"{cmd}\" }}")),
        Just("syscall = \"read\"".to_owned()),
        Just("syscall = [\"write\", \"socket\"]".to_owned()),
    ]
}

fn tenants() -> impl Strategy<Value = String> {
    let rule = condition().prop_map(|lines| format!("[[rule]]\n{lines}\nwhy = \"w\"\n"));
    let errno = prop::sample::select(vec!["", "errno = \"EACCES\"\n"]);
    let deny = (condition(), errno)
        .prop_map(|(lines, errno)| format!("[[deny]]\n{lines}\n{errno}why = \"w\"\n"));
    prop::collection::vec(prop_oneof![rule, deny], 1..4).prop_map(|parts| tenant(&parts.concat()))
}

fn calls() -> impl Strategy<Value = Call> {
    let number = prop::sample::select(vec![
        libc::SYS_socket,
        libc::SYS_mprotect,
        libc::SYS_ioctl,
        libc::SYS_read,
        libc::SYS_write,
        libc::SYS_clone3,
        libc::SYS_execve,
    ]);
    let value = prop_oneof![
        0..16u64,
        prop::sample::select(vec![
            libc::TCGETS,
            libc::FIONREAD,
            libc::TCSETS,
            0x80001,
            1 << 32
        ]),
        any::<u64>(),
    ];
    (number, prop::array::uniform6(value)).prop_map(|(number, args)| Call {
        number: number as u32,
        arch: AUDIT_ARCH_X86_64,
        args,
    })
}

#[test]
fn a_narrowed_filter_never_allows_what_its_base_denies() {
    let base = program(&compiled(BASE).unwrap());
    let taken = std::cell::Cell::new(0);
    let strategy = (tenants(), prop::collection::vec(calls(), 64));
    proptest!(ProptestConfig::with_cases(2000), |((text, calls) in strategy)| {
        let Ok(narrowed) = compiled(&text) else { return Ok(()) };
        taken.set(taken.get() + 1);
        let narrowed = program(&narrowed);
        for call in calls {
            let before = decide(&base, &call);
            let after = decide(&narrowed, &call);
            match (before, after) {
                (Verdict::Allow, _) | (_, Verdict::KillProcess) => {}
                (before, after) => prop_assert_eq!(before, after, "{:?} under\n{}", call, text),
            }
        }
    });
    assert!(
        taken.get() > 200,
        "only {} policies were taken",
        taken.get()
    );
}
