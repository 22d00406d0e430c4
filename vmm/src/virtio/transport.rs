//! What all transports share: features, queues, status, and the hand-over to
//! the device. The registers in front of it differ ([`super::mmio`]).
//!
//! Every setter takes whatever the guest wrote, and returns whether it had an
//! effect: a write at the wrong time or out of range has none.

use super::Mem;
use super::device::{Active, Identity, VirtioDevice};
use super::interrupt::Interrupt;
use super::queue::{Layout, Placement, Progress, Virtqueue};
use super::state::{DriverStatus, Phase, StatusWrite};
use super::worker::{Confine, Worker, WorkerError};
use crate::event::EventFd;
use crate::unless_off::unless_off;
use virtio_bindings::virtio_config::{VIRTIO_CONFIG_S_NEEDS_RESET, VIRTIO_F_VERSION_1};
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;

/// A queue as its driver sets it up.
#[derive(Debug)]
struct QueueSetup {
    max: u16,
    placement: Placement,
    /// Present when ready: judged, and frozen since.
    layout: Option<Layout>,
}

impl QueueSetup {
    fn new(max: u16) -> Self {
        let placement = Placement {
            size: max.into(),
            ..Placement::default()
        };
        Self {
            max,
            placement,
            layout: None,
        }
    }
}

/// One of a queue's registers that are writable until it is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueField {
    /// Number of entries.
    Size,
    /// Lower half of the descriptor table's address.
    DescriptorsLow,
    /// Upper half.
    DescriptorsHigh,
    /// Lower half of the available ring's address.
    AvailableLow,
    /// Upper half.
    AvailableHigh,
    /// Lower half of the used ring's address.
    UsedLow,
    /// Upper half.
    UsedHigh,
}

/// A device's transport, without registers.
#[derive(Debug)]
pub struct Transport {
    identity: Identity,
    mem: Mem,
    interrupt: Interrupt,
    worker: Worker,
    status: DriverStatus,
    driver_features: u64,
    selected: u32,
    queues: Vec<QueueSetup>,
}

impl Transport {
    /// Starts the device's worker thread `name`; returns when it is confined.
    pub fn new<D: VirtioDevice>(
        name: &str,
        device: D,
        mem: Mem,
        confine: Confine,
    ) -> Result<Self, WorkerError> {
        let interrupt = Interrupt::new().map_err(|source| WorkerError::Event {
            name: name.to_owned(),
            source,
        })?;
        let (worker, identity) = Worker::start(name, device, interrupt.clone(), confine)?;
        let queues = identity
            .queue_sizes
            .iter()
            .map(|&max| QueueSetup::new(max))
            .collect();
        Ok(Self {
            identity,
            mem,
            interrupt,
            worker,
            status: DriverStatus::default(),
            driver_features: 0,
            selected: 0,
            queues,
        })
    }

