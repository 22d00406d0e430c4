//! What can come of an attack.

/// What an attack is expected to end in, and what it did end in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It has no effect: the device goes on without a reset.
    Ignored,
    /// A register keeps its value, a queue does not become ready.
    Refused,
    /// The device sets DEVICE_NEEDS_RESET, and works after the reset.
    NeedsReset,
    /// The request is answered as any other.
    Served,
    /// The block request is answered with an I/O error.
    IoError,
    /// The block request is answered with "unsupported".
    Unsupported,
    /// The packet is answered with RST.
    Closed,
    /// The processor raises an exception in the guest.
    Fault,
    /// Whatever comes of it for the guest itself (a fault, its end, nothing):
    /// processors and KVMs differ. The VMM does not suffer.
    Free,
    /// The guest ends with a reset.
    EndsInReset,
    /// The guest ends with a triple fault.
    EndsInTripleFault,
    /// None of the above.
    Wrong(&'static str),
}

impl Outcome {
    /// Served, or what is wrong.
    pub fn served_if(yes: bool, wrong: &'static str) -> Self {
        if yes {
            Self::Served
        } else {
            Self::Wrong(wrong)
        }
    }

    /// Ignored, or what is wrong.
    pub fn ignored_if(yes: bool, wrong: &'static str) -> Self {
        if yes {
            Self::Ignored
        } else {
            Self::Wrong(wrong)
        }
    }

    /// Refused, or what is wrong.
    pub fn refused_if(yes: bool, wrong: &'static str) -> Self {
        if yes {
            Self::Refused
        } else {
            Self::Wrong(wrong)
        }
    }
}
