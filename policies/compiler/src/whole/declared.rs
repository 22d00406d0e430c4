//! What one whole-policy file says, each value with its meaning and its place.

use super::file::{MountEntry, NetworkEntry, Opt, Ports, WholeFile, Words};
use super::values::{self, amount, small};
use crate::source::{Error, Location, Problem, Source};
use casemate_policy::{
    Capabilities, Device, IoLimit, Mount, MountKind, Namespace, Network, Proc, Resource,
    RlimitValue,
};
use std::collections::BTreeSet;
use toml::Spanned;

/// A value and where it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) at: Location,
}

/// What a part of a policy is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    /// The section, or the mount.
    pub what: String,
    /// Its author's words.
    pub why: String,
    /// Where they stand.
    pub at: Location,
}

/// Ports that may be connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Connect {
    Any,
    To(Vec<u16>),
}

/// A limit; `None` is no limit.
pub(crate) type Limit<T> = Option<T>;

/// What the file says. What it does not say is `None` or empty.
#[derive(Debug, Clone, Default)]
pub(crate) struct Declared {
    pub(crate) namespaces: Option<At<Vec<Namespace>>>,
    pub(crate) network: Option<At<Network>>,
    pub(crate) proc: Option<At<Proc>>,
    pub(crate) dev: Option<At<bool>>,
    pub(crate) mounts: Vec<At<Mount>>,
    pub(crate) capabilities: Option<At<Capabilities>>,
    pub(crate) min_abi: Option<At<u32>>,
    pub(crate) bind_tcp: Option<At<Vec<u16>>>,
    pub(crate) connect_tcp: Option<At<Connect>>,
    pub(crate) ioctl_dev: Option<At<bool>>,
    pub(crate) scope_abstract_socket: Option<At<bool>>,
    pub(crate) scope_signal: Option<At<bool>>,
    pub(crate) rlimits: Vec<At<RlimitValue>>,
    pub(crate) memory: Option<At<Limit<u64>>>,
    pub(crate) swap: Option<At<Limit<u64>>>,
    pub(crate) cpu_millis: Option<At<Limit<u32>>>,
    pub(crate) cpu_weight: Option<At<Limit<u32>>>,
    pub(crate) pids: Option<At<Limit<u32>>>,
    pub(crate) io: Vec<At<IoLimit>>,
    pub(crate) wall_clock_ms: Option<At<Limit<u64>>>,
    pub(crate) keep_variables: Option<At<Vec<String>>>,
    pub(crate) set_variables: Option<At<Vec<(String, String)>>>,
    pub(crate) keep_fds: Option<At<Vec<i32>>>,
    pub(crate) devices: Option<At<Vec<Device>>>,
    pub(crate) threads: Vec<At<String>>,
    pub(crate) whys: Vec<Why>,
}

/// The newest Landlock ABI that a policy can ask for.
const MAX_ABI: u32 = 7;
/// The greatest weight of a v2 cgroup.
const MAX_WEIGHT: u32 = 10_000;

impl Declared {
    /// Gives each value of `file` its meaning.
    pub(crate) fn of(source: &Source, file: &WholeFile) -> Result<Self, Error> {
        let mut said = Self::default();
        said.view(source, file)?;
        said.privilege(source, file)?;
        said.limits(source, file)?;
        said.inherited(source, file)?;
        Ok(said)
    }

    /// Namespaces, network and files.
    fn view(&mut self, source: &Source, file: &WholeFile) -> Result<(), Error> {
        if let Some(entry) = &file.namespaces {
            self.why(source, "namespaces", entry, entry.get_ref().why())?;
            let mut own = members(source, &entry.get_ref().own, values::namespace)?;
            own.value.sort_unstable();
            self.namespaces = Some(own);
        }
        if let Some(entry) = &file.network {
            self.why(source, "network", entry, entry.get_ref().why())?;
            self.network = Some(network(source, entry)?);
        }
        if let Some(entry) = &file.filesystem {
            self.why(source, "filesystem", entry, entry.get_ref().why())?;
            let entry = entry.get_ref();
            self.proc = read(source, &entry.proc, |text| match text.as_str() {
                "none" => Ok(Proc::None),
                "pids" => Ok(Proc::Pids),
                other => Err(values::unknown("kind of /proc", other, ["none", "pids"])),
            })?;
            self.dev = copied(source, &entry.dev);
        }
        let mut targets = BTreeSet::new();
        for entry in &file.mounts {
            let mount = mount(source, entry)?;
            if !targets.insert(mount.value.jail.clone()) {
                let twice = Problem::Twice("mount at", mount.value.jail.into_owned());
                return Err(twice.at(mount.at));
            }
            let what = format!("mount {}", mount.value.jail);
            self.why(source, &what, entry, entry.get_ref().why())?;
            self.mounts.push(mount);
        }
        Ok(())
    }

