//! One thread a device, made before the guest runs and confined before it sees
//! anything of the guest.
//!
//! The thread sleeps in one epoll instance: on a command from the transport, on
//! a notification of each queue (ioeventfd), on the device's own fds. All are
//! edge-triggered and none is ever read, so that a notification costs the worker
//! one system call, and one that comes while parked costs one wake-up and no more.

use super::device::{Active, Identity, VirtioDevice};
use super::interrupt::Interrupt;
use crate::event::{EventError, EventFd, epoll, event_fd};
use crate::unless_off::unless_off;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags, EpollTimeout};
use std::error::Error;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use thiserror::Error;

/// Installs the calling thread's seccomp filter (and whatever else confines it).
pub type Confine = Box<dyn FnOnce() -> Result<(), Box<dyn Error + Send + Sync>> + Send>;

/// Why a worker could not be made.
#[derive(Debug, Error)]
pub enum WorkerError {
    /// No event fd.
    #[error("device {name}: {source}")]
    Event {
        /// The device.
        name: String,
        /// What failed.
        source: EventError,
    },
    /// No thread, or no watch on an fd.
    #[error("device {name}: cannot start its thread: {source} (see the limit on processes)")]
    Start {
        /// The device.
        name: String,
        /// What failed.
        source: io::Error,
    },
    /// The thread is not confined, and therefore ended.
    #[error("device {name}: cannot confine its thread: {source}")]
    Confine {
        /// The device.
        name: String,
        /// What failed.
        source: Box<dyn Error + Send + Sync>,
    },
}

/// Set while the transport waits for the device to let go of its queues.
#[derive(Debug, Clone, Default)]
pub struct Halt(Arc<AtomicBool>);

impl Halt {
    /// Whether to stop at the next request's boundary.
    pub fn requested(&self) -> bool {
        unless_off!("reset-halts", self.0.load(Ordering::Relaxed))
    }
}

/// A device's own fd that is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    /// The token it was watched with.
    pub token: u32,
    /// epoll(7)'s events.
    pub events: EpollFlags,
}

/// When a device wants its turn again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Next {
    /// When an event comes.
    Wait,
    /// After the events that are there now: it has more to do, and is kicked again.
    Again,
}

/// Tokens of the worker's own fds lie beyond those of the device's.
const COMMAND: u64 = u64::MAX;
const KICK: u64 = 1 << 32;

/// What the worker waits on.
#[derive(Debug)]
pub struct Events(Epoll);

impl Events {
    /// Watches an fd of the device's, edge-triggered. Hang-ups are always reported.
    pub fn watch(&self, fd: BorrowedFd<'_>, token: u32, what: EpollFlags) -> io::Result<()> {
        self.add(fd, token.into(), what)
    }

    /// Changes what is watched for; what is ready already is reported again.
    pub fn rewatch(&self, fd: BorrowedFd<'_>, token: u32, what: EpollFlags) -> io::Result<()> {
        let mut event = EpollEvent::new(what | EpollFlags::EPOLLET, token.into());
        Ok(self.0.modify(fd, &mut event)?)
    }

    /// Ends the watch.
    pub fn unwatch(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        Ok(self.0.delete(fd)?)
    }

    /// Watches nothing yet; for devices that are driven without a worker.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn new() -> Result<Self, EventError> {
        Ok(Self(epoll()?))
    }

    /// What is ready now.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn poll(&self) -> Vec<Ready> {
        let mut events = [EpollEvent::empty(); 16];
        let count = self.0.wait(&mut events, EpollTimeout::ZERO).unwrap_or(0);
        let ready = |event: &EpollEvent| Ready {
            token: event.data() as u32,
            events: event.events(),
        };
        events[..count].iter().map(ready).collect()
    }

    fn add(&self, fd: BorrowedFd<'_>, data: u64, what: EpollFlags) -> io::Result<()> {
        Ok(self
            .0
            .add(fd, EpollEvent::new(what | EpollFlags::EPOLLET, data))?)
    }
}

enum Command {
    Activate(Box<Active>),
    Reset,
    Stop,
}

