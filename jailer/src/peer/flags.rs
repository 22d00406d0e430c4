//! Every flag: what is parsed, and what the help says of it.

use super::{Addition, HELP_AFTER, HELP_BEFORE};

/// One flag.
#[derive(Debug, Clone)]
pub struct Flag {
    /// Without the dashes.
    pub name: &'static str,
    /// What its value is called; `None` for a switch.
    pub value: Option<&'static str>,
    /// Whether it may be repeated.
    pub many: bool,
    /// What it does.
    pub help: &'static str,
}

const fn one(name: &'static str, value: &'static str, help: &'static str) -> Flag {
    Flag {
        name,
        value: Some(value),
        many: false,
        help,
    }
}

const fn many(name: &'static str, value: &'static str, help: &'static str) -> Flag {
    Flag {
        many: true,
        ..one(name, value, help)
    }
}

const fn switch(name: &'static str, help: &'static str) -> Flag {
    Flag {
        name,
        value: None,
        many: false,
        help,
    }
}

/// Every flag, in the order of the help.
pub const FLAGS: &[Flag] = &[
    one(
        "id",
        "ID",
        "Name of the jail: 1 to 64 of a-z, A-Z, 0-9 and '-'.",
    ),
    one(
        "exec-file",
        "FILE",
        "The program to execute in the jail, statically linked.",
    ),
    one("uid", "UID", "User that the program runs as."),
    one("gid", "GID", "Group that the program runs as."),
    one(
        "chroot-base-dir",
        "DIR",
        "Folder of the jails [/srv/jailer].",
    ),
    one("netns", "PATH", "Network namespace to join."),
    many(
        "cgroup",
        "FILE=VALUE",
        "A cgroup file and what to write to it; may be repeated.",
    ),
    one(
        "parent-cgroup",
        "PATH",
        "cgroup above the jail's, below the hierarchy's root [name of the exec file].",
    ),
    one(
        "cgroup-version",
        "1|2",
        "Use this version only [each controller where it is].",
    ),
    many(
        "resource-limit",
        "NAME=VALUE",
        "fsize (bytes of a file) or no-file (open files [2048]); may be repeated.",
    ),
    switch(
        "daemonize",
        "Leave the terminal; standard input, output and error are /dev/null.",
    ),
    switch(
        "new-pid-ns",
        "Execute in a pid namespace of its own; the pid is in ROOT/NAME.pid.",
    ),
    many(
        "without",
        "LAYER",
        "Leave off a layer that Firecracker's jailer lacks; see below.",
    ),
    switch(
        "allow-uid-0",
        "Take --uid 0, the host's root, which is refused otherwise.",
    ),
    one(
        "run-dir",
        "DIR",
        "Folder of locks and journals [/run/casemate].",
    ),
    switch("version", "Print the version."),
    switch("help", "Print this."),
];

/// The text of `--help`.
pub fn help() -> String {
    let mut text = HELP_BEFORE.to_owned();
    for flag in FLAGS {
        let head = match flag.value {
            Some(value) => format!("--{} {value}", flag.name),
            None => format!("--{}", flag.name),
        };
        text.push_str(&format!("  {head:<28} {}\n", flag.help));
    }
    text.push_str("\nLayers that --without can leave off:\n");
    for addition in Addition::ALL {
        text.push_str(&format!("  {:<28} {}\n", addition.name(), addition.what()));
    }
    text.push_str(HELP_AFTER);
    text
}