    /// Capabilities, Landlock, devices, threads.
    fn privilege(&mut self, source: &Source, file: &WholeFile) -> Result<(), Error> {
        if let Some(entry) = &file.capabilities {
            self.why(source, "capabilities", entry, entry.get_ref().why())?;
            let kept = members(source, &entry.get_ref().keep, values::capability)?;
            self.capabilities = Some(At {
                value: Capabilities(kept.value.iter().fold(0, |set, cap| set | 1 << cap)),
                at: kept.at,
            });
        }
        if let Some(entry) = &file.landlock {
            self.why(source, "landlock", entry, entry.get_ref().why())?;
            let entry = entry.get_ref();
            self.min_abi = read(source, &entry.min_abi, |abi| match *abi {
                abi @ 1..=MAX_ABI => Ok(abi),
                abi => Err(Problem::OutOfRange {
                    value: abi.into(),
                    least: 1,
                    most: MAX_ABI.into(),
                }),
            })?;
            self.bind_tcp = read(source, &entry.bind_tcp, |ports| sorted(ports))?;
            self.connect_tcp = read(source, &entry.connect_tcp, |ports| match ports {
                Ports::List(ports) => sorted(ports).map(Connect::To),
                Ports::Text(text) if text == "any" => Ok(Connect::Any),
                Ports::Text(text) => Err(values::unknown("set of ports", text, ["any"])),
            })?;
            self.ioctl_dev = copied(source, &entry.ioctl_dev);
            self.scope_abstract_socket = copied(source, &entry.scope_abstract_socket);
            self.scope_signal = copied(source, &entry.scope_signal);
        }
        if let Some(entry) = &file.devices {
            self.why(source, "devices", entry, entry.get_ref().why())?;
            let mut guest = members(source, &entry.get_ref().guest, values::device)?;
            guest.value.sort_unstable();
            self.devices = Some(guest);
        }
        if let Some(entry) = &file.threads {
            self.why(source, "threads", entry, entry.get_ref().why())?;
            for name in &entry.get_ref().files {
                self.threads.push(At {
                    value: name.get_ref().clone(),
                    at: source.at(name.span().start),
                });
            }
        }
        Ok(())
    }

