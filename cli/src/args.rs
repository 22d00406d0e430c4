//! The arguments, as they are typed. What they mean is checked in
//! [`crate::run::validate`], whose errors name object and remedy on one line.

use clap::{Args, Parser, Subcommand, ValueHint};
use clap_complete::Shell;
use std::ffi::OsString;
use std::path::PathBuf;

/// Runs one program nobody trusts in one microVM behind one locked-up process.
#[derive(Debug, Parser)]
#[command(
    name = "casemate",
    version,
    disable_help_subcommand = true,
    after_help = "Exit status of `casemate run`: the program's own; 128+n when signal n ended it; \
                  121 guest panic, 122 guest out of memory, 123 VMM death, 124 timeout, \
                  125 our own failure, 126 not executable, 127 not found."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a program in a microVM and bring back its output and exit status
    Run(Box<RunArgs>),
    /// Run a program in a jail, without a VM
    Jail(Box<crate::jail::args::JailArgs>),
    /// Check, explain, compare, compile and propose policies
    Policy(crate::policy::args::PolicyArgs),
    /// Print what a running cell is held to, declared beside observed
    Inspect(crate::inspect::InspectArgs),
    /// Verify the audit log, or show what it says
    Audit(crate::audit::args::AuditArgs),
    /// Say what this host can and cannot do, with consequence and remedy
    Doctor(DoctorArgs),
    /// Manage the kernels that guests boot
    Kernel(KernelArgs),
    /// Remove what killed processes left behind
    Reap(ReapArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page, in roff
    Man,
}

/// `casemate run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The guest's root: an ext4, erofs or squashfs image, or a directory
    /// [default: a built-in busybox userland]
    #[arg(long, value_name = "IMAGE|DIR", value_hint = ValueHint::AnyPath)]
    pub rootfs: Option<PathBuf>,

    /// An ELF vmlinux, a bzImage, or the name of an imported kernel
    /// [default: the default kernel, at first a stock Debian kernel]
    #[arg(long, value_name = "K", value_hint = ValueHint::FilePath)]
    pub kernel: Option<OsString>,

    /// Number of vCPUs, 1 to 32
    #[arg(
        long,
        value_name = "N",
        default_value = "1",
        allow_hyphen_values = true
    )]
    pub cpus: String,

    /// Guest memory: a number with K, M, G or T (of 1024)
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "256M",
        allow_hyphen_values = true
    )]
    pub memory: String,

    /// Whose cell it is
    #[arg(
        long,
        value_name = "T",
        default_value = "default",
        allow_hyphen_values = true
    )]
    pub tenant: OsString,

    /// The cell's name, unique within the tenant [default: random]
    #[arg(long, allow_hyphen_values = true)]
    pub id: Option<OsString>,

    /// End the cell after this time: 500ms, 2s, 1m or 1h
    #[arg(long, value_name = "D", allow_hyphen_values = true)]
    pub timeout: Option<String>,

    /// Set a variable of the program's environment; may be repeated
    #[arg(long, value_name = "K=V")]
    pub env: Vec<OsString>,

    /// The program's working directory
    #[arg(long, value_name = "D", default_value = "/")]
    pub workdir: OsString,

    /// Give the program a terminal
    #[arg(short = 't', long)]
    pub tty: bool,

    /// Write a JSON report
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub report: Option<PathBuf>,

    /// Write what the guest's kernel prints to FILE, 16 MiB at most
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub console: Option<PathBuf>,

    /// Start even where the host cannot give this layer; may be repeated
    #[arg(long, value_name = "LAYER", value_parser = layer_names())]
    pub allow_missing: Vec<String>,

    /// Say more on standard error
    #[arg(long)]
    pub verbose: bool,

    /// Where kernels and images are kept.
    #[command(flatten)]
    pub state: StateArgs,

    /// Folder of the state of running cells
    #[arg(long, value_name = "D", default_value = "/run/casemate", value_hint = ValueHint::DirPath)]
    pub run_dir: PathBuf,

    /// Where it is recorded.
    #[command(flatten)]
    pub audit: crate::audit::args::AuditChoice,

    /// Words to add to the guest kernel's command line, to debug a kernel
    #[arg(long, value_name = "TEXT", hide = true, allow_hyphen_values = true)]
    pub cmdline_append: Option<String>,

    /// Leave a layer out on purpose (tests of the read-back only)
    #[arg(long, value_name = "LAYER", hide = true, value_parser = layer_names())]
    pub leave_out: Vec<String>,

    /// The program and its arguments
    #[arg(last = true, value_name = "CMD", value_hint = ValueHint::CommandWithArguments)]
    pub command: Vec<OsString>,
}

