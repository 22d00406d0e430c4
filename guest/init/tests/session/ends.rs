//! How programs end.

use crate::host::{Session, exec, sh};
use casemate_proto::agent::{ExitedHow, FromInit, ToInit};

fn status(session: Session) -> ExitedHow {
    match session.finish().last {
        FromInit::Ended { status, .. } => status,
        other => panic!("{other:?}"),
    }
}

#[test]
fn codes_and_signals() {
    for (script, expected) in [
        ("exit 0", ExitedHow::Code(0)),
        ("exit 255", ExitedHow::Code(255)),
        ("kill -SEGV $$", ExitedHow::Signal(11)),
        ("kill -KILL $$", ExitedHow::Signal(9)),
        ("kill -40 $$", ExitedHow::Signal(40)),
    ] {
        assert_eq!(status(Session::started(sh(script))), expected, "{script}");
    }
}

#[test]
fn signals_reach_the_whole_group() {
    let mut session = Session::started(sh("sleep 100 | sleep 100"));
    session.send(&ToInit::Signal(2));
    assert_eq!(status(session), ExitedHow::Signal(2));
}

#[test]
fn nonsense_signals_are_ignored() {
    let mut session = Session::started(exec(&["cat"]));
    session.send(&ToInit::Signal(0));
    session.send(&ToInit::Signal(255));
    session.no_input();
    assert_eq!(status(session), ExitedHow::Code(0));
}

#[test]
fn orphans_are_reaped_while_the_program_runs() {
    // 300 orphans; then the first process of the namespace may have no zombie left.
    let script = "i=0; while [ $i -lt 300 ]; do (true &); i=$((i+1)); done; sleep 0.3; \
                  ps -o stat= --ppid $PPID | grep -c Z";
    let outcome = Session::started(sh(script)).finish();
    assert_eq!(outcome.stdout, b"0\n");
}

#[test]
fn a_host_that_goes_away_ends_everything() {
    let session = Session::started(sh("sleep 100"));
    // Dropping closes the connection and waits for the session to end.
    drop(session);
}

#[test]
fn a_fork_bomb_is_ended_with_its_program() {
    let script = "b() { while :; do sleep 5 & sleep 5 & sleep 0.01; done; }; \
                  (b &) ; (b &) ; sleep 0.5; echo end";
    assert_eq!(Session::started(sh(script)).finish().stdout, b"end\n");
}