    /// What the kernel counts.
    fn limits(&mut self, source: &Source, file: &WholeFile) -> Result<(), Error> {
        if let Some(entry) = &file.rlimits {
            self.why(source, "rlimits", entry, entry.get_ref().why())?;
            let entry = entry.get_ref();
            for (resource, value) in [
                (Resource::As, &entry.r#as),
                (Resource::Core, &entry.core),
                (Resource::Cpu, &entry.cpu),
                (Resource::Data, &entry.data),
                (Resource::Fsize, &entry.fsize),
                (Resource::Locks, &entry.locks),
                (Resource::Memlock, &entry.memlock),
                (Resource::Msgqueue, &entry.msgqueue),
                (Resource::Nice, &entry.nice),
                (Resource::Nofile, &entry.nofile),
                (Resource::Nproc, &entry.nproc),
                (Resource::Rss, &entry.rss),
                (Resource::Rtprio, &entry.rtprio),
                (Resource::Rttime, &entry.rttime),
                (Resource::Sigpending, &entry.sigpending),
                (Resource::Stack, &entry.stack),
            ] {
                let limit = read(source, value, |value| match amount(value)? {
                    None => Err(Problem::RlimitUnlimited(resource.name())),
                    Some(0) if resource == Resource::Core => Err(Problem::CoreZero),
                    Some(value) => Ok(RlimitValue { resource, value }),
                })?;
                self.rlimits.extend(limit);
            }
        }
        if let Some(entry) = &file.cgroup {
            self.why(source, "cgroup", entry, entry.get_ref().why())?;
            let entry = entry.get_ref();
            self.memory = read(source, &entry.memory, amount)?;
            self.swap = read(source, &entry.swap, amount)?;
            let any = |value: &_| small(value, 1, u32::MAX);
            self.cpu_millis = read(source, &entry.cpu_millis, any)?;
            self.pids = read(source, &entry.pids, any)?;
            let weight = |value: &_| small(value, 1, MAX_WEIGHT);
            self.cpu_weight = read(source, &entry.cpu_weight, weight)?;
            self.io(source, &entry.io)?;
        }
        if let Some(entry) = &file.wall_clock {
            self.why(source, "wall-clock", entry, entry.get_ref().why())?;
            let limit = &entry.get_ref().limit;
            self.wall_clock_ms = Some(At {
                value: values::duration(limit.get_ref())
                    .map_err(|problem| problem.at(source.at(limit.span().start)))?,
                at: source.at(limit.span().start),
            });
        }
        Ok(())
    }

    fn io(
        &mut self,
        source: &Source,
        entries: &[Spanned<super::file::IoEntry>],
    ) -> Result<(), Error> {
        for entry in entries {
            let at = source.at(entry.span().start);
            let io = entry.get_ref();
            let device = values::block_device(io.device.get_ref())
                .map_err(|problem| problem.at(source.at(io.device.span().start)))?;
            if self.io.iter().any(|other| other.value.device == device) {
                return Err(Problem::Twice("I/O limits of", device.to_owned()).at(at));
            }
            self.why(source, &format!("I/O of {device}"), entry, io.why())?;
            self.io.push(At {
                value: IoLimit {
                    device: device.to_owned().into(),
                    read_bps: read(source, &io.read, amount)?.and_then(|limit| limit.value),
                    write_bps: read(source, &io.write, amount)?.and_then(|limit| limit.value),
                },
                at,
            });
        }
        Ok(())
    }

    /// What comes from the launcher.
    fn inherited(&mut self, source: &Source, file: &WholeFile) -> Result<(), Error> {
        if let Some(entry) = &file.environment {
            self.why(source, "environment", entry, entry.get_ref().why())?;
            let entry = entry.get_ref();
            if let Some(keep) = &entry.keep {
                let name = |name: &str| values::variable(name).map(str::to_owned);
                self.keep_variables = Some(members(source, keep, name)?);
            }
            if let Some(set) = &entry.set {
                let mut pairs = Vec::new();
                for (name, value) in set.get_ref() {
                    let problem = |problem: Problem| problem.at(source.at(name.span().start));
                    let variable = values::variable(name.get_ref()).map_err(problem)?;
                    if value.get_ref().contains('\0') {
                        return Err(problem(Problem::Variable(variable.to_owned())));
                    }
                    pairs.push((variable.to_owned(), value.get_ref().clone()));
                }
                self.set_variables = Some(At {
                    value: pairs,
                    at: source.at(set.span().start),
                });
            }
        }
        if let Some(entry) = &file.fds {
            self.why(source, "fds", entry, entry.get_ref().why())?;
            let keep = &entry.get_ref().keep;
            let at = source.at(keep.span().start);
            let mut fds = keep.get_ref().clone();
            fds.sort_unstable();
            if let Some(fd) = fds.iter().find(|fd| !(3..1024).contains(*fd)) {
                return Err(Problem::Fd(*fd).at(at));
            }
            if let Some(pair) = fds.windows(2).find(|pair| pair[0] == pair[1]) {
                return Err(Problem::Twice("fd", pair[0].to_string()).at(at));
            }
            self.keep_fds = Some(At { value: fds, at });
        }
        Ok(())
    }

    /// Takes down what a section is for; refuses one that does not say so.
    fn why<T>(
        &mut self,
        source: &Source,
        what: &str,
        section: &Spanned<T>,
        why: &Opt<String>,
    ) -> Result<(), Error> {
        let at = match why {
            Some(why) => source.at(why.span().start),
            None => source.at(section.span().start),
        };
        match why.as_ref().map(|why| why.get_ref().trim()) {
            None | Some("") => Err(Problem::SectionWithoutWhy(what.to_owned()).at(at)),
            Some(why) => {
                self.whys.push(Why {
                    what: what.to_owned(),
                    why: why.to_owned(),
                    at,
                });
                Ok(())
            }
        }
    }
}

/// The meaning of an entry, if it is there.
fn read<T, U>(
    source: &Source,
    entry: &Opt<T>,
    meaning: impl Fn(&T) -> Result<U, Problem>,
) -> Result<Option<At<U>>, Error> {
    let Some(entry) = entry else { return Ok(None) };
    let at = source.at(entry.span().start);
    match meaning(entry.get_ref()) {
        Ok(value) => Ok(Some(At { value, at })),
        Err(problem) => Err(problem.at(at)),
    }
}

fn copied<T: Copy>(source: &Source, entry: &Opt<T>) -> Option<At<T>> {
    entry.as_ref().map(|entry| At {
        value: *entry.get_ref(),
        at: source.at(entry.span().start),
    })
}

/// The members of a list, none of them twice.
fn members<T: PartialEq>(
    source: &Source,
    list: &Spanned<Words>,
    meaning: impl Fn(&str) -> Result<T, Problem>,
) -> Result<At<Vec<T>>, Error> {
    let mut found = Vec::new();
    for word in list.get_ref() {
        let at = || source.at(word.span().start);
        let member = meaning(word.get_ref()).map_err(|problem| problem.at(at()))?;
        if found.contains(&member) {
            return Err(Problem::Twice("entry", word.get_ref().clone()).at(at()));
        }
        found.push(member);
    }
    Ok(At {
        value: found,
        at: source.at(list.span().start),
    })
}

fn sorted(ports: &[u16]) -> Result<Vec<u16>, Problem> {
    let mut ports = ports.to_vec();
    ports.sort_unstable();
    match ports.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Problem::Twice("port", pair[0].to_string())),
        None => Ok(ports),
    }
}

