//! The audit log from outside: written, broken, and verified.

mod common;
mod crash;
mod edits;
mod keys;
mod placed;
mod writers;
