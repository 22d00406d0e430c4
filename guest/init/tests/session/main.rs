//! The session with real programs, over Unix sockets in place of vsock.

mod ends;
mod host;
mod starts;
mod streams;
mod terminal;
