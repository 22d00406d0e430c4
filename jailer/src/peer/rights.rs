//! User, group and capabilities of the program (credentials(7), capabilities(7)).

use super::Addition;
use super::error::PeerError;
use super::options::Options;
use crate::layers::capabilities::{SECURE, keep_in_bounding_set};
use rustix::process::{Gid, Resource, Rlimit, Uid, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, set_capabilities,
    set_capabilities_secure_bits, set_no_new_privs, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};
use std::fmt::Display;
use std::fs;

/// One resource limit, soft and hard alike.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    resource: Resource,
    /// Its line's name in `/proc/PID/limits`.
    pub name: &'static str,
    /// Its value.
    pub value: u64,
}

/// The limits asked for. Core is 1 and not 0: with 0, a dump still goes to a `core_pattern`
/// that is a pipe (core(5)).
pub fn limits(options: &Options) -> Vec<Limit> {
    let limit = |resource, name, value| Limit {
        resource,
        name,
        value,
    };
    let mut limits = vec![limit(Resource::Nofile, "Max open files", options.no_file)];
    if let Some(fsize) = options.fsize {
        limits.push(limit(Resource::Fsize, "Max file size", fsize));
    }
    if options.with(Addition::CoreDumps) {
        limits.push(limit(Resource::Core, "Max core file size", 1));
    }
    limits
}

/// Looks whether the limits can be set, while there is nothing to undo.
///
/// # Errors
/// Where more open files are asked for than any process may have.
pub fn check(options: &Options) -> Result<(), PeerError> {
    let path = "/proc/sys/fs/nr_open";
    let most = fs::read_to_string(path)
        .ok()
        .and_then(|text| text.trim().parse().ok());
    match most {
        Some(most) if options.no_file > most => Err(PeerError::step(
            format!("--resource-limit no-file={}", options.no_file),
            format!("a process here may have {most} open files"),
            format!("give less, or raise {path}"),
        )),
        _ => Ok(()),
    }
}

/// Sets the limits.
///
/// # Errors
/// The call's own.
pub fn limit(options: &Options) -> Result<(), PeerError> {
    for limit in limits(options) {
        let both = Rlimit {
            current: Some(limit.value),
            maximum: Some(limit.value),
        };
        setrlimit(limit.resource, both).map_err(|e| {
            PeerError::step(
                format!("setting \"{}\" to {}", limit.name, limit.value),
                e,
                "give less, or raise /proc/sys/fs/nr_open for open files",
            )
        })?;
    }
    Ok(())
}

/// no_new_privs, before Landlock, which asks for it where there is no capability.
///
/// # Errors
/// The call's own.
pub fn no_new_privs() -> Result<(), PeerError> {
    set_no_new_privs(true).map_err(|e| {
        PeerError::layer(
            Addition::NoNewPrivs,
            format!("cannot be applied: {e}"),
            "run Linux 3.5 or later",
        )
    })
}

/// Becomes the jail's user, without groups and capabilities.
///
/// # Errors
/// The calls' own.
pub fn drop_all(options: &Options) -> Result<(), PeerError> {
    let layer = |e: &dyn Display| {
        PeerError::layer(
            Addition::Capabilities,
            format!("cannot be applied: {e}"),
            "run the jailer with CAP_SETPCAP",
        )
    };
    let capabilities = options.with(Addition::Capabilities);
    if capabilities {
        keep_in_bounding_set(CapabilitySet::empty()).map_err(|e| layer(&e))?;
        clear_ambient_capability_set()
            .and_then(|()| set_capabilities_secure_bits(SECURE))
            .map_err(|e| layer(&e))?;
    }
    let (uid, gid) = (Uid::from_raw(options.uid), Gid::from_raw(options.gid));
    // Groups first: after the user is dropped, the right to is gone.
    set_thread_groups(&[])
        .and_then(|()| set_thread_res_gid(gid, gid, gid))
        .and_then(|()| set_thread_res_uid(uid, uid, uid))
        .map_err(|e| {
            PeerError::step(
                format!("becoming uid {} and gid {}", options.uid, options.gid),
                e,
                "run the jailer with CAP_SETUID and CAP_SETGID, in a user namespace that \
                 maps both",
            )
        })?;
    if capabilities {
        let none = CapabilitySets {
            effective: CapabilitySet::empty(),
            permitted: CapabilitySet::empty(),
            inheritable: CapabilitySet::empty(),
        };
        set_capabilities(None, none).map_err(|e| layer(&e))?;
    }
    Ok(())
}
