//! Signals to us, as events. They go to the program ([`super::session`] says when
//! they end the cell instead); SIGWINCH tells of the terminal's new size.

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGWINCH};
use signal_hook::iterator::Signals;
use std::io;
use std::thread;

/// Calls `heard` with each signal, from a thread of its own. From here on these
/// signals no longer end the process.
pub fn listen(mut heard: impl FnMut(i32) + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGWINCH])?;
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for signal in signals.forever() {
                heard(signal);
            }
        })
        .map(drop)
}
