//! Every kind of bad policy is refused, with its file and line.

use casemate_policy_compiler::compile;
use std::io;

const GOOD: &str = "[[rule]]\nsyscall = \"exit\"\nwhy = \"ends\"\n";

/// Compiles `text` as `a.toml`, beside `common.toml`; the error's text.
fn refused(text: &str) -> String {
    let read = |name: &str| match name {
        "a.toml" => Ok(text.to_owned()),
        "common.toml" => Ok(GOOD.to_owned()),
        "broken.toml" => Ok(format!("{GOOD}\n[[rule]]\nsyscall = \"exit_group\"\n")),
        "errno.toml" => Ok(GOOD.replace("why", "errno = \"EPERM\"\nwhy")),
        _ => Err(io::Error::from_raw_os_error(2)),
    };
    compile("a.toml", &read).unwrap_err().to_string()
}

/// Asserts that `text` is refused at `place` with a message that holds `words`.
#[track_caller]
fn refused_at(text: &str, place: &str, words: &str) {
    let message = refused(text);
    assert!(message.starts_with(&format!("{place}: ")), "{message}");
    assert!(message.contains(words), "{message}");
    assert!(!message.contains('\n'), "one line: {message}");
}

/// A policy whose second rule, from line 5, has these lines.
fn rule(lines: &str) -> String {
    format!("{GOOD}\n[[rule]]\n{lines}\nwhy = \"needed\"\n")
}

#[test]
fn no_file() {
    let read = |_: &str| Err(io::Error::from_raw_os_error(2));
    let message = compile("a.toml", &read).unwrap_err().to_string();
    assert!(message.starts_with("a.toml:1: cannot read"), "{message}");
}

#[test]
fn not_toml() {
    refused_at("[[rule]]\nsyscall = exit\n", "a.toml:2", "");
}

#[test]
fn unknown_keys() {
    refused_at(&format!("{GOOD}\nallow = true\n"), "a.toml:5", "`allow`");
    refused_at(
        &format!("default = \"allow\"\n{GOOD}"),
        "a.toml:1",
        "`default`",
    );
    refused_at(
        &rule("syscall = \"ioctl\"\nargs = { cmd = { not = \"KVM_RUN\" } }"),
        "a.toml:7",
        "`not`",
    );
}

#[test]
fn wrong_types() {
    refused_at(&rule("syscall = 16"), "a.toml:6", "integer");
    refused_at(
        &rule("syscall = \"ioctl\"\nargs = { cmd = 44672 }"),
        "a.toml:7",
        "integer",
    );
}

#[test]
fn no_rules() {
    refused_at("# nothing\n", "a.toml:1", "no [[rule]]");
    refused_at("include = [\"common.toml\"]\n", "a.toml:1", "no [[rule]]");
}

#[test]
fn no_why() {
    refused_at(
        &format!("{GOOD}\n[[rule]]\nsyscall = \"read\"\n"),
        "a.toml:5",
        "`why`",
    );
    refused_at(
        &format!("{GOOD}\n[[rule]]\nsyscall = \"read\"\nwhy = \" \\t\"\n"),
        "a.toml:7",
        "`why`",
    );
}

#[test]
fn unknown_names() {
    refused_at(&rule("syscall = \"raed\""), "a.toml:6", "syscall \"raed\"");
    refused_at(
        &rule("syscall = [\"read\", \"SYS_write\"]"),
        "a.toml:6",
        "\"SYS_write\"",
    );
    refused_at(
        &rule("syscall = \"ioctl\"\nargs = { cmd = \"KVM_RUM\" }"),
        "a.toml:7",
        "constant \"KVM_RUM\"",
    );
    refused_at(
        &rule("syscall = \"ioctl\"\nargs = { cmd = \"0xae80\" }"),
        "a.toml:7",
        "constant \"0xae80\"",
    );
    refused_at(
        &rule("syscall = \"ioctl\"\nargs = { request = \"KVM_RUN\" }"),
        "a.toml:7",
        "it has: fd, cmd, arg",
    );
    refused_at(
        &rule("syscall = \"ioctl\"\nfd = \"vcpus\""),
        "a.toml:7",
        "role \"vcpus\"",
    );
    refused_at(
        &rule("syscall = \"openat\"\nerrno = \"ENOTHING\""),
        "a.toml:7",
        "errno \"ENOTHING\"",
    );
}

