//! The far ends of the guest's connections. The first byte that the guest sends says
//! what an end does: `e` sends back what comes, `s` holds the connection and reads
//! nothing more, `f` sends a mebibyte.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::thread;

/// Bytes of a flood.
const FLOOD: usize = 1 << 20;

/// Serves one end until the VMM closes the other.
pub fn serve(mut stream: UnixStream) {
    thread::spawn(move || {
        let mut order = [0];
        if stream.read_exact(&mut order).is_err() {
            return;
        }
        match &order {
            b"e" => {
                let mut bytes = [0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut bytes) {
                    if stream.write_all(&bytes[..count]).is_err() {
                        return;
                    }
                }
            }
            b"f" => {
                let _ = stream.write_all(&vec![b'f'; FLOOD]);
            }
            _ => {
                // Hang-up is always reported.
                let mut fds = [PollFd::new(stream.as_fd(), PollFlags::empty())];
                let _ = poll(&mut fds, PollTimeout::NONE);
            }
        }
    });
}
