//! The command line of Firecracker's jailer, with a program that tells what it sees.
//!
//! As root, on the host itself.

mod cgroups;
mod daemons;
mod flags;
mod inherited;
mod kills;
mod layers;
mod layout;
mod placed;
mod restart;
mod support;