/// The transport's handle to a device's thread. Dropping it ends the thread.
#[derive(Debug)]
pub struct Worker {
    name: String,
    commands: Sender<Command>,
    /// The worker's answer to `Reset`.
    parked: Receiver<()>,
    wake: EventFd,
    kicks: Vec<EventFd>,
    halt: Halt,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts the device's thread, named `name` (at most 15 bytes), and waits
    /// until it is confined and parked.
    pub fn start<D: VirtioDevice>(
        name: &str,
        mut device: D,
        interrupt: Interrupt,
        confine: Confine,
    ) -> Result<(Self, Identity), WorkerError> {
        let event = |source| WorkerError::Event {
            name: name.to_owned(),
            source,
        };
        let start = |source| WorkerError::Start {
            name: name.to_owned(),
            source,
        };
        let identity = device.identity();
        let wake = event_fd().map_err(event)?;
        let kicks = identity.queue_sizes.iter().map(|_| event_fd());
        let kicks = kicks.collect::<Result<Vec<_>, _>>().map_err(event)?;
        let events = Events(epoll().map_err(event)?);

        for (event, data) in kicks.iter().zip(KICK..).chain([(&wake, COMMAND)]) {
            // SAFETY: the eventfd is open as long as `event` lives.
            let fd = unsafe { BorrowedFd::borrow_raw(event.as_raw_fd()) };
            events.add(fd, data, EpollFlags::EPOLLIN).map_err(start)?;
        }

        let (commands, orders) = channel();
        let (park, parked) = channel();
        let (confined, outcome) = channel();
        let halt = Halt::default();
        let run = {
            let halt = halt.clone();
            move || {
                if let Err(error) = confine() {
                    let _ = confined.send(Err(Failure::Confine(error)));
                    return;
                }
                if let Err(error) = device.started(&events) {
                    let _ = confined.send(Err(Failure::Start(error)));
                    return;
                }
                let _ = confined.send(Ok(()));
                drop(confined);
                Loop {
                    device,
                    events,
                    orders,
                    park,
                    interrupt,
                    halt,
                    active: false,
                    again: None,
                }
                .run();
            }
        };
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(run)
            .map_err(start)?;
        match outcome.recv() {
            Ok(Ok(())) => {}
            Ok(Err(Failure::Start(source))) => return Err(start(source)),
            Ok(Err(Failure::Confine(source))) => {
                return Err(WorkerError::Confine {
                    name: name.to_owned(),
                    source,
                });
            }
            Err(_) => return Err(start(io::Error::other("the thread has died"))),
        }
        let thread = Some(thread);
        Ok((
            Self {
                name: name.to_owned(),
                commands,
                parked,
                wake,
                kicks,
                halt,
                thread,
            },
            identity,
        ))
    }

    /// The thread's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The eventfd of each queue: what KVM signals when the guest notifies it.
    pub fn kicks(&self) -> &[EventFd] {
        &self.kicks
    }

    /// The worker's side of a halt request.
    pub fn halt(&self) -> Halt {
        self.halt.clone()
    }

    /// Gives the device its queues.
    pub fn activate(&self, active: Active) {
        self.command(Command::Activate(Box::new(active)));
    }

    /// Takes the queues back: returns when the device holds none and has no I/O
    /// in flight. Waits for the request that is being worked on, at most.
    pub fn reset(&self) {
        self.halt.0.store(true, Ordering::Relaxed);
        self.command(Command::Reset);
        // Without a worker nobody holds the queues either.
        let _ = self.parked.recv();
    }

    fn command(&self, command: Command) {
        if self.commands.send(command).is_ok() {
            let _ = self.wake.write(1);
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.halt.0.store(true, Ordering::Relaxed);
        self.command(Command::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

enum Failure {
    Confine(Box<dyn Error + Send + Sync>),
    Start(io::Error),
}

/// The thread's own side.
struct Loop<D> {
    device: D,
    events: Events,
    orders: Receiver<Command>,
    park: Sender<()>,
    interrupt: Interrupt,
    halt: Halt,
    /// The device holds its queues.
    active: bool,
    /// The device has more to do: the kick to repeat.
    again: Option<u64>,
}

impl<D: VirtioDevice> Loop<D> {
    fn run(mut self) {
        let mut events = [EpollEvent::empty(); 16];
        loop {
            let again = self.again.take();
            let timeout = match again {
                Some(_) => EpollTimeout::ZERO,
                None => EpollTimeout::NONE,
            };
            let count = match self.events.0.wait(&mut events, timeout) {
                Ok(count) => count,
                Err(Errno::EINTR) => continue,
                // Only a fault of ours (a bad fd or pointer) can end the wait.
                Err(errno) => panic!("epoll_wait of a device's worker: {errno}"),
            };
            for event in &events[..count] {
                let kept_on = match event.data() {
                    COMMAND => self.obey(),
                    data => {
                        self.work(data, event.events());
                        true
                    }
                };
                if !kept_on {
                    return;
                }
            }
            if let Some(data) = again
                && self.again.is_none()
            {
                self.work(data, EpollFlags::empty());
            }
        }
    }

    fn work(&mut self, data: u64, events: EpollFlags) {
        if !self.active {
            return;
        }
        let outcome = match u32::try_from(data) {
            Ok(token) => self.device.ready(Ready { token, events }, &self.events),
            Err(_) => self.device.kicked((data - KICK) as usize, &self.events),
        };
        match outcome {
            Ok(Next::Wait) => {}
            Ok(Next::Again) => self.again = Some(data.max(KICK)),
            Err(_) if unless_off!("broken-queue", true) => self.broken(),
            Err(_) => self.again = Some(data.max(KICK)),
        }
    }

    /// Carries out what the transport ordered; false at the end.
    fn obey(&mut self) -> bool {
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Command::Activate(active) => {
                    let queues = active.queues.len();
                    self.device.activate(*active);
                    self.active = true;
                    for queue in 0..queues {
                        self.work(KICK + queue as u64, EpollFlags::empty());
                    }
                }
                Command::Reset => {
                    self.let_go();
                    self.halt.0.store(false, Ordering::Relaxed);
                    let _ = self.park.send(());
                }
                Command::Stop => {
                    self.let_go();
                    return false;
                }
            }
        }
        true
    }

    fn let_go(&mut self) {
        if std::mem::take(&mut self.active) {
            self.device.reset(&self.events);
        }
    }

    fn broken(&mut self) {
        self.let_go();
        self.interrupt.needs_reset();
    }
}
