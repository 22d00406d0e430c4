//! The life of one run as a state machine: events in, actions out, no system calls.
//!
//! ```text
//!            Running          Hello            Started           Ended, outputs done
//! Starting ----------> (same) -------> Up(Exec) -------> Program --------------------> Over
//!     \__________________ Refused, Broken, Failed, a signal, the VM's end ____________/
//! ```
//! What the guest says is hostile: a message out of turn ends the run.

use super::outcome::{Over, Why};
use casemate_proto::agent::{self, Exec, FromInit, ToInit};
use casemate_proto::cell::{FromJailer, LayerReport, StartTimes, Usage, VmEnd};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGWINCH};
use std::time::{Duration, Instant};

/// A second SIGINT or SIGTERM within this time ends the cell.
const TWICE: Duration = Duration::from_secs(2);
/// How long outputs may stay open without a byte once the program has ended.
const DRAIN: Duration = Duration::from_secs(5);
/// How long the VM may outlive its init before it is stopped.
const ORPHAN: Duration = Duration::from_secs(5);
/// How long the supervisor has for a stop.
const STOP: Duration = Duration::from_secs(10);

/// What happens to a run.
#[derive(Debug)]
pub enum Event {
    /// The jailer said something.
    Jailer(FromJailer),
    /// The jailer's socket closed, or failed with these words.
    JailerGone(Option<String>),
    /// The guest's init said something.
    Agent(FromInit),
    /// The control stream closed, or failed with these words.
    AgentGone(Option<String>),
    /// An output ended; with words when bytes could not be delivered.
    OutputDone(Option<String>),
    /// A signal to us.
    Signal(i32),
}

/// What to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Tell the guest's init.
    Send(ToInit),
    /// Let standard input flow; a terminal goes raw.
    OpenInput,
    /// Tell the guest the terminal's size.
    SendSize,
    /// Tell the jailer to end the cell.
    Stop,
}

/// How far the guest is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Starting,
    Up,
    Program,
    Over,
}

/// When things happened, in microseconds of `CLOCK_MONOTONIC`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Marks {
    /// The jailer's and the VMM's part.
    pub start: Option<StartTimes>,
    /// Hello came.
    pub hello: Option<u64>,
    /// How long the init had run by then, by its own account.
    pub init_us: u64,
    /// The program started.
    pub started: Option<u64>,
    /// The program ended.
    pub ended: Option<u64>,
}

/// A run.
#[derive(Debug)]
pub struct State {
    exec: Option<Exec>,
    stage: Stage,
    outputs: usize,
    agent: bool,
    jailer: bool,
    last_signal: Option<Instant>,
    stopped: Option<Instant>,
    orphaned: Option<Instant>,
    idle: Option<(Instant, u64)>,
    given_up: bool,
    over: Over,
    /// When.
    pub marks: Marks,
    /// The confinement that was read back.
    pub confinement: Vec<LayerReport>,
    /// What was used.
    pub usage: Usage,
}

impl State {
    /// A run that has just been launched, with this many outputs.
    pub fn new(exec: Exec, outputs: usize) -> Self {
        let over = Over {
            workdir: String::from_utf8_lossy(&exec.workdir).into_owned(),
            ..Over::default()
        };
        Self {
            exec: Some(exec),
            stage: Stage::Starting,
            outputs,
            agent: true,
            jailer: true,
            last_signal: None,
            stopped: None,
            orphaned: None,
            idle: None,
            given_up: false,
            over,
            marks: Marks::default(),
            confinement: Vec::new(),
            usage: Usage::default(),
        }
    }

    /// Whether nothing more can come.
    pub fn is_over(&self) -> bool {
        self.given_up || (!self.jailer && !self.agent && self.outputs == 0)
    }

    /// Everything known of how it ended, so far.
    pub fn over(&self) -> &Over {
        &self.over
    }

    /// Takes one event. `at_us` is the time of the event as [`Marks`] count it.
    pub fn on(&mut self, event: Event, now: Instant, at_us: u64) -> Vec<Action> {
        match event {
            Event::Jailer(event) => self.on_jailer(event),
            Event::JailerGone(words) => {
                self.jailer = false;
                self.over.supervisor = words;
                Vec::new()
            }
            Event::Agent(message) => self.on_agent(message, now, at_us),
            Event::AgentGone(error) => {
                self.agent = false;
                match error {
                    Some(error) if self.over.vm.is_none() && self.jailer => {
                        self.violation(&error, now)
                    }
                    _ => {
                        self.orphaned = Some(now);
                        Vec::new()
                    }
                }
            }
            Event::OutputDone(error) => {
                self.outputs = self.outputs.saturating_sub(1);
                if self.over.output_error.is_none() {
                    self.over.output_error = error;
                }
                self.stop_when_drained(now)
            }
            Event::Signal(signal) => self.on_signal(signal, now),
        }
    }

