//! What is recorded.

use crate::Digest;
use crate::head::Place;
use casemate_proto::cell::{Layer, LayerReport};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Longest text of a line's, in characters: some of it is a tenant's word.
const MAX_TEXT: usize = 512;
/// Most entries of a list.
const MAX_LIST: usize = 64;

/// One decision, or one thing that happened to the log itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", content = "what", rename_all = "kebab-case")]
pub enum Event {
    /// A file of the log begins.
    Open(Open),
    /// A writer was interrupted; what it left is set aside.
    Recovered(Recovered),
    /// After a crash of the host, lines that were signed are not there.
    Gap(Gap),
    /// A cell or jail is about to be let go.
    Start(Box<Start>),
    /// Every layer, as it was declared and as the kernel shows it.
    Layers(Layers),
    /// A start was refused.
    Refused(Refused),
    /// The kernel denied something, and killed for it.
    Denied(Denied),
    /// A limit was hit.
    Limit(LimitHit),
    /// The cell or jail is over and taken away.
    Exit(Exit),
    /// What an earlier cell of the same name left was cleared: its supervisor was killed.
    Cleared(Cleared),
}

impl Event {
    /// Its name in the log.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Open(_) => "open",
            Self::Recovered(_) => "recovered",
            Self::Gap(_) => "gap",
            Self::Start(_) => "start",
            Self::Layers(_) => "layers",
            Self::Refused(_) => "refused",
            Self::Denied(_) => "denied",
            Self::Limit(_) => "limit",
            Self::Exit(_) => "exit",
            Self::Cleared(_) => "cleared",
        }
    }

    /// The same with every text bounded and printable.
    pub(crate) fn bounded(mut self) -> Self {
        match &mut self {
            Self::Open(_) | Self::Recovered(_) | Self::Gap(_) | Self::Cleared(_) => {}
            Self::Start(start) => {
                if let Some(program) = &mut start.program {
                    clean(program);
                }
                start.policies = short(&start.policies);
                start.binaries = short(&start.binaries);
            }
            Self::Layers(layers) => {
                layers.layers.truncate(MAX_LIST);
                for layer in &mut layers.layers {
                    clean(&mut layer.declared);
                    clean(&mut layer.observed);
                }
            }
            Self::Refused(refused) => clean(&mut refused.message),
            Self::Denied(denied) => clean(&mut denied.how),
            Self::Limit(hit) => clean(&mut hit.detail),
            Self::Exit(exit) => clean(&mut exit.how),
        }
        self
    }
}

fn clean(text: &mut String) {
    if text.len() > MAX_TEXT || text.chars().any(char::is_control) {
        *text = text
            .chars()
            .take(MAX_TEXT)
            .map(|c| if c.is_control() { '\u{fffd}' } else { c })
            .collect();
    }
}

fn short(named: &BTreeMap<String, Digest>) -> BTreeMap<String, Digest> {
    let cleaned = named.iter().take(MAX_LIST).map(|(name, digest)| {
        let mut name = name.clone();
        clean(&mut name);
        (name, *digest)
    });
    cleaned.collect()
}

/// First line of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// Version of the format: [`crate::VERSION`].
    pub version: u32,
    /// The log's own random name.
    pub log: String,
    /// This file's number, from 1.
    pub file: u64,
    /// The public key whose secret half signs the heads, in hexadecimal digits.
    pub key: String,
    /// Where the file before this one ends; `None` in the first.
    pub follows: Option<Place>,
    /// Version of Casemate.
    pub casemate: String,
}

/// What an interrupted writer left between the last line and this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovered {
    /// In which file.
    pub file: u64,
    /// From this byte on.
    pub offset: u64,
    /// So many bytes.
    pub bytes: u64,
    /// With this digest, see [`Self::digest`]. They are no part of the chain: nobody
    /// vouches for them.
    pub hash: Digest,
}

impl Recovered {
    /// One for lines that were set aside: of their digests, 32 bytes each, in order. The
    /// last may be a line without end.
    pub fn digest(lines: impl IntoIterator<Item = Digest>) -> Digest {
        let mut hasher = blake3::Hasher::new();
        for line in lines {
            hasher.update(line.as_bytes());
        }
        hasher.finalize().into()
    }
}

