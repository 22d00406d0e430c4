//! The device status register as a state machine (virtio 1.2 §2.1, §3.1.1).
//!
//! ```text
//!              1              2             8               4
//!  Reset ──> Acknowledged ──> Driver ──> FeaturesOk ──> DriverOk
//!    ^             │             │            │              │
//!    └── write 0 ──┴─────────────┴────────────┴──────────────┘
//! ```
//! One step at a time, forwards; only writing 0 goes back. `FAILED` may be set
//! anywhere and leaves nothing but the reset. `DEVICE_NEEDS_RESET` is the
//! device's own bit and is kept by [`super::interrupt::Interrupt`].

use virtio_bindings::virtio_config::{
    VIRTIO_CONFIG_S_ACKNOWLEDGE, VIRTIO_CONFIG_S_DRIVER, VIRTIO_CONFIG_S_DRIVER_OK,
    VIRTIO_CONFIG_S_FAILED, VIRTIO_CONFIG_S_FEATURES_OK, VIRTIO_CONFIG_S_NEEDS_RESET,
};

/// How far the driver has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Phase {
    /// Nothing yet, or reset.
    #[default]
    Reset,
    /// The guest has seen the device.
    Acknowledged,
    /// The guest has a driver for it; features may be chosen.
    Driver,
    /// Features are agreed on and frozen; queues may be set up.
    FeaturesOk,
    /// The device runs; its queues are frozen.
    DriverOk,
}

impl Phase {
    /// The bits of the status register in this phase.
    pub fn bits(self) -> u32 {
        let steps = [
            VIRTIO_CONFIG_S_ACKNOWLEDGE,
            VIRTIO_CONFIG_S_DRIVER,
            VIRTIO_CONFIG_S_FEATURES_OK,
            VIRTIO_CONFIG_S_DRIVER_OK,
        ];
        steps.iter().take(self as usize).sum()
    }

    fn next(self) -> Option<Self> {
        Some(match self {
            Self::Reset => Self::Acknowledged,
            Self::Acknowledged => Self::Driver,
            Self::Driver => Self::FeaturesOk,
            Self::FeaturesOk => Self::DriverOk,
            Self::DriverOk => return None,
        })
    }
}

/// What a write to the status register asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusWrite {
    /// 0: back to the start.
    Reset,
    /// The next phase. Whether it is reached depends on features and queues.
    Step(Phase),
    /// The driver has given up.
    Fail,
    /// What stands there already.
    Same,
    /// A skipped step, a cleared bit, an unknown bit: no effect.
    Refused,
}

/// The driver's part of the status register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DriverStatus {
    phase: Phase,
    failed: bool,
}

impl DriverStatus {
    /// How far the driver has come, whether it failed there or not.
    pub fn phase(self) -> Phase {
        self.phase
    }

    /// Whether the driver has given up.
    pub fn failed(self) -> bool {
        self.failed
    }

    /// Whether the driver is in exactly this phase and has not given up.
    pub fn is(self, phase: Phase) -> bool {
        self.phase == phase && !self.failed
    }

    /// The bits of the register, without `DEVICE_NEEDS_RESET`.
    pub fn bits(self) -> u32 {
        self.phase.bits()
            | if self.failed {
                VIRTIO_CONFIG_S_FAILED
            } else {
                0
            }
    }

    /// Judges a written value; changes nothing.
    pub fn judge(self, written: u32) -> StatusWrite {
        if written == 0 {
            return StatusWrite::Reset;
        }
        let written = written & !VIRTIO_CONFIG_S_NEEDS_RESET;
        if written == self.bits() {
            return StatusWrite::Same;
        }
        match self.phase.next() {
            _ if self.failed => StatusWrite::Refused,
            _ if written == self.phase.bits() | VIRTIO_CONFIG_S_FAILED => StatusWrite::Fail,
            Some(next) if written == next.bits() => StatusWrite::Step(next),
            _ => StatusWrite::Refused,
        }
    }

    /// Takes the step that [`Self::judge`] allowed.
    pub fn step(&mut self, to: Phase) {
        debug_assert_eq!(self.phase.next(), Some(to));
        self.phase = to;
    }

    /// Notes that the driver has given up.
    pub fn fail(&mut self) {
        self.failed = true;
    }

    /// Back to the start.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_whole_way_up() {
        let mut status = DriverStatus::default();
        for (written, phase) in [
            (1, Phase::Acknowledged),
            (3, Phase::Driver),
            (11, Phase::FeaturesOk),
            (15, Phase::DriverOk),
        ] {
            assert_eq!(status.judge(written), StatusWrite::Step(phase));
            status.step(phase);
            assert_eq!(status.bits(), written);
            assert_eq!(status.judge(written), StatusWrite::Same);
            assert_eq!(status.judge(0), StatusWrite::Reset);
        }
    }

    #[test]
    fn failed_leaves_only_the_reset() {
        let mut status = DriverStatus::default();
        status.step(Phase::Acknowledged);
        assert_eq!(status.judge(0x81), StatusWrite::Fail);
        status.fail();
        assert_eq!(status.bits(), 0x81);
        assert_eq!(status.judge(0x83), StatusWrite::Refused);
        assert_eq!(status.judge(3), StatusWrite::Refused);
        assert_eq!(status.judge(0), StatusWrite::Reset);
    }

    proptest! {
        /// FC #5818 (status bits cleared): no write but 0 clears a bit, and no write skips a step.
        #[test]
        fn bits_only_grow_and_by_one_step(writes in prop::collection::vec(any::<u32>().prop_map(|v| v & 0xff), 0..64)) {
            let mut status = DriverStatus::default();
            for written in writes {
                let before = status;
                match status.judge(written) {
                    StatusWrite::Reset => status.reset(),
                    StatusWrite::Step(phase) => status.step(phase),
                    StatusWrite::Fail => status.fail(),
                    StatusWrite::Same | StatusWrite::Refused => {}
                }
                if written == 0 {
                    prop_assert_eq!(status.bits(), 0);
                } else {
                    prop_assert_eq!(status.bits() & before.bits(), before.bits());
                    prop_assert!((status.bits() ^ before.bits()).count_ones() <= 1);
                }
            }
        }
    }
}