    /// Called from time to time. `progress` changes whenever an output moved bytes
    /// or is held up by our own reader.
    pub fn on_tick(&mut self, now: Instant, progress: u64) -> Vec<Action> {
        let since = |then: Option<Instant>| then.map_or(Duration::ZERO, |t| now - t);
        let vm_gone = self.over.vm.is_some() || !self.jailer;
        let draining = self.stage == Stage::Over || vm_gone;
        match self.idle {
            Some((_, seen)) if draining && seen == progress => {}
            _ => self.idle = draining.then_some((now, progress)),
        }
        let idle = since(self.idle.map(|(then, _)| then)) > DRAIN;
        if since(self.stopped) > STOP || (vm_gone && idle) {
            self.given_up = !self.is_over();
            return Vec::new();
        }
        if self.stopped.is_none() && self.stage == Stage::Over && idle {
            return self.stop(now);
        }
        if self.stage < Stage::Over && !vm_gone && since(self.orphaned) > ORPHAN {
            return self.end(Why::InitLost, now);
        }
        Vec::new()
    }

    fn on_jailer(&mut self, event: FromJailer) -> Vec<Action> {
        match event {
            FromJailer::Running {
                confinement,
                times,
                vmm_rss_bytes,
                ..
            } => {
                self.confinement = confinement;
                self.marks.start = Some(times);
                self.usage.vmm_rss_bytes = vmm_rss_bytes;
            }
            FromJailer::Refused { message, .. } => {
                self.over.refused = Some(message);
            }
            FromJailer::Ended { end, usage } => {
                self.over.cut_short =
                    end == VmEnd::Timeout && (self.stage != Stage::Over || self.stopped.is_none());
                self.over.vm = Some(end);
                let rss = self.usage.vmm_rss_bytes;
                self.usage = usage;
                self.usage.vmm_rss_bytes = self.usage.vmm_rss_bytes.max(rss);
            }
        }
        Vec::new()
    }

    fn on_agent(&mut self, message: FromInit, now: Instant, at_us: u64) -> Vec<Action> {
        match (self.stage, message) {
            // We have made up our mind.
            (Stage::Over, _) => Vec::new(),
            (
                Stage::Starting,
                FromInit::Hello {
                    version, init_us, ..
                },
            ) => {
                if version != agent::VERSION {
                    let words = format!(
                        "it speaks version {version} of the protocol where {} is meant",
                        agent::VERSION
                    );
                    return self.violation(&words, now);
                }
                self.stage = Stage::Up;
                self.marks.hello = Some(at_us);
                self.marks.init_us = init_us;
                self.exec
                    .take()
                    .map(|exec| Action::Send(ToInit::Exec(exec)))
                    .into_iter()
                    .collect()
            }
            (Stage::Starting | Stage::Up, FromInit::Broken { message }) => {
                self.end(Why::GuestBroken(message), now)
            }
            (Stage::Up, FromInit::Started) => {
                self.stage = Stage::Program;
                self.marks.started = Some(at_us);
                vec![Action::OpenInput, Action::SendSize]
            }
            (Stage::Up, FromInit::Failed { error, errno }) => {
                self.end(Why::NotStarted(error, errno), now)
            }
            (Stage::Program, FromInit::Ended { status, oom_kills }) => {
                self.stage = Stage::Over;
                self.marks.ended = Some(at_us);
                self.over.oom_kills = oom_kills;
                self.over.why.get_or_insert(Why::Program(status));
                self.stop_when_drained(now)
            }
            (_, message) => {
                let words = format!("it said {} out of turn", name(&message));
                self.violation(&words, now)
            }
        }
    }

    fn on_signal(&mut self, signal: i32, now: Instant) -> Vec<Action> {
        match signal {
            SIGWINCH if self.stage == Stage::Program => vec![Action::SendSize],
            SIGINT | SIGTERM | SIGHUP | SIGQUIT => {
                let twice = self.last_signal.is_some_and(|then| now - then <= TWICE);
                let ends = matches!(signal, SIGINT | SIGTERM);
                if ends {
                    self.last_signal = Some(now);
                }
                // Signal numbers above fit in a byte.
                let number = signal as u8;
                if self.stage != Stage::Program || (ends && twice) {
                    return self.end(Why::Signal(number), now);
                }
                vec![Action::Send(ToInit::Signal(number))]
            }
            _ => Vec::new(),
        }
    }

    fn violation(&mut self, words: &str, now: Instant) -> Vec<Action> {
        self.end(Why::Violation(words.to_owned()), now)
    }

    /// The run is decided; the first reason stands, except that a signal to us
    /// ends even the wait for a program's last bytes.
    fn end(&mut self, why: Why, now: Instant) -> Vec<Action> {
        if self.stopped.is_none() && matches!(why, Why::Signal(_)) {
            self.over.why = Some(why);
        } else {
            self.over.why.get_or_insert(why);
        }
        self.stage = Stage::Over;
        self.stop(now)
    }

    fn stop_when_drained(&mut self, now: Instant) -> Vec<Action> {
        if self.stage == Stage::Over && self.outputs == 0 {
            self.stop(now)
        } else {
            Vec::new()
        }
    }

    fn stop(&mut self, now: Instant) -> Vec<Action> {
        if self.stopped.is_some() || self.over.vm.is_some() || !self.jailer {
            return Vec::new();
        }
        self.stopped = Some(now);
        vec![Action::Stop]
    }
}

fn name(message: &FromInit) -> &'static str {
    match message {
        FromInit::Hello { .. } => "Hello",
        FromInit::Broken { .. } => "Broken",
        FromInit::Started => "Started",
        FromInit::Failed { .. } => "Failed",
        FromInit::Ended { .. } => "Ended",
    }
}

#[cfg(test)]
#[path = "state_test.rs"]
mod tests;