/// Where the log should have gone on, and where it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The end that was signed. This line's `prev` and `seq` continue it.
    pub signed: Place,
    /// Number of the file that this line stands in.
    pub file: u64,
    /// The size that this file was found with.
    pub offset: u64,
}

/// Which wall it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A microVM (`casemate run`).
    Run,
    /// A plain process (`casemate jail`).
    Jail,
}

/// What is let go, and by whom. The record is made before its first instruction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// VM or plain process.
    pub kind: Kind,
    /// The program, where the host executes it; a guest's is the guest's affair.
    pub program: Option<String>,
    /// Process id in the host's pid namespace.
    pub process: i32,
    /// The user it runs as.
    pub uid: u32,
    /// Who logged in to start it, as the kernel's audit keeps it (`/proc/self/loginuid`).
    pub loginuid: Option<u32>,
    /// Policies in force, by name.
    pub policies: BTreeMap<String, Digest>,
    /// Binaries and images, by role.
    pub binaries: BTreeMap<String, Digest>,
    /// Limit on memory, bytes.
    pub memory_bytes: Option<u64>,
    /// Limit on CPU, thousandths of one.
    pub cpu_millis: Option<u32>,
    /// Limit on tasks.
    pub pids: Option<u32>,
    /// Wall-clock limit, milliseconds.
    pub timeout_ms: Option<u64>,
    /// Layers that the operator let be missing.
    pub allow_missing: BTreeSet<Layer>,
}

/// The read-back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layers {
    /// Whether all hold.
    pub hold: bool,
    /// Each.
    pub layers: Vec<LayerReport>,
}

impl From<&[LayerReport]> for Layers {
    fn from(layers: &[LayerReport]) -> Self {
        Self {
            hold: layers.iter().all(|layer| layer.holds),
            layers: layers.to_vec(),
        }
    }
}

/// Why a start was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The layer that could not be applied or does not hold.
    pub layer: Option<Layer>,
    /// As the user was told.
    pub message: String,
}

/// What was denied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denied {
    /// By which layer.
    pub layer: Layer,
    /// How it showed.
    pub how: String,
}

/// A limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    /// Wall-clock time.
    Time,
    /// Memory of the cgroup.
    Memory,
    /// Tasks of the cgroup.
    Tasks,
    /// Size of a file.
    FileSize,
    /// CPU time.
    Cpu,
}

/// A limit that was hit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitHit {
    /// Which.
    pub limit: Limit,
    /// How it showed.
    pub detail: String,
}

/// The end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// In words.
    pub how: String,
    /// The exit status of the process, where it exited.
    pub status: Option<i32>,
    /// The signal that ended it, where one did.
    pub signal: Option<i32>,
    /// CPU time in user mode, microseconds.
    pub cpu_user_us: u64,
    /// CPU time in kernel mode, microseconds.
    pub cpu_system_us: u64,
    /// Most memory held, bytes.
    pub memory_peak_bytes: u64,
}

/// What was cleared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cleared {
    /// The process of the cell that was killed, where it had come that far.
    pub process: Option<i32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_log() {
        let events = [
            Event::Cleared(Cleared { process: None }),
            Event::Denied(Denied {
                layer: Layer::Seccomp,
                how: String::new(),
            }),
            Event::Limit(LimitHit {
                limit: Limit::FileSize,
                detail: String::new(),
            }),
        ];
        for event in events {
            let json = serde_json::to_value(&event).unwrap();
            assert_eq!(json["event"], event.name());
            assert_eq!(serde_json::from_value::<Event>(json).unwrap(), event);
        }
    }

    #[test]
    fn hostile_text_is_short_and_printable() {
        let event = Event::Refused(Refused {
            layer: None,
            message: format!("\u{1b}[2J\n{}", "é\u{7f}".repeat(5000)),
        });
        let Event::Refused(refused) = event.bounded() else {
            panic!("another event");
        };
        assert!(refused.message.chars().count() <= MAX_TEXT);
        assert!(!refused.message.chars().any(char::is_control));
    }
}
