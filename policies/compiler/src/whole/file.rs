//! The shape of a whole-policy file, before its values are given their meaning.

use crate::file::RuleEntry;
use serde::Deserialize;
use serde::de::{Deserializer, Visitor};
use std::collections::BTreeMap;
use std::fmt;
use toml::Spanned;

/// A value, and where it stands.
pub(crate) type Opt<T> = Option<Spanned<T>>;
/// A list whose members have a place each.
pub(crate) type Words = Vec<Spanned<String>>;

/// One whole policy.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct WholeFile {
    /// The policy that this one narrows.
    pub(crate) base: Opt<String>,
    /// Files whose rules this one has too.
    #[serde(default)]
    pub(crate) include: Words,
    /// What may be called.
    #[serde(default, rename = "rule")]
    pub(crate) rules: Vec<Spanned<RuleEntry>>,
    /// What the base allows and this policy does not.
    #[serde(default, rename = "deny")]
    pub(crate) denials: Vec<Spanned<RuleEntry>>,
    #[serde(default, rename = "mount")]
    pub(crate) mounts: Vec<Spanned<MountEntry>>,
    pub(crate) threads: Opt<ThreadsEntry>,
    pub(crate) namespaces: Opt<NamespacesEntry>,
    pub(crate) network: Opt<NetworkEntry>,
    pub(crate) filesystem: Opt<FilesystemEntry>,
    pub(crate) capabilities: Opt<CapabilitiesEntry>,
    pub(crate) landlock: Opt<LandlockEntry>,
    pub(crate) rlimits: Opt<RlimitsEntry>,
    pub(crate) cgroup: Opt<CgroupEntry>,
    pub(crate) wall_clock: Opt<WallClockEntry>,
    pub(crate) environment: Opt<EnvironmentEntry>,
    pub(crate) fds: Opt<FdsEntry>,
    pub(crate) devices: Opt<DevicesEntry>,
}

macro_rules! entries {
    ($($(#[$doc:meta])* $name:ident { $($(#[$attribute:meta])* $field:ident: $type:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Deserialize)]
            #[serde(deny_unknown_fields, rename_all = "kebab-case")]
            pub(crate) struct $name {
                $($(#[$attribute])* pub(crate) $field: $type,)*
                pub(crate) why: Opt<String>,
            }

            impl $name {
                /// What its author says it is for.
                pub(crate) fn why(&self) -> &Opt<String> {
                    &self.why
                }
            }
        )*
    };
}

entries! {
    /// `[threads]`: the files of the thread classes.
    ThreadsEntry { files: Words, }
    /// `[namespaces]`.
    NamespacesEntry { own: Spanned<Words>, }
    /// `[network]`: one of the two keys.
    NetworkEntry { mode: Opt<String>, join: Opt<String>, }
    /// `[filesystem]`.
    FilesystemEntry { proc: Opt<String>, dev: Opt<bool>, }
    /// One `[[mount]]`: one of the first four keys.
    MountEntry {
        ro: Opt<String>,
        rw: Opt<String>,
        rw_exec: Opt<String>,
        tmpfs: Opt<String>,
        at: Opt<String>,
        size: Opt<Amount>,
        #[serde(default)]
        optional: bool,
    }
    /// `[capabilities]`.
    CapabilitiesEntry { keep: Spanned<Words>, }
    /// `[landlock]`.
    LandlockEntry {
        min_abi: Opt<u32>,
        bind_tcp: Opt<Vec<u16>>,
        connect_tcp: Opt<Ports>,
        ioctl_dev: Opt<bool>,
        scope_abstract_socket: Opt<bool>,
        scope_signal: Opt<bool>,
    }
    /// `[rlimits]`.
    RlimitsEntry {
        r#as: Opt<Amount>,
        core: Opt<Amount>,
        cpu: Opt<Amount>,
        data: Opt<Amount>,
        fsize: Opt<Amount>,
        locks: Opt<Amount>,
        memlock: Opt<Amount>,
        msgqueue: Opt<Amount>,
        nice: Opt<Amount>,
        nofile: Opt<Amount>,
        nproc: Opt<Amount>,
        rss: Opt<Amount>,
        rtprio: Opt<Amount>,
        rttime: Opt<Amount>,
        sigpending: Opt<Amount>,
        stack: Opt<Amount>,
    }
    /// `[cgroup]`.
    CgroupEntry {
        memory: Opt<Amount>,
        swap: Opt<Amount>,
        cpu_millis: Opt<Amount>,
        cpu_weight: Opt<Amount>,
        pids: Opt<Amount>,
        #[serde(default)]
        io: Vec<Spanned<IoEntry>>,
    }
    /// One `[[cgroup.io]]`.
    IoEntry { device: Spanned<String>, read: Opt<Amount>, write: Opt<Amount>, }
    /// `[wall-clock]`.
    WallClockEntry { limit: Spanned<String>, }
    /// `[environment]`.
    EnvironmentEntry {
        keep: Opt<Words>,
        set: Opt<BTreeMap<Spanned<String>, Spanned<String>>>,
    }
    /// `[fds]`.
    FdsEntry { keep: Spanned<Vec<i32>>, }
    /// `[devices]`.
    DevicesEntry { guest: Spanned<Words>, }
}

/// A number, a number with K, M, G or T, or `unlimited`.
#[derive(Debug, Clone)]
pub(crate) enum Amount {
    Number(u64),
    Text(String),
}

/// TCP ports, or `any`.
#[derive(Debug, Clone)]
pub(crate) enum Ports {
    List(Vec<u16>),
    Text(String),
}

struct AmountVisitor;

impl Visitor<'_> for AmountVisitor {
    type Value = Amount;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, a text such as \"64M\", or \"unlimited\"")
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Amount, E> {
        u64::try_from(number)
            .map(Amount::Number)
            .map_err(|_| E::custom("a limit cannot be negative"))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Amount, E> {
        Ok(Amount::Number(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Amount, E> {
        Ok(Amount::Text(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AmountVisitor)
    }
}

struct PortsVisitor;

impl<'de> Visitor<'de> for PortsVisitor {
    type Value = Ports;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of TCP ports, or \"any\"")
    }

    fn visit_str<E>(self, text: &str) -> Result<Ports, E> {
        Ok(Ports::Text(text.to_owned()))
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Ports, A::Error> {
        let mut ports = Vec::new();
        while let Some(port) = list.next_element()? {
            ports.push(port);
        }
        Ok(Ports::List(ports))
    }
}

impl<'de> Deserialize<'de> for Ports {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PortsVisitor)
    }
}