    /// What the guest can learn of the device.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The device's interrupt.
    pub fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }

    /// The eventfd of each queue, in order, to be signalled when the guest notifies it.
    pub fn kicks(&self) -> &[EventFd] {
        self.worker.kicks()
    }

    /// The name of the device's thread.
    pub fn name(&self) -> &str {
        self.worker.name()
    }

    /// The status register.
    pub fn status(&self) -> u32 {
        let broken = self.interrupt.is_broken();
        self.status.bits()
            | if broken {
                VIRTIO_CONFIG_S_NEEDS_RESET
            } else {
                0
            }
    }

    /// A write to the status register. A reset returns when the device has
    /// given up its queues.
    pub fn write_status(&mut self, value: u32) -> bool {
        match self.status.judge(value) {
            StatusWrite::Refused => return false,
            StatusWrite::Same => {}
            StatusWrite::Fail => self.status.fail(),
            StatusWrite::Reset => self.reset(),
            StatusWrite::Step(Phase::FeaturesOk) if !self.features_acceptable() => return false,
            StatusWrite::Step(phase) => {
                self.status.step(phase);
                if phase == Phase::DriverOk {
                    self.activate();
                }
            }
        }
        true
    }

    /// The half of the offered features that the driver selected.
    pub fn device_features(&self, half: u32) -> u32 {
        match half {
            0 => self.identity.features as u32,
            1 => (self.identity.features >> 32) as u32,
            _ => 0,
        }
    }

    /// The driver's choice of features, until it says FEATURES_OK.
    pub fn write_driver_features(&mut self, half: u32, value: u32) -> bool {
        if unless_off!("features-frozen", !self.status.is(Phase::Driver)) || half > 1 {
            return false;
        }
        set_half(&mut self.driver_features, half == 1, value);
        true
    }

    /// Which queue the queue registers mean. May name none.
    pub fn select_queue(&mut self, index: u32) {
        self.selected = index;
    }

    /// Largest size of the selected queue; 0 when there is none.
    pub fn queue_max(&self) -> u16 {
        self.queue().map_or(0, |q| q.max)
    }

    /// Whether the selected queue is ready.
    pub fn queue_ready(&self) -> bool {
        self.queue().is_some_and(|q| q.layout.is_some())
    }

    /// Writes a register of the selected queue.
    pub fn write_queue(&mut self, field: QueueField, value: u32) -> bool {
        let Some(queue) = self.queue_in_setup() else {
            return false;
        };
        if queue.layout.is_some() {
            return false;
        }
        let place = &mut queue.placement;
        match field {
            QueueField::Size => place.size = value,
            QueueField::DescriptorsLow => set_half(&mut place.descriptors, false, value),
            QueueField::DescriptorsHigh => set_half(&mut place.descriptors, true, value),
            QueueField::AvailableLow => set_half(&mut place.available, false, value),
            QueueField::AvailableHigh => set_half(&mut place.available, true, value),
            QueueField::UsedLow => set_half(&mut place.used, false, value),
            QueueField::UsedHigh => set_half(&mut place.used, true, value),
        }
        true
    }

    /// Makes the selected queue ready (1) or not (0). A queue whose place is no
    /// good stays not ready.
    pub fn write_queue_ready(&mut self, value: u32) -> bool {
        let mem = self.mem.clone();
        let Some(queue) = self.queue_in_setup() else {
            return false;
        };
        match value {
            0 => queue.layout = None,
            1 if queue.layout.is_none() => {
                queue.layout = Layout::new(&mem, queue.max, queue.placement).ok();
                return queue.layout.is_some();
            }
            _ => return false,
        }
        true
    }

    /// The guest's notification of a queue, where KVM does not take it by itself.
    pub fn notify(&self, queue: u32) -> bool {
        let kick = usize::try_from(queue)
            .ok()
            .and_then(|q| self.kicks().get(q));
        kick.is_some_and(|kick| kick.write(1).is_ok())
    }

    fn queue(&self) -> Option<&QueueSetup> {
        self.queues.get(usize::try_from(self.selected).ok()?)
    }

    /// The selected queue while queues may be set up: between FEATURES_OK and DRIVER_OK.
    fn queue_in_setup(&mut self) -> Option<&mut QueueSetup> {
        let index = usize::try_from(self.selected).ok()?;
        let frozen = unless_off!("queue-frozen", !self.status.is(Phase::FeaturesOk));
        self.queues.get_mut(index).filter(|_| !frozen)
    }

    fn features_acceptable(&self) -> bool {
        let chosen = self.driver_features;
        let unknown = unless_off!("features-offered", chosen & !self.identity.features != 0);
        let legacy = unless_off!("features-version-1", chosen & 1 << VIRTIO_F_VERSION_1 == 0);
        !unknown && !legacy
    }

    /// Moves the queues into the device. One that is not ready leaves the device
    /// in need of a reset: none of ours can do without.
    fn activate(&mut self) {
        let event_idx = self.driver_features & 1 << VIRTIO_RING_F_EVENT_IDX != 0;
        let queues = self.queues.iter().map(|queue| {
            let layout = queue.layout.clone()?;
            Some(Virtqueue::new(layout, event_idx, Progress::default()))
        });
        let Some(queues) = queues.collect() else {
            self.interrupt.needs_reset();
            return;
        };
        self.worker.activate(Active {
            mem: self.mem.clone(),
            queues,
            interrupt: self.interrupt.clone(),
            features: self.driver_features,
            halt: self.worker.halt(),
        });
    }

    fn reset(&mut self) {
        if unless_off!("reset-waits", self.status.phase() == Phase::DriverOk) {
            self.worker.reset();
        }
        self.interrupt.reset();
        self.status.reset();
        self.driver_features = 0;
        self.selected = 0;
        for queue in &mut self.queues {
            *queue = QueueSetup::new(queue.max);
        }
    }
}

fn set_half(whole: &mut u64, upper: bool, value: u32) {
    let shift = if upper { 32 } else { 0 };
    *whole = *whole & !(0xffff_ffff << shift) | u64::from(value) << shift;
}
