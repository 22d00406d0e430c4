//! A run from its launch to its end: threads that wait, and one loop that decides.
//!
//! | thread | waits for |
//! |---|---|
//! | main | events of all others; drives [`state::State`] |
//! | `jailer` | messages of the supervisor |
//! | `agent` | frames of the guest's init |
//! | `to-agent` | frames to send (a guest that does not read stops nobody else) |
//! | `stdin`, `stdout`, `stderr` | bytes ([`super::relay`]) |
//! | `console`, `log` | bytes ([`super::capture`]) |
//! | `signals` | signals to us |

pub mod outcome;
pub mod state;

use super::relay::{self, Progress};
use super::terminal::{self, Terminal};
use super::{capture::Capture, signals};
use crate::clock::now_us;
use casemate_jailer::client::{ClientError, Jailer};
use casemate_proto::agent::{self, FromInit, ToInit};
use casemate_proto::cell::FromJailer;
use state::{Action, Event, State};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

/// Events under way; a guest that says too much waits.
const EVENTS: usize = 64;
/// How often time limits are looked at.
const TICK: Duration = Duration::from_millis(250);

/// Who holds the cell.
pub trait Supervisor: Send + Sync + 'static {
    /// Waits for its next word; `None` when it is gone.
    fn next(&self) -> Result<Option<FromJailer>, ClientError>;
    /// Asks for the cell's end.
    fn stop(&self) -> Result<(), ClientError>;
}

impl Supervisor for Jailer {
    fn next(&self) -> Result<Option<FromJailer>, ClientError> {
        Self::next(self)
    }
    fn stop(&self) -> Result<(), ClientError> {
        Self::stop(self)
    }
}

/// Our ends of what leads to the guest.
#[derive(Debug)]
pub struct Wires {
    /// Frames to and from the init.
    pub control: UnixStream,
    /// The program's standard input.
    pub stdin: UnixStream,
    /// The program's standard output.
    pub stdout: UnixStream,
    /// The program's standard error; absent with a terminal.
    pub stderr: Option<UnixStream>,
    /// What the guest's kernel prints.
    pub console: File,
    /// What the VMM prints.
    pub log: File,
}

/// The user's ends.
#[derive(Debug)]
pub struct Streams {
    /// Our standard input.
    pub stdin: OwnedFd,
    /// Our standard output.
    pub stdout: OwnedFd,
    /// Our standard error.
    pub stderr: OwnedFd,
    /// Whether the input is a terminal that the program gets.
    pub tty: bool,
    /// Where the console's text goes besides.
    pub console: Option<File>,
}

/// How it ended.
#[derive(Debug)]
pub struct Finished {
    /// All that is known.
    pub state: State,
    /// The end of the guest's console.
    pub console: String,
    /// The end of the VMM's log.
    pub log: String,
}

/// Runs it to its end.
pub fn run<S: Supervisor>(
    supervisor: &Arc<S>,
    wires: Wires,
    streams: Streams,
    mut state: State,
) -> io::Result<Finished> {
    let (events, happened) = mpsc::sync_channel(EVENTS);
    let console = Capture::start("console", wires.console, streams.console)?;
    let log = Capture::start("log", wires.log, None)?;
    watch_jailer(supervisor, &events)?;
    let to_agent = talk_to_agent(wires.control, &events)?;
    let size_of = streams.stdin.try_clone()?;
    let mut outputs = vec![output("stdout", wires.stdout, streams.stdout, &events)?];
    if let Some(from) = wires.stderr {
        outputs.push(output("stderr", from, streams.stderr, &events)?);
    }
    let heard = events.clone();
    signals::listen(move |signal| {
        let _ = heard.send(Event::Signal(signal));
    })?;

    let mut input = Some((streams.stdin, wires.stdin));
    let mut raw = None;
    let mut ticked = Instant::now();
    while !state.is_over() {
        let mut actions = match happened.recv_timeout(TICK) {
            Ok(event) => state.on(event, Instant::now(), now_us()),
            Err(RecvTimeoutError::Timeout) => Vec::new(),
            // Not while `events` lives, which it does.
            Err(RecvTimeoutError::Disconnected) => break,
        };
        // By the clock, so that a flood of events cannot put the limits off.
        if ticked.elapsed() >= TICK {
            ticked = Instant::now();
            actions.extend(state.on_tick(ticked, sum(&outputs)));
        }
        for action in actions {
            match action {
                Action::Send(message) => {
                    let _ = to_agent.send(message);
                }
                Action::OpenInput => {
                    if let Some((from, to)) = input.take() {
                        if streams.tty {
                            raw = Some(Terminal::raw(&from).map_err(io::Error::other)?);
                        }
                        relay::input(from, to)?;
                    }
                }
                Action::SendSize if streams.tty => {
                    let _ = to_agent.send(ToInit::Resize(terminal::size(&size_of)));
                }
                Action::SendSize => {}
                // A socket that is closed says so to the thread that reads it.
                Action::Stop => {
                    let _ = supervisor.stop();
                }
            }
        }
    }
    drop(raw);
    Ok(Finished {
        state,
        console: console.finish(),
        log: log.finish(),
    })
}

