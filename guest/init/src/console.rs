//! Messages on the guest's console. The host treats them as untrusted text.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::OnceLock;

static CONSOLE: OnceLock<File> = OnceLock::new();

/// Opens `/dev/console` for [`say`]; until then, and where there is none, messages go to fd 2.
pub fn open() {
    let console = OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_NOCTTY)
        .open("/dev/console");
    if let Ok(console) = console {
        // A second call keeps the first console.
        let _ = CONSOLE.set(console);
    }
}

/// Writes one line. A console that fails is no reason to stop.
pub fn say(message: &str) {
    let line = format!("casemate-init: {}\r\n", message.replace('\n', " "));
    let _ = match CONSOLE.get() {
        Some(mut console) => console.write_all(line.as_bytes()),
        None => io::stderr().write_all(line.as_bytes()),
    };
}
