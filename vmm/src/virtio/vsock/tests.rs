//! The device as a guest sees it, and its sockets as the host does.

mod guest;
mod hostile;
mod late;
mod streams;
