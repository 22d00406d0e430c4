//! How the VM comes to its end: the first thread to say why wins.

use crate::event::{EventError, EventFd, event_fd};
use casemate_proto::control::Ended;
use std::sync::{Arc, OnceLock};

struct Shared {
    ended: OnceLock<Ended>,
    event: EventFd,
}

/// Handed to every part that can end the VM. All of them work on vCPU threads: the
/// part asks, and the vCPU's loop, which sees that, brings its things to an end and
/// tells main.
#[derive(Clone)]
pub struct Exit(Arc<Shared>);

impl Exit {
    /// Nothing has ended yet.
    pub fn new() -> Result<Self, EventError> {
        Ok(Self(Arc::new(Shared {
            ended: OnceLock::new(),
            event: event_fd()?,
        })))
    }

    /// Asks for the VM's end. Only the first reason counts.
    pub fn request(&self, why: Ended) {
        let _ = self.0.ended.set(why);
    }

    /// Why the VM is to end, once it is.
    pub fn reason(&self) -> Option<&Ended> {
        self.0.ended.get()
    }

    /// Wakes main, which ends the process.
    pub fn announce(&self) {
        // The counter cannot be full: each vCPU adds 1 once.
        let _ = self.0.event.write(1);
    }

    /// Becomes readable when the end is announced.
    pub fn event(&self) -> &EventFd {
        &self.0.event
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_wins() {
        let exit = Exit::new().unwrap();
        assert_eq!(exit.reason(), None);
        exit.request(Ended::TripleFault);
        exit.request(Ended::Reset);
        assert_eq!(exit.reason(), Some(&Ended::TripleFault));
        exit.announce();
        assert_eq!(exit.event().read().unwrap(), 1);
    }
}
