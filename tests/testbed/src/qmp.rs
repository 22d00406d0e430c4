//! QEMU's control protocol: JSON lines over a socket.

use crate::error::{BedError, Result};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// A control connection that has passed the greeting.
pub struct Qmp {
    reader: BufReader<UnixStream>,
}

impl Qmp {
    /// Waits for QEMU's greeting, so its disks are open when this returns.
    pub fn new(stream: UnixStream) -> Result<Self> {
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .map_err(|e| BedError::Qmp(format!("cannot set a time limit: {e}")))?;
        let mut qmp = Self {
            reader: BufReader::new(stream),
        };
        qmp.line()?;
        qmp.call("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Runs one command and returns its result; events in between are skipped.
    pub fn call(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let mut request = json!({ "execute": command, "arguments": arguments }).to_string();
        request.push('\n');
        self.reader
            .get_mut()
            .write_all(request.as_bytes())
            .map_err(|e| BedError::Qmp(format!("cannot send {command}: {e}")))?;
        loop {
            let mut answer = self.line()?;
            if let Some(error) = answer.get("error") {
                return Err(BedError::Qmp(format!("{command}: {error}")));
            }
            if answer.get("return").is_some() {
                return Ok(answer["return"].take());
            }
        }
    }

    /// Saves the stopped machine, except its memory (a shared file), to `state`.
    pub fn save(&mut self, state: &Path) -> Result<()> {
        self.call("stop", json!({}))?;
        self.ignore_shared_memory()?;
        let uri = format!("exec:cat > '{}'", state.display());
        self.call("migrate", json!({ "uri": uri }))?;
        loop {
            let info = self.call("query-migrate", json!({}))?;
            match info["status"].as_str() {
                Some("completed") => return Ok(()),
                Some("failed" | "cancelled") => {
                    return Err(BedError::Qmp(format!("saving failed: {info}")));
                }
                _ => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// Restores what [`Qmp::save`] wrote and lets the machine run.
    pub fn restore(&mut self, state: &Path) -> Result<()> {
        self.ignore_shared_memory()?;
        let uri = format!("exec:cat '{}'", state.display());
        self.call("migrate-incoming", json!({ "uri": uri }))?;
        loop {
            let status = self.call("query-status", json!({}))?;
            match status["status"].as_str() {
                Some("inmigrate") => std::thread::sleep(Duration::from_millis(2)),
                Some("running") => return Ok(()),
                _ => return self.call("cont", json!({})).map(drop),
            }
        }
    }

    fn ignore_shared_memory(&mut self) -> Result<()> {
        let on = json!([{ "capability": "x-ignore-shared", "state": true }]);
        self.call("migrate-set-capabilities", json!({ "capabilities": on }))
            .map(drop)
    }

    fn line(&mut self) -> Result<Value> {
        let mut line = String::new();
        let count = self
            .reader
            .read_line(&mut line)
            .map_err(|e| BedError::Qmp(format!("no answer: {e}")))?;
        if count == 0 {
            return Err(BedError::Qmp("QEMU closed the connection".into()));
        }
        serde_json::from_str(&line).map_err(|e| BedError::Qmp(format!("not JSON ({e}): {line}")))
    }
}
