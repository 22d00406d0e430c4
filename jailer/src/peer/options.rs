//! The command line, as Firecracker's jailer documents it, and our few words beside it.
//!
//! Parsed by hand: every mistake is one line with its remedy, arguments need not be UTF-8,
//! and `--flag=value` is taken beside `--flag value`. The table in `flags.rs` is both what is
//! parsed and what the help says. (clap costs no time that can be measured, but a sixth of
//! this privileged binary's size, and tells mistakes in paragraphs.)

use super::Addition;
use super::flags::{FLAGS, Flag};
use super::values::{Base, CgroupSetting, ParentCgroup, PeerId, ValueError, number, user};
use crate::cgroup::Version;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use thiserror::Error;

/// What is wrong with a command line.
#[derive(Debug, Error)]
pub enum OptionError {
    /// A flag that must be there is not.
    #[error("--{name} is missing: give --{name} {value} (--help lists all)")]
    Missing {
        /// Which.
        name: &'static str,
        /// What its value is called.
        value: &'static str,
    },
    /// A flag without its value.
    #[error("--{name} has no value: give --{name} {value}")]
    NoValue {
        /// Which.
        name: &'static str,
        /// What its value is called.
        value: &'static str,
    },
    /// A switch with a value.
    #[error("--{name} takes no value: give --{name} alone")]
    Superfluous {
        /// Which.
        name: &'static str,
    },
    /// A flag twice.
    #[error("--{name} is given twice: give it once")]
    Twice {
        /// Which.
        name: &'static str,
    },
    /// Something that is no flag.
    #[error(
        "{argument:?} is not known: --help lists the flags; what is meant for the program \
         stands after --"
    )]
    Unknown {
        /// The argument.
        argument: OsString,
    },
    /// A value that will not do.
    #[error("--{name}: {source}")]
    Value {
        /// Which flag.
        name: &'static str,
        /// Why.
        source: ValueError,
    },
}

/// What is asked for.
#[derive(Debug)]
pub enum Request {
    /// A jail.
    Jail(Box<Options>),
    /// The help.
    Help,
    /// The version.
    Version,
}

/// A jail, as asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Its name.
    pub id: PeerId,
    /// The program.
    pub exec_file: PathBuf,
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Folder of the jails.
    pub base: Base,
    /// Network namespace to join.
    pub netns: Option<PathBuf>,
    /// cgroup files and values, in their order.
    pub cgroups: Vec<CgroupSetting>,
    /// cgroup above the jail's.
    pub parent_cgroup: Option<ParentCgroup>,
    /// The only cgroup version to use.
    pub cgroup_version: Option<Version>,
    /// Limit of open files.
    pub no_file: u64,
    /// Limit of a file's size.
    pub fsize: Option<u64>,
    /// Leave the terminal.
    pub daemonize: bool,
    /// Own pid namespace.
    pub new_pid_ns: bool,
    /// Layers to leave off.
    pub without: BTreeSet<Addition>,
    /// Folder of locks and journals.
    pub run_dir: PathBuf,
    /// What the program is given after its own arguments.
    pub arguments: Vec<OsString>,
}

impl Options {
    /// Whether a layer is to be applied.
    pub fn with(&self, addition: Addition) -> bool {
        !self.without.contains(&addition)
    }
}

/// Parses everything after the program's own name.
///
/// # Errors
/// The first thing wrong.
pub fn parse(arguments: Vec<OsString>) -> Result<Request, OptionError> {
    let end = arguments.iter().position(|argument| argument == "--");
    let (ours, theirs) = match end {
        Some(end) => (&arguments[..end], &arguments[end + 1..]),
        None => (&arguments[..], &[][..]),
    };
    // As with the peer, one of these makes all others not matter.
    if ours.iter().any(|a| a == "--help" || a == "-h") {
        return Ok(Request::Help);
    }
    if ours.iter().any(|a| a == "--version") {
        return Ok(Request::Version);
    }
    let given = Given::split(ours)?;
    given
        .options(theirs.to_vec())
        .map(Box::new)
        .map(Request::Jail)
}

