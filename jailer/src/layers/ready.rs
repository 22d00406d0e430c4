//! The program's last wait: nothing is executed before the supervisor has read back every
//! layer.

use super::{Step, StepError, Who};
use crate::channel::Word;
use crate::child::{Jail, Note};
use rustix::io::Errno;

/// The step.
pub const STEP: Step = Step {
    name: "ready",
    who: &[Who::Program],
    layer: None,
    apply,
};

fn apply(jail: &mut Jail<'_>) -> Result<(), StepError> {
    let environment = jail.environment.addr();
    jail.note(Note::Ready { environment });
    jail.tell();
    let mut word = [0];
    loop {
        match rustix::io::read(jail.status(), &mut word) {
            Ok(1) if word[0] == Word::Go as u8 => return Ok(()),
            Err(Errno::INTR) => {}
            _ => {
                return Err(StepError::new(
                    "waiting for the read-back",
                    "the supervisor is gone",
                    "see its error",
                ));
            }
        }
    }
}