/// Changes with each step of an output, and with every tick while one of them
/// waits for our own reader.
fn sum(outputs: &[Arc<Progress>]) -> u64 {
    let states = outputs.iter().map(|progress| progress.state());
    let held_up = states.clone().any(|state| state % 2 == 1);
    let moved = states.fold(0, u64::wrapping_add);
    if held_up {
        moved.wrapping_mul(31).wrapping_add(now_us() | 1)
    } else {
        moved.wrapping_mul(31)
    }
}

fn watch_jailer<S: Supervisor>(supervisor: &Arc<S>, events: &SyncSender<Event>) -> io::Result<()> {
    let (supervisor, events) = (Arc::clone(supervisor), events.clone());
    thread::Builder::new()
        .name("jailer".to_owned())
        .spawn(move || {
            let end = loop {
                match supervisor.next() {
                    Ok(Some(event)) => {
                        let _ = events.send(Event::Jailer(event));
                    }
                    Ok(None) => break None,
                    Err(e) => break Some(e.to_string()),
                }
            };
            drop(supervisor);
            let _ = events.send(Event::JailerGone(end));
        })
        .map(drop)
}

fn talk_to_agent(
    control: UnixStream,
    events: &SyncSender<Event>,
) -> io::Result<mpsc::Sender<ToInit>> {
    let (to_agent, messages) = mpsc::channel();
    let mut writer = control.try_clone()?;
    thread::Builder::new()
        .name("to-agent".to_owned())
        .spawn(move || {
            for message in messages {
                // The reader below sees the stream's end and tells of it.
                if agent::write_frame(&mut writer, &message, agent::MAX_TO_INIT).is_err() {
                    return;
                }
            }
        })?;
    let events = events.clone();
    let mut reader = control;
    thread::Builder::new()
        .name("agent".to_owned())
        .spawn(move || {
            let end = loop {
                match agent::read_frame::<FromInit>(&mut reader, agent::MAX_FROM_INIT) {
                    Ok(Some(message)) => {
                        let _ = events.send(Event::Agent(message));
                    }
                    Ok(None) => break None,
                    Err(agent::FrameError::Io(e)) if torn(&e) => break None,
                    Err(e) => break Some(e.to_string()),
                }
            };
            let _ = events.send(Event::AgentGone(end));
        })?;
    Ok(to_agent)
}

/// Whether a stream ended because its other end was killed.
fn torn(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
    )
}

fn output(
    name: &'static str,
    from: UnixStream,
    to: OwnedFd,
    events: &SyncSender<Event>,
) -> io::Result<Arc<Progress>> {
    let events = events.clone();
    relay::output(name, from, to, move |result| {
        let error = result.err().map(|e| {
            let stream = name.replace("std", "standard ").replace("out", "output");
            let stream = stream.replace("err", "error");
            format!("{stream}: {e}: the program's output is incomplete")
        });
        let _ = events.send(Event::OutputDone(error));
    })
}

#[cfg(test)]
#[path = "session/session_test.rs"]
mod tests;
