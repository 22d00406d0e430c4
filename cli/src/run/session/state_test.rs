use super::*;
use casemate_proto::agent::{ExitedHow, StartError};
use casemate_proto::status::Outcome;

fn exec() -> Exec {
    Exec {
        argv: vec![b"x".to_vec()],
        env: Vec::new(),
        workdir: Vec::new(),
        tty: None,
    }
}

fn hello() -> Event {
    Event::Agent(FromInit::Hello {
        version: agent::VERSION,
        kernel_us: 1,
        init_us: 2,
    })
}

fn started() -> Event {
    Event::Agent(FromInit::Started)
}

fn ended(status: ExitedHow) -> Event {
    Event::Agent(FromInit::Ended {
        status,
        oom_kills: 0,
    })
}

fn vm(end: VmEnd) -> Event {
    Event::Jailer(FromJailer::Ended {
        end,
        usage: Usage::default(),
    })
}

struct Run {
    state: State,
    now: Instant,
    progress: u64,
}

impl Run {
    fn new() -> Self {
        Self {
            state: State::new(exec(), 2),
            now: Instant::now(),
            progress: 0,
        }
    }
    fn on(&mut self, event: Event) -> Vec<Action> {
        self.state.on(event, self.now, 0)
    }
    fn started() -> Self {
        let mut run = Self::new();
        run.on(hello());
        run.on(started());
        run
    }
    fn after(&mut self, time: Duration) -> Vec<Action> {
        self.state.on_tick(self.now, self.progress);
        self.now += time;
        self.state.on_tick(self.now, self.progress)
    }
    fn status(&self) -> u8 {
        self.state.over().outcome("", "").exit_status()
    }
}

#[test]
fn a_run_from_start_to_end() {
    let mut run = Run::new();
    assert_eq!(run.on(hello()), [Action::Send(ToInit::Exec(exec()))]);
    assert_eq!(run.on(started()), [Action::OpenInput, Action::SendSize]);
    assert!(run.on(ended(ExitedHow::Code(7))).is_empty());
    assert!(run.on(Event::OutputDone(None)).is_empty());
    assert_eq!(run.on(Event::OutputDone(None)), [Action::Stop]);
    run.on(vm(VmEnd::Stopped));
    run.on(Event::AgentGone(None));
    assert!(!run.state.is_over());
    run.on(Event::JailerGone(None));
    assert!(run.state.is_over());
    assert_eq!(run.status(), 7);
}

#[test]
fn outputs_may_end_before_the_program_does() {
    let mut run = Run::started();
    run.on(Event::OutputDone(None));
    run.on(Event::OutputDone(None));
    assert_eq!(run.on(ended(ExitedHow::Code(0))), [Action::Stop]);
}

#[test]
fn a_program_that_does_not_start_ends_the_cell_at_once() {
    let mut run = Run::new();
    run.on(hello());
    let failed = FromInit::Failed {
        error: StartError::NotFound,
        errno: libc::ENOENT,
    };
    assert_eq!(run.on(Event::Agent(failed)), [Action::Stop]);
    assert_eq!(run.status(), 127);
}

#[test]
fn messages_out_of_turn_end_the_run() {
    for messages in [
        vec![started()],
        vec![ended(ExitedHow::Code(0))],
        vec![hello(), hello()],
        vec![hello(), ended(ExitedHow::Code(0))],
        vec![hello(), started(), started()],
        vec![hello(), Event::AgentGone(Some("4 GiB frame".into()))],
    ] {
        let mut run = Run::new();
        let actions: Vec<_> = messages.into_iter().flat_map(|m| run.on(m)).collect();
        assert_eq!(actions.last(), Some(&Action::Stop));
        assert_eq!(run.status(), 121);
    }
    let mut run = Run::new();
    let other = FromInit::Hello {
        version: 99,
        kernel_us: 0,
        init_us: 0,
    };
    assert_eq!(run.on(Event::Agent(other)), [Action::Stop]);
}

