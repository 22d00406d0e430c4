//! The user's terminal during `-t`: raw, and put back on every way out.

use casemate_proto::agent::TtySize;
use nix::sys::termios::{self, SetArg, Termios};
use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Mutex, Once, PoisonError};
use thiserror::Error;

/// What can go wrong with a terminal.
#[derive(Debug, Error)]
pub enum TerminalError {
    /// Standard input is something else.
    #[error("-t needs a terminal on standard input, and there is none: leave -t out")]
    NotATerminal,
    /// The terminal refuses.
    #[error("the terminal on standard input cannot be set up: {0}; leave -t out")]
    Refused(#[source] io::Error),
}

/// The settings to put back, and where. Outside of [`Terminal`] because a panic
/// ends the process without dropping anything.
static BEFORE: Mutex<Option<(File, Termios)>> = Mutex::new(None);

/// A terminal in raw mode. Dropping it puts the settings back.
#[derive(Debug)]
pub struct Terminal(());

impl Terminal {
    /// Makes the terminal on `input` raw.
    pub fn raw(input: impl AsFd) -> Result<Self, TerminalError> {
        check(&input)?;
        let refused = |e: nix::Error| TerminalError::Refused(e.into());
        let file: File = input
            .as_fd()
            .try_clone_to_owned()
            .map_err(TerminalError::Refused)?
            .into();
        let before = termios::tcgetattr(&file).map_err(refused)?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        restore_on_panic();
        let mut slot = BEFORE.lock().unwrap_or_else(PoisonError::into_inner);
        termios::tcsetattr(&file, SetArg::TCSANOW, &raw).map_err(refused)?;
        *slot = Some((file, before));
        Ok(Self(()))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        restore();
    }
}

/// Puts the settings back, if any were changed.
fn restore() {
    let mut slot = BEFORE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((file, before)) = slot.take() {
        // At once: to drain would wait for a terminal that nobody reads. One that
        // is gone needs no settings.
        let _ = termios::tcsetattr(&file, SetArg::TCSANOW, &before);
    }
}

fn restore_on_panic() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            restore();
            usual(info);
        }));
    });
}

/// Whether there is a terminal at all.
pub fn check(input: &impl AsFd) -> Result<(), TerminalError> {
    if input.as_fd().is_terminal() {
        Ok(())
    } else {
        Err(TerminalError::NotATerminal)
    }
}

nix::ioctl_read_bad!(
    /// `TIOCGWINSZ` (ioctl_tty(2)).
    get_size,
    libc::TIOCGWINSZ,
    libc::winsize
);

/// The terminal's size; 24 by 80 where it does not say.
pub fn size(input: &impl AsFd) -> TtySize {
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: TIOCGWINSZ writes one `winsize`, which `size` is.
    let asked = unsafe { get_size(input.as_fd().as_raw_fd(), &mut size) };
    match asked {
        Ok(_) if size.ws_row > 0 && size.ws_col > 0 => TtySize {
            rows: size.ws_row,
            cols: size.ws_col,
        },
        _ => TtySize { rows: 24, cols: 80 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::pty::openpty;
    use nix::sys::termios::LocalFlags;

    #[test]
    fn raw_and_back() {
        let pty = openpty(
            &libc::winsize {
                ws_row: 50,
                ws_col: 132,
                ws_xpixel: 0,
                ws_ypixel: 0,
            },
            None,
        )
        .unwrap();
        let cooked = |fd: &_| {
            termios::tcgetattr(fd)
                .unwrap()
                .local_flags
                .contains(LocalFlags::ICANON | LocalFlags::ECHO)
        };
        assert!(cooked(&pty.slave));
        let terminal = Terminal::raw(&pty.slave).unwrap();
        assert!(!cooked(&pty.slave));
        assert_eq!(
            size(&pty.slave),
            TtySize {
                rows: 50,
                cols: 132
            }
        );
        drop(terminal);
        assert!(cooked(&pty.slave));
    }

    #[test]
    fn a_pipe_is_no_terminal() {
        let (r, _w) = nix::unistd::pipe().unwrap();
        assert!(matches!(
            Terminal::raw(&r),
            Err(TerminalError::NotATerminal)
        ));
    }
}
