//! One file a subject.

pub mod cgroup;
pub mod cpu;
pub mod host;
pub mod kvm;
pub mod landlock;
pub mod namespaces;
pub mod seccomp;
pub mod secrets;