#[test]
fn conditions_that_cannot_be() {
    refused_at(
        &rule("syscall = \"getpid\"\nfd = \"vm\""),
        "a.toml:7",
        "it has: none",
    );
    refused_at(
        &rule("syscall = \"futex\"\nargs = { uaddr = \"0\" }"),
        "a.toml:7",
        "\"uaddr\"",
    );
    refused_at(
        &rule("syscall = \"ioctl\"\nargs = { fd = \"vm\" }"),
        "a.toml:7",
        "key: write `fd",
    );
    refused_at(
        &rule("syscall = \"dup3\"\nargs = { newfd = { only = \"O_CLOEXEC\" } }"),
        "a.toml:7",
        "role, not a mask",
    );
    refused_at(&rule("syscall = []"), "a.toml:6", "empty list of syscalls");
    refused_at(
        &rule("syscall = \"ioctl\"\nargs = { cmd = [] }"),
        "a.toml:7",
        "empty list of constants",
    );
    refused_at(
        &rule("syscall = \"ioctl\"\nfd = []"),
        "a.toml:7",
        "empty list of roles",
    );
}

#[test]
fn duplicate_rules() {
    refused_at(&rule("syscall = \"exit\""), "a.toml:5", "a.toml:1 already");
    refused_at(
        &rule("syscall = [\"read\", \"read\"]"),
        "a.toml:5",
        "duplicate",
    );
    // Narrower than an earlier one, and wider.
    let narrow = "[[rule]]\nsyscall = \"read\"\nfd = \"vm\"\nwhy = \"w\"\n";
    let wide = "[[rule]]\nsyscall = \"read\"\nwhy = \"w\"\n";
    refused_at(&format!("{wide}{narrow}"), "a.toml:4", "a.toml:1 already");
    refused_at(&format!("{narrow}{wide}"), "a.toml:5", "a.toml:1 already");
    // What an include has.
    refused_at(
        &format!("include = [\"common.toml\"]\n{GOOD}"),
        "a.toml:2",
        "common.toml:1 already",
    );
}

#[test]
fn contradictory_rules() {
    refused_at(
        &rule("syscall = \"exit\"\nerrno = \"EPERM\""),
        "a.toml:5",
        "contradictory",
    );
    refused_at(
        &format!("include = [\"errno.toml\"]\n{GOOD}"),
        "a.toml:2",
        "errno.toml:1 gives",
    );
    refused_at(
        &format!(
            "include = [\"errno.toml\", \"common.toml\"]\n{}",
            rule("syscall = \"read\"").replace(GOOD, "")
        ),
        "common.toml:1",
        "errno.toml:1 gives",
    );
}

#[test]
fn includes() {
    refused_at(
        &format!("\ninclude = [\"../common.toml\"]\n{GOOD}"),
        "a.toml:2",
        "plain file name",
    );
    refused_at(
        &format!("include = [\"missing.toml\"]\n{GOOD}"),
        "a.toml:1",
        "cannot read",
    );
    refused_at(
        &format!(
            "include = [\"broken.toml\"]\n{}",
            rule("syscall = \"read\"")
        ),
        "broken.toml:5",
        "`why`",
    );
}

#[test]
fn own_roles() {
    refused_at(
        &format!("own = [\"vm\"]\n{GOOD}"),
        "a.toml:1",
        "one fixed fd",
    );
    refused_at(
        &format!("own = [\"vcpu\"]\n{GOOD}"),
        "a.toml:1",
        "no rule is bound",
    );
    refused_at(
        &format!("own = [\"cpu\"]\n{GOOD}"),
        "a.toml:1",
        "role \"cpu\"",
    );
}

#[test]
fn too_many_instructions() {
    let roles = "[\"null\", \"console\", \"log\", \"control\", \"kvm\", \"kernel\", \"initrd\", \"vm\", \"disk\"]";
    let flags = [
        "MSG_DONTWAIT",
        "MSG_NOSIGNAL",
        "MSG_PEEK",
        "MSG_TRUNC",
        "MSG_WAITALL",
        "MSG_CMSG_CLOEXEC",
    ];
    let sums: Vec<_> = (1u32..64)
        .map(|bits| {
            let set = (0..6).filter(|bit| bits & (1 << bit) != 0);
            format!(
                "\"{}\"",
                set.map(|bit| flags[bit]).collect::<Vec<_>>().join("|")
            )
        })
        .collect();
    let text = format!(
        "[[rule]]\nsyscall = [\"recvfrom\", \"sendto\"]\nfd = {roles}\nargs = {{ flags = [{}] }}\nwhy = \"many\"\n",
        sums.join(", ")
    );
    refused_at(
        &text,
        "a.toml:1",
        "BPF instructions, the kernel takes at most 4096",
    );
}
