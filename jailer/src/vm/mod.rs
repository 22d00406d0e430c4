//! What is the VMM's alone: its fds, what its launch may ask for, and its policy.

pub mod launch;
pub mod passed;
pub mod table;

pub use launch::{check, policy};
