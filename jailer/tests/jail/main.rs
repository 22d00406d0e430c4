//! The jailer, whole, with a stand-in for the VMM. Needs root, /dev/kvm and cgroups; boots
//! no guest.

mod cells;
mod input;
mod inside;
mod kills;
mod layers;
mod speed;
mod support;
