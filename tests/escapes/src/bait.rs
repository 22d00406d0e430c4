//! What is laid out for the attempts, outside of the jail.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// All of it. The program gets it as its second argument, in JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bait {
    /// The secret that is everywhere to be found, and only outside.
    pub token: String,
    /// A file with the token that everybody may read, in a folder that is not shared.
    pub marker: PathBuf,
    /// Its inode.
    pub marker_inode: u64,
    /// Its file handle's type and bytes (name_to_handle_at(2)); empty where there is none.
    pub handle: (i32, Vec<u8>),
    /// Hash of the host's `/etc/shadow`.
    pub shadow: u64,
    /// A folder that is shared read-only. It has this program, copies of it with rights of
    /// their own, `link` (to the marker), `open` (mode 0666) and `private` (root's, 0600).
    pub ro: PathBuf,
    /// A folder that is shared to be written, of mode 0777 and empty; not always.
    pub rw: PathBuf,
    /// A process of the host's (`escape victim`).
    pub pid: i32,
    /// Address of the token in it.
    pub address: u64,
    /// An fd in it from which the token can be read.
    pub fd: i32,
    /// The process that starts the jail.
    pub launcher: i32,
    /// Ports on 127.0.0.1 where a listener answers with the token.
    pub tcp: u16,
    /// The same, for datagrams.
    pub udp: u16,
    /// Name of an abstract stream socket that answers with the token.
    pub abstract_socket: String,
    /// Path of one.
    pub path_socket: PathBuf,
    /// Network interfaces of the host's, without the loopback.
    pub interfaces: Vec<String>,
    /// Id of a System V shared memory segment with the token, mode 0666.
    pub shm: i32,
    /// Name of the host.
    pub host_name: String,
    /// Fds that the launcher leaks.
    pub leaked: Leaked,
    /// How much is too much: bytes of memory.
    pub memory_bytes: u64,
    /// The same, of processes.
    pub processes: u32,
    /// The same, of fds.
    pub fds: u32,
}

/// Numbers of fds that the launcher leaves open for its child; -1 for what there is not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leaked {
    /// The host's `/`.
    pub directory: i32,
    /// The same, `O_PATH`.
    pub path_directory: i32,
    /// The marker, `O_PATH`.
    pub path_file: i32,
    /// The marker, open for reading.
    pub file: i32,
    /// One end of a socket pair; the other is the host's and holds the token.
    pub socket: i32,
    /// A pidfd of the victim.
    pub pidfd: i32,
    /// The host's mount namespace.
    pub mount_namespace: i32,
    /// The host's network namespace.
    pub net_namespace: i32,
    /// `/dev/kvm`.
    pub kvm: i32,
}

/// Name of the variable of the launcher's that holds the token.
pub const VARIABLE: &str = "CASEMATE_ESCAPE_SECRET";
/// Name of another one, which is not UTF-8.
pub const BINARY_VARIABLE: &[u8] = b"CASEMATE_\xff\xfeESCAPE";
/// Type and description of the key in the launcher's session keyring.
pub const KEY: (&str, &str) = ("user", "casemate-escape");
