//! A session of its own: no terminal to push input into (TIOCSTI), and none that sends
//! signals (setsid(2)). An inherited terminal stays open as a stream, and is not the
//! controlling one.

use super::{FIRST, Observation, Step, StepError, Who};
use crate::child::Jail;
use crate::readback::Seen;
use casemate_proto::cell::Layer;
use rustix::process::setsid;

/// The first process's.
pub const STEP: Step = Step {
    name: "session",
    who: FIRST,
    layer: Some(Layer::Session),
    apply,
};

/// The program's own, with a process group to send signals to.
pub const PROGRAM: Step = Step {
    name: "program-session",
    who: &[Who::Program],
    layer: Some(Layer::Session),
    apply,
};

fn apply(_: &mut Jail<'_>) -> Result<(), StepError> {
    setsid()
        .map(drop)
        .map_err(|e| StepError::new("setsid", e, "report this: it cannot fail here"))
}

/// Session and terminal in `/proc/PID/stat` (proc_pid_stat(5)).
pub fn read_back(seen: &Seen<'_>) -> Observation {
    let declared = "its own, without a terminal";
    let observed = seen
        .read("stat")
        .map_err(|e| format!("stat: {e}"))
        .and_then(|stat| {
            let (session, terminal) = parse(&stat).ok_or("stat is malformed")?;
            match (session == seen.pid(), terminal) {
                (true, 0) => Ok(declared.to_owned()),
                (own, _) => Err(format!(
                    "session {session}{}, terminal {terminal}",
                    if own { "" } else { ", not its own" }
                )),
            }
        });
    Observation::of(declared, observed)
}

/// Fields 6 and 7.
fn parse(stat: &str) -> Option<(i32, i32)> {
    // Field 2, the name, is in parentheses and may hold anything, parentheses too.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(3);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_behind_any_name_are_found() {
        assert_eq!(parse("7 (a) b) S 1 7 5 34816 -1 4"), Some((5, 34816)));
        assert_eq!(parse("7 (x) S 1"), None);
    }
}