fn network(source: &Source, entry: &Spanned<NetworkEntry>) -> Result<At<Network>, Error> {
    let section = source.at(entry.span().start);
    let entry = entry.get_ref();
    let mode = read(source, &entry.mode, |mode| match mode.as_str() {
        "none" => Ok(Network::None),
        "host" => Ok(Network::Host),
        other => Err(values::unknown("network", other, ["none", "host"])),
    })?;
    let join = read(source, &entry.join, |path| {
        Ok(Network::Join(values::path(path)?.to_owned().into()))
    })?;
    match (mode, join) {
        (Some(network), None) | (None, Some(network)) => Ok(network),
        _ => Err(Problem::OneKey("[network]", "mode, join").at(section)),
    }
}

fn mount(source: &Source, entry: &Spanned<MountEntry>) -> Result<At<Mount>, Error> {
    let at = source.at(entry.span().start);
    let one = || Problem::OneKey("[[mount]]", "ro, rw, rw-exec, tmpfs").at(at.clone());
    let entry = entry.get_ref();
    let given: Vec<_> = [
        (&entry.ro, Some(MountKind::Ro)),
        (&entry.rw, Some(MountKind::Rw)),
        (&entry.rw_exec, Some(MountKind::RwExec)),
        (&entry.tmpfs, None),
    ]
    .into_iter()
    .filter_map(|(path, kind)| path.as_ref().map(|path| (path, kind)))
    .collect();
    let [(place, kind)] = given.as_slice() else {
        return Err(one());
    };
    let place_at = source.at(place.span().start);
    let path = values::path(place.get_ref()).map_err(|problem| problem.at(place_at.clone()))?;
    let jail = match &entry.at {
        Some(at) => {
            values::path(at.get_ref()).map_err(|problem| problem.at(source.at(at.span().start)))?
        }
        None => path,
    };
    if jail == "/" {
        return Err(Problem::MountOnRoot.at(place_at));
    }
    let size = read(source, &entry.size, amount)?;
    let (kind, host) = match (kind, size, &entry.at) {
        (Some(kind), None, _) => (*kind, path.to_owned()),
        (
            None,
            Some(At {
                value: Some(bytes), ..
            }),
            None,
        ) if bytes > 0 && !entry.optional => (MountKind::Tmpfs { bytes }, String::new()),
        (Some(_), Some(size), _) => return Err(Problem::SizeOfBind.at(size.at)),
        (None, ..) => return Err(Problem::TmpfsKeys.at(at)),
    };
    Ok(At {
        value: Mount {
            kind,
            host: host.into(),
            jail: jail.to_owned().into(),
            optional: entry.optional,
        },
        at,
    })
}
