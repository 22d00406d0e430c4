//! Why a start is refused, as the CLI is told.

use casemate_proto::cell::{FromJailer, Layer};
use std::fmt::Display;
use thiserror::Error;

/// One refusal: the layer it concerns, if any, and one line that names what
/// failed, on which object, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct Refusal {
    /// The layer that could not be applied or did not read back.
    pub layer: Option<Layer>,
    /// What failed, on which object, and the remedy.
    pub message: String,
}

impl Refusal {
    /// A refusal that concerns no layer: bad input, a cell that runs already.
    pub fn new(message: impl Display) -> Self {
        Self {
            layer: None,
            message: message.to_string(),
        }
    }

    /// A refusal because of one layer.
    pub fn of(layer: Layer, message: impl Display) -> Self {
        Self {
            layer: Some(layer),
            message: message.to_string(),
        }
    }
}

impl From<Refusal> for FromJailer {
    fn from(refusal: Refusal) -> Self {
        Self::Refused {
            layer: refusal.layer,
            message: refusal.message,
        }
    }
}