/// Where kernels and images are kept.
#[derive(Debug, Args)]
pub struct StateArgs {
    /// Folder of kernels and cached images
    #[arg(long, value_name = "D", default_value = "/var/lib/casemate", value_hint = ValueHint::DirPath)]
    pub state_dir: PathBuf,
}

/// `casemate doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Where the state of running cells is, for commands that ordinary users may give, too.
#[derive(Debug, Args)]
pub struct RunDirArgs {
    /// Folder of the state of running cells [default: /run/casemate; of users other than root
    /// $XDG_RUNTIME_DIR/casemate]
    #[arg(long, value_name = "D", value_hint = ValueHint::DirPath)]
    pub run_dir: Option<PathBuf>,
}

impl RunDirArgs {
    /// The folder, absolute.
    ///
    /// # Errors
    /// In one line, where none was given and there is none that will do.
    pub fn folder(&self) -> Result<PathBuf, String> {
        match &self.run_dir {
            Some(folder) => Ok(std::path::absolute(folder).unwrap_or_else(|_| folder.clone())),
            None => casemate_jailer::rights::run_dir().map_err(|refusal| refusal.message),
        }
    }
}

/// `casemate reap`.
#[derive(Debug, Args)]
pub struct ReapArgs {
    /// Where.
    #[command(flatten)]
    pub run_dir: RunDirArgs,
}

/// `casemate kernel`.
#[derive(Debug, Args)]
pub struct KernelArgs {
    /// What to do
    #[command(subcommand)]
    pub command: KernelCommand,
}

/// The commands of `casemate kernel`.
#[derive(Debug, Subcommand)]
pub enum KernelCommand {
    /// Make what `run` needs of a kernel package, or of /boot and /lib/modules
    Import(ImportArgs),
    /// List the imported kernels
    List {
        /// Where kernels are kept.
        #[command(flatten)]
        state: StateArgs,
    },
    /// Remove an imported kernel
    Remove {
        /// Its name
        name: OsString,
        /// Where kernels are kept.
        #[command(flatten)]
        state: StateArgs,
    },
}

/// `casemate kernel import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// A Debian kernel package (linux-image-*.deb)
    #[arg(value_name = "PKG.deb", value_hint = ValueHint::FilePath, required_unless_present = "boot", conflicts_with_all = ["boot", "modules"])]
    pub package: Option<PathBuf>,
    /// A vmlinuz, or a folder with exactly one
    #[arg(long, value_name = "DIR", value_hint = ValueHint::AnyPath, requires = "modules")]
    pub boot: Option<PathBuf>,
    /// The folder of that kernel's modules, as in /lib/modules/VERSION
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, requires = "boot")]
    pub modules: Option<PathBuf>,
    /// Name to keep it under [default: the kernel's version]
    #[arg(long)]
    pub name: Option<OsString>,
    /// Make it the default of `run`
    #[arg(long)]
    pub default: bool,
    /// Where kernels and images are kept.
    #[command(flatten)]
    pub state: StateArgs,
}

pub(crate) fn layer_names() -> clap::builder::PossibleValuesParser {
    casemate_proto::cell::Layer::ALL
        .map(|layer| layer.name())
        .into()
}

/// A refusal of the command line as one line.
pub fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let mut words = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if line.starts_with("Usage:") || line.starts_with("For more information") {
            break;
        }
        words.push(line.strip_prefix("error: ").unwrap_or(line));
    }
    format!("{}; see `casemate --help`", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_command_keeps_its_dashes() {
        let cli = Cli::try_parse_from(["casemate", "run", "--", "sh", "-c", "exit 7"]).unwrap();
        let Command::Run(run) = cli.command else {
            panic!("not run");
        };
        assert_eq!(run.command, ["sh", "-c", "exit 7"]);
        assert_eq!((run.cpus.as_str(), run.memory.as_str()), ("1", "256M"));
    }

    #[test]
    fn a_refusal_is_one_line_that_names_the_object() {
        for (args, word) in [
            (&["casemate", "run", "--no-such"][..], "--no-such"),
            (
                &["casemate", "run", "--allow-missing", "mnt", "--", "x"],
                "mount-ns",
            ),
            (&["casemate", "kernel", "import"], "PKG.deb"),
            (&["casemate", "frobnicate"], "frobnicate"),
        ] {
            let line = one_line(&Cli::try_parse_from(args).unwrap_err());
            assert!(!line.contains('\n') && line.contains(word), "{line}");
        }
    }
}