/// Flags and their values, not looked at yet.
struct Given(Vec<(&'static Flag, OsString)>);

impl Given {
    fn split(arguments: &[OsString]) -> Result<Self, OptionError> {
        let mut given: Vec<(&'static Flag, OsString)> = Vec::new();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let unknown = || OptionError::Unknown {
                argument: argument.clone(),
            };
            let word = argument
                .as_bytes()
                .strip_prefix(b"--")
                .ok_or_else(unknown)?;
            let (name, inline) = match word.iter().position(|&byte| byte == b'=') {
                Some(at) => (&word[..at], Some(&word[at + 1..])),
                None => (word, None),
            };
            let flag = FLAGS
                .iter()
                .find(|flag| flag.name.as_bytes() == name)
                .ok_or_else(unknown)?;
            if !flag.many && given.iter().any(|(there, _)| there.name == flag.name) {
                return Err(OptionError::Twice { name: flag.name });
            }
            let value = match (flag.value, inline) {
                (None, None) => OsString::new(),
                (None, Some(_)) => return Err(OptionError::Superfluous { name: flag.name }),
                (Some(_), Some(inline)) => OsString::from_vec(inline.to_vec()),
                (Some(value), None) => rest
                    .next()
                    .filter(|next| !next.as_bytes().starts_with(b"--"))
                    .cloned()
                    .ok_or(OptionError::NoValue {
                        name: flag.name,
                        value,
                    })?,
            };
            given.push((flag, value));
        }
        Ok(Self(given))
    }

    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a OsStr> {
        self.0
            .iter()
            .filter(move |(flag, _)| flag.name == name)
            .map(|(_, value)| value.as_os_str())
    }

    fn maybe<T>(
        &self,
        name: &'static str,
        parse: impl Fn(&OsStr) -> Result<T, ValueError>,
    ) -> Result<Option<T>, OptionError> {
        self.all(name)
            .next()
            .map(|value| parse(value).map_err(|source| OptionError::Value { name, source }))
            .transpose()
    }

    fn must<T>(
        &self,
        name: &'static str,
        parse: impl Fn(&OsStr) -> Result<T, ValueError>,
    ) -> Result<T, OptionError> {
        let value = FLAGS.iter().find(|flag| flag.name == name);
        self.maybe(name, parse)?.ok_or(OptionError::Missing {
            name,
            value: value.and_then(|flag| flag.value).unwrap_or_default(),
        })
    }

    fn each<T>(
        &self,
        name: &'static str,
        parse: impl Fn(&OsStr) -> Result<T, ValueError>,
    ) -> Result<Vec<T>, OptionError> {
        self.all(name)
            .map(|value| parse(value).map_err(|source| OptionError::Value { name, source }))
            .collect()
    }

    fn has(&self, name: &str) -> bool {
        self.all(name).next().is_some()
    }

    fn options(&self, arguments: Vec<OsString>) -> Result<Options, OptionError> {
        let root = self.has("allow-uid-0");
        let path = |value: &OsStr| match value.is_empty() {
            true => Err(ValueError::Empty),
            false => Ok(PathBuf::from(value)),
        };
        let mut options = Options {
            id: self.must("id", PeerId::parse)?,
            exec_file: self.must("exec-file", path)?,
            uid: self.must("uid", |value| user(value, root))?,
            gid: self.must("gid", |value| user(value, true))?,
            base: self
                .maybe("chroot-base-dir", Base::parse)?
                .unwrap_or_default(),
            netns: self.maybe("netns", path)?,
            cgroups: self.each("cgroup", CgroupSetting::parse)?,
            parent_cgroup: self.maybe("parent-cgroup", ParentCgroup::parse)?,
            cgroup_version: self.maybe("cgroup-version", version)?,
            no_file: 2048,
            fsize: None,
            daemonize: self.has("daemonize"),
            new_pid_ns: self.has("new-pid-ns"),
            without: self.each("without", Addition::parse)?.into_iter().collect(),
            run_dir: self
                .maybe("run-dir", path)?
                .unwrap_or_else(|| PathBuf::from(crate::RUN_DIR)),
            arguments,
        };
        for (limit, value) in self.each("resource-limit", limit)? {
            match limit {
                Limit::NoFile => options.no_file = value,
                Limit::Fsize => options.fsize = Some(value),
            }
        }
        Ok(options)
    }
}

enum Limit {
    NoFile,
    Fsize,
}

fn limit(value: &OsStr) -> Result<(Limit, u64), ValueError> {
    let bad = || ValueError::Limit(value.to_owned());
    let (name, amount) = value
        .to_str()
        .and_then(|v| v.split_once('='))
        .ok_or_else(bad)?;
    let limit = match name {
        "no-file" => Limit::NoFile,
        "fsize" => Limit::Fsize,
        _ => return Err(bad()),
    };
    Ok((limit, number(amount).ok_or_else(bad)?))
}

fn version(value: &OsStr) -> Result<Version, ValueError> {
    match value.as_bytes() {
        b"1" => Ok(Version::V1),
        b"2" => Ok(Version::V2),
        _ => Err(ValueError::Version(value.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::flags::help;
    use proptest::prelude::*;

    const GOOD: &str = "--id a-1 --exec-file /bin/x --uid 123 --gid 100";

    fn words(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(OsString::from).collect()
    }

    fn jail(text: &str) -> Options {
        match parse(words(text)) {
            Ok(Request::Jail(options)) => *options,
            other => panic!("{other:?}"),
        }
    }

    fn refused(text: &str) -> String {
        let line = parse(words(text)).unwrap_err().to_string();
        assert!(!line.contains('\n'), "{line}");
        line
    }

    #[test]
    fn the_documented_command_line_is_taken() {
        let options = jail(
            "--id 551e7604-e35c-42b3-b825-416853441234 --cgroup cpuset.mems=0 \
             --cgroup cpuset.cpus=0-1 --exec-file /usr/bin/firecracker --uid 123 --gid 100 \
             --netns /var/run/netns/my_netns --daemonize --new-pid-ns --cgroup-version 2 \
             --parent-cgroup all/vms --resource-limit fsize=250000000 --resource-limit \
             no-file=1024 --chroot-base-dir /srv/x -- --config-file vm.json --id y --help",
        );
        assert_eq!(options.cgroups.len(), 2);
        assert_eq!((options.uid, options.gid), (123, 100));
        assert_eq!((options.no_file, options.fsize), (1024, Some(250_000_000)));
        assert!(options.daemonize && options.new_pid_ns);
        assert_eq!(options.cgroup_version, Some(Version::V2));
        assert_eq!(options.arguments.len(), 5);
        let plain = jail(GOOD);
        assert_eq!((plain.no_file, plain.cgroup_version), (2048, None));
        assert_eq!(plain.base.0, PathBuf::from("/srv/jailer"));
        let inline = jail("--id=a-1 --exec-file=/bin/x --uid=123 --gid=100");
        assert_eq!(inline, plain);
    }

    #[test]
    fn help_and_version_win() {
        assert!(matches!(parse(words("--id --help")), Ok(Request::Help)));
        assert!(matches!(parse(words("-h --bogus")), Ok(Request::Help)));
        assert!(matches!(
            parse(words("--x --version")),
            Ok(Request::Version)
        ));
        for flag in FLAGS {
            assert!(help().contains(&format!("--{}", flag.name)));
        }
    }

    #[test]
    fn every_mistake_is_one_line_with_its_remedy() {
        for (text, says) in [
            ("--id a", "--exec-file is missing"),
            ("--exec-file x --uid 1 --gid 1", "--id is missing"),
            ("--id", "--id has no value"),
            ("--id --uid 1", "--id has no value"),
            ("--id a --id b", "given twice"),
            ("--daemonize=yes", "takes no value"),
            ("--bogus", "not known"),
            ("bogus", "not known"),
            ("--netns", "--netns has no value"),
        ] {
            assert!(refused(text).contains(says), "{text}: {}", refused(text));
        }
        for (more, says) in [
            ("--cgroup cpu.shares", "--cgroup"),
            ("--cgroup cpu.shares=", "--cgroup"),
            ("--cgroup ../x.y=1", "--cgroup"),
            ("--cgroup a/b.c=1", "--cgroup"),
            ("--cgroup cgroup.procs=1", "--cgroup"),
            ("--cgroup shares=1", "--cgroup"),
            ("--cgroup-version 3", "--cgroup-version"),
            ("--cgroup-version v1", "--cgroup-version"),
            ("--parent-cgroup /x", "--parent-cgroup"),
            ("--parent-cgroup a/../b", "--parent-cgroup"),
            ("--parent-cgroup ./a", "--parent-cgroup"),
            ("--resource-limit no-file", "--resource-limit"),
            ("--resource-limit no-file=-1", "--resource-limit"),
            ("--resource-limit no-file=+1", "--resource-limit"),
            ("--resource-limit core=1", "--resource-limit"),
            ("--without seccomp", "--without"),
            ("--netns=", "--netns"),
            ("--run-dir=", "--run-dir"),
        ] {
            let line = refused(&format!("{GOOD} {more}"));
            assert!(line.contains(says), "{more}: {line}");
        }
    }

    #[test]
    fn users_that_are_none_are_refused() {
        for bad in [
            "-1",
            "4294967295",
            "4294967296",
            "+5",
            "0x5",
            "root",
            "5 ",
            "",
        ] {
            let mut arguments = words("--id a --exec-file x --gid 1 --uid");
            arguments.push(bad.into());
            assert!(parse(arguments).is_err(), "{bad:?}");
        }
        let line = refused("--id a --exec-file x --uid 0 --gid 0");
        assert!(line.contains("--allow-uid-0"), "{line}");
        let named = jail("--id a --exec-file x --uid 0 --gid 0 --allow-uid-0");
        assert_eq!(named.uid, 0);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(words in proptest::collection::vec(
            prop_oneof![
                proptest::collection::vec(1u8..=255, 0..12),
                proptest::sample::select(FLAGS).prop_map(|f| format!("--{}", f.name).into_bytes()),
            ], 0..12))
        {
            let words = words.into_iter().map(OsString::from_vec).collect();
            if let Err(e) = parse(words) {
                prop_assert!(!e.to_string().contains('\n'));
            }
        }
    }
}
