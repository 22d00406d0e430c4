//! A device driven without its worker thread: every step happens on the caller's
//! thread and in its order, so that a fuzz target's finds happen again.

use super::super::Mem;
use super::super::device::{Active, VirtioDevice};
use super::super::interrupt::Interrupt;
use super::super::queue::{Broken, Layout, Placement, Progress, Virtqueue};
use super::super::worker::{Events, Halt, Next, Ready};
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;

/// More turns in a row, without anything from the guest, are a loop.
const MOST_TURNS: u32 = 10_000;

/// A device, as its worker holds it.
pub struct Direct<D: VirtioDevice> {
    device: D,
    mem: Mem,
    events: Events,
    interrupt: Interrupt,
    active: bool,
}

impl<D: VirtioDevice> Direct<D> {
    /// A parked device.
    pub fn new(mut device: D, mem: Mem) -> Self {
        let events = Events::new().expect("an epoll instance");
        device.started(&events).expect("a device that starts");
        Self {
            device,
            mem,
            events,
            interrupt: Interrupt::new().expect("an eventfd"),
            active: false,
        }
    }

    /// Whether the guest drives the device: it was started, and is not broken.
    pub fn is_active(&self) -> bool {
        self.active
    }

    /// The guest's reset, then its start with queues of which each lies at its
    /// place; false when a place is no good.
    pub fn start(&mut self, features: u64, places: &[Placement]) -> bool {
        self.reset();
        let identity = self.device.identity();
        let features = features & identity.features;
        let event_idx = features & 1 << VIRTIO_RING_F_EVENT_IDX != 0;
        let queues = identity.queue_sizes.iter().zip(places).map(|(&max, &at)| {
            let layout = Layout::new(&self.mem, max, at).ok()?;
            Some(Virtqueue::new(layout, event_idx, Progress::default()))
        });
        let queues: Option<Vec<_>> = queues.collect();
        let Some(queues) = queues.filter(|q| q.len() == identity.queue_sizes.len()) else {
            return false;
        };
        self.device.activate(Active {
            mem: self.mem.clone(),
            queues,
            interrupt: self.interrupt.clone(),
            features,
            halt: Halt::default(),
        });
        self.active = true;
        for queue in 0..identity.queue_sizes.len() {
            self.kick(queue);
        }
        true
    }

    /// The guest's reset.
    pub fn reset(&mut self) {
        if std::mem::take(&mut self.active) {
            self.device.reset(&self.events);
        }
        self.interrupt.reset();
    }

    /// The guest's notification of a queue; the device works until it waits.
    pub fn kick(&mut self, queue: usize) {
        for _ in 0..MOST_TURNS {
            if !self.active {
                return;
            }
            let next = self.device.kicked(queue, &self.events);
            if !self.goes_on(next) {
                return;
            }
        }
        panic!("the device does not come to rest");
    }

    /// Tells the device of the fds that it watches and that are ready, until none is.
    pub fn poll(&mut self) {
        for _ in 0..MOST_TURNS {
            let ready = self.events.poll();
            if ready.is_empty() {
                return;
            }
            ready.into_iter().for_each(|ready| self.ready(ready));
        }
        panic!("the device's fds do not come to rest");
    }

    /// Tells the device of one of its fds.
    pub fn ready(&mut self, ready: Ready) {
        if self.active {
            let next = self.device.ready(ready, &self.events);
            if self.goes_on(next) {
                self.kick(0);
            }
        }
    }

    fn goes_on(&mut self, next: Result<Next, Broken>) -> bool {
        match next {
            Ok(next) => next == Next::Again,
            Err(_) => {
                self.active = false;
                self.device.reset(&self.events);
                self.interrupt.needs_reset();
                false
            }
        }
    }
}