#[test]
fn the_guests_words_after_the_end_count_for_nothing() {
    let mut run = Run::started();
    run.on(ended(ExitedHow::Code(3)));
    assert!(run.on(ended(ExitedHow::Code(0))).is_empty());
    run.on(vm(VmEnd::Stopped));
    assert_eq!(run.status(), 3);
}

#[test]
fn signals_go_to_the_program_and_a_second_ends_the_cell() {
    let mut run = Run::started();
    let forward = |n| [Action::Send(ToInit::Signal(n))];
    assert_eq!(run.on(Event::Signal(SIGINT)), forward(2));
    run.now += Duration::from_secs(3);
    assert_eq!(run.on(Event::Signal(SIGTERM)), forward(15));
    assert_eq!(run.on(Event::Signal(SIGHUP)), forward(1));
    assert_eq!(run.on(Event::Signal(SIGHUP)), forward(1));
    run.now += Duration::from_secs(1);
    assert_eq!(run.on(Event::Signal(SIGTERM)), [Action::Stop]);
    assert_eq!(run.status(), 143);
}

#[test]
fn a_signal_before_the_program_ends_the_cell() {
    let mut run = Run::new();
    run.on(hello());
    assert_eq!(run.on(Event::Signal(SIGINT)), [Action::Stop]);
    assert_eq!(run.status(), 130);
    assert!(run.on(Event::Signal(SIGINT)).is_empty());
}

#[test]
fn outputs_held_open_by_the_guest_are_not_waited_for() {
    let mut run = Run::started();
    run.on(ended(ExitedHow::Code(4)));
    assert!(run.after(Duration::from_secs(3)).is_empty());
    run.progress += 2; // our reader took bytes
    assert!(run.after(Duration::from_secs(3)).is_empty());
    assert_eq!(run.after(DRAIN + Duration::from_secs(1)), [Action::Stop]);
    run.on(vm(VmEnd::Stopped));
    assert_eq!(run.status(), 4);
}

#[test]
fn a_guest_without_init_is_stopped() {
    let mut run = Run::started();
    run.on(Event::AgentGone(None));
    assert!(run.after(Duration::from_secs(1)).is_empty());
    assert_eq!(run.after(ORPHAN), [Action::Stop]);
    run.on(vm(VmEnd::Stopped));
    assert_eq!(run.status(), 121);
}

#[test]
fn a_supervisor_that_does_not_stop_is_given_up() {
    let mut run = Run::started();
    run.on(Event::Signal(SIGINT));
    run.on(Event::Signal(SIGINT));
    run.after(STOP + Duration::from_secs(1));
    assert!(run.state.is_over());
}

#[test]
fn a_timeout_that_cuts_output_short_is_a_timeout() {
    let mut run = Run::started();
    run.on(ended(ExitedHow::Code(0)));
    run.on(vm(VmEnd::Timeout));
    assert_eq!(run.state.over().outcome("", ""), Outcome::Timeout);
    // With everything delivered, the program's status stands.
    let mut run = Run::started();
    run.on(ended(ExitedHow::Code(0)));
    run.on(Event::OutputDone(None));
    run.on(Event::OutputDone(None));
    run.on(vm(VmEnd::Timeout));
    assert_eq!(run.status(), 0);
}

#[test]
fn a_refusal_is_our_failure() {
    let mut run = Run::new();
    run.on(Event::Jailer(FromJailer::Refused {
        layer: None,
        message: "cell a runs".into(),
    }));
    run.on(Event::JailerGone(None));
    run.on(Event::AgentGone(None));
    run.on(Event::OutputDone(None));
    run.on(Event::OutputDone(None));
    assert!(run.state.is_over());
    assert_eq!(run.status(), 125);
}

#[test]
fn a_supervisor_that_dies_is_a_dead_vmm() {
    let mut run = Run::started();
    run.on(Event::JailerGone(None));
    run.on(Event::AgentGone(None));
    run.on(Event::OutputDone(None));
    run.on(Event::OutputDone(None));
    assert!(run.state.is_over());
    assert_eq!(run.status(), 123);
}
