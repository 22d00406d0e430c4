use super::*;
use casemate_proto::agent::{Exec, ExitedHow, PORT_CONTROL};
use casemate_proto::cell::{Usage, VmEnd};
use casemate_proto::status::Outcome;
use std::io::{Read, Write};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

/// A supervisor whose cell is the closure's thread.
struct Fake {
    events: Mutex<Receiver<FromJailer>>,
    say: Mutex<Option<Sender<FromJailer>>>,
}

impl Supervisor for Fake {
    fn next(&self) -> Result<Option<FromJailer>, ClientError> {
        Ok(self.events.lock().unwrap().recv().ok())
    }
    fn stop(&self) -> Result<(), ClientError> {
        if let Some(say) = self.say.lock().unwrap().take() {
            say.send(FromJailer::Ended {
                end: VmEnd::Stopped,
                usage: Usage::default(),
            })
            .unwrap();
        }
        Ok(())
    }
}

struct Guest {
    control: UnixStream,
    stdin: UnixStream,
    stdout: UnixStream,
    stderr: UnixStream,
}

impl Guest {
    fn say(&mut self, message: &FromInit) {
        agent::write_frame(&mut self.control, message, agent::MAX_FROM_INIT).unwrap();
    }
    fn hear(&mut self) -> ToInit {
        agent::read_frame(&mut self.control, agent::MAX_TO_INIT)
            .unwrap()
            .unwrap()
    }
    fn up(&mut self) -> Exec {
        self.say(&FromInit::Hello {
            version: agent::VERSION,
            kernel_us: 10,
            init_us: 5,
        });
        let ToInit::Exec(exec) = self.hear() else {
            panic!("not Exec");
        };
        self.say(&FromInit::Started);
        exec
    }
}

/// Runs `guest` in a thread with `input` on standard input; gives the outcome
/// with standard output and error.
fn run_with(
    input: &[u8],
    guest: impl FnOnce(Guest) + Send + 'static,
) -> (Outcome, Vec<u8>, Vec<u8>) {
    let pair = || UnixStream::pair().unwrap();
    let pipe = || nix::unistd::pipe().unwrap();
    let (control, control_far) = pair();
    let (stdin, stdin_far) = pair();
    let (stdout, stdout_far) = pair();
    let (stderr, stderr_far) = pair();
    let (console, console_far) = pipe();
    let (log, _) = pipe();
    let (our_in, feed) = pipe();
    let (out, our_out) = pipe();
    let (err, our_err) = pipe();
    let input = input.to_vec();
    thread::spawn(move || File::from(feed).write_all(&input));
    let collect = |from: OwnedFd| {
        thread::spawn(move || {
            let mut all = Vec::new();
            File::from(from).read_to_end(&mut all).unwrap();
            all
        })
    };
    let (out, err) = (collect(out), collect(err));
    thread::spawn(move || {
        guest(Guest {
            control: control_far,
            stdin: stdin_far,
            stdout: stdout_far,
            stderr: stderr_far,
        });
        drop(console_far);
    });
    let (say, events) = channel();
    let fake = Arc::new(Fake {
        events: Mutex::new(events),
        say: Mutex::new(Some(say)),
    });
    let exec = Exec {
        argv: vec![b"prog".to_vec()],
        env: Vec::new(),
        workdir: Vec::new(),
        tty: None,
    };
    let wires = Wires {
        control,
        stdin,
        stdout,
        stderr: Some(stderr),
        console: console.into(),
        log: log.into(),
    };
    let streams = Streams {
        stdin: our_in,
        stdout: our_out,
        stderr: our_err,
        tty: false,
        console: None,
    };
    let finished = run(&fake, wires, streams, State::new(exec, 2)).unwrap();
    let outcome = finished
        .state
        .over()
        .outcome(&finished.console, &finished.log);
    (outcome, out.join().unwrap(), err.join().unwrap())
}

#[test]
fn streams_and_status_come_back_exactly() {
    let (outcome, out, err) = run_with(b"", |mut guest| {
        assert_eq!(guest.up().argv, [b"prog".to_vec()]);
        guest.stdout.write_all(b"out\n").unwrap();
        guest.stderr.write_all(b"err\n").unwrap();
        guest.say(&FromInit::Ended {
            status: ExitedHow::Code(7),
            oom_kills: 0,
        });
    });
    assert_eq!(outcome, Outcome::Exited { code: 7 });
    assert_eq!(
        (out.as_slice(), err.as_slice()),
        (&b"out\n"[..], &b"err\n"[..])
    );
}

#[test]
fn sixty_four_mib_through_cat() {
    let mut sent = vec![0; 64 << 20];
    File::open("/dev/urandom")
        .unwrap()
        .read_exact(&mut sent)
        .unwrap();
    let started = Instant::now();
    let (outcome, out, _) = run_with(&sent, |mut guest| {
        guest.up();
        io::copy(&mut guest.stdin, &mut guest.stdout).unwrap();
        guest.say(&FromInit::Ended {
            status: ExitedHow::Code(0),
            oom_kills: 0,
        });
    });
    assert_eq!(outcome, Outcome::Exited { code: 0 });
    assert_eq!(blake3::hash(&out), blake3::hash(&sent));
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[test]
fn bytes_sent_before_the_end_are_never_lost() {
    // The end is announced while 8 MiB are still on their way.
    let (outcome, out, _) = run_with(b"", |mut guest| {
        guest.up();
        let mut stdout = guest.stdout.try_clone().unwrap();
        let writer = thread::spawn(move || stdout.write_all(&vec![b'x'; 8 << 20]).unwrap());
        guest.say(&FromInit::Ended {
            status: ExitedHow::Code(0),
            oom_kills: 0,
        });
        writer.join().unwrap();
    });
    assert_eq!(outcome, Outcome::Exited { code: 0 });
    assert_eq!(out.len(), 8 << 20);
}

#[test]
fn hostile_frames_end_the_run() {
    let (outcome, ..) = run_with(b"", |mut guest| {
        guest.control.write_all(&[0xff; 4096]).unwrap();
        // Stays, as a hostile guest would.
        let mut byte = [0];
        let _ = guest.control.read(&mut byte);
    });
    let Outcome::GuestPanic { detail } = outcome else {
        panic!("{outcome:?}, on port {PORT_CONTROL}");
    };
    assert!(detail.contains("at most"), "{detail}");
}

#[test]
fn a_terminal_is_raw_while_the_program_runs() {
    use casemate_proto::agent::TtySize;
    use nix::pty::openpty;
    use nix::sys::termios::{LocalFlags, tcgetattr};
    let size = libc::winsize {
        ws_row: 33,
        ws_col: 101,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let pty = openpty(&size, None).unwrap();
    let cooked = |fd: &OwnedFd| {
        let flags = tcgetattr(fd).unwrap().local_flags;
        flags.contains(LocalFlags::ICANON | LocalFlags::ECHO)
    };
    let (control, control_far) = UnixStream::pair().unwrap();
    let (stdin, mut stdin_far) = UnixStream::pair().unwrap();
    let (stdout, mut stdout_far) = UnixStream::pair().unwrap();
    let (unused, unused_far) = UnixStream::pair().unwrap();
    let (console, _) = nix::unistd::pipe().unwrap();
    let (log, _) = nix::unistd::pipe().unwrap();
    let watched = pty.slave.try_clone().unwrap();
    let mut keyboard = File::from(pty.master.try_clone().unwrap());
    let guest = thread::spawn(move || {
        let mut guest = Guest {
            control: control_far,
            stdin: unused,
            stdout: unused_far.try_clone().unwrap(),
            stderr: unused_far,
        };
        guest.up();
        let resize = ToInit::Resize(TtySize {
            rows: 33,
            cols: 101,
        });
        assert_eq!(guest.hear(), resize);
        assert!(!cooked(&watched));
        // Raw: a Ctrl-C is a byte for the program and no signal for us.
        keyboard.write_all(b"\x03").unwrap();
        let mut byte = [0];
        stdin_far.read_exact(&mut byte).unwrap();
        assert_eq!(byte, [3]);
        stdout_far.write_all(b"bye").unwrap();
        drop(stdout_far);
        guest.say(&FromInit::Ended {
            status: ExitedHow::Code(0),
            oom_kills: 0,
        });
        watched
    });
    let (say, events) = channel();
    let fake = Arc::new(Fake {
        events: Mutex::new(events),
        say: Mutex::new(Some(say)),
    });
    let exec = Exec {
        argv: vec![b"sh".to_vec()],
        env: Vec::new(),
        workdir: Vec::new(),
        tty: Some(terminal::size(&pty.slave)),
    };
    let wires = Wires {
        control,
        stdin,
        stdout,
        stderr: None,
        console: console.into(),
        log: log.into(),
    };
    let streams = Streams {
        stdin: pty.slave.try_clone().unwrap(),
        stdout: pty.slave.try_clone().unwrap(),
        stderr: pty.slave.try_clone().unwrap(),
        tty: true,
        console: None,
    };
    let finished = run(&fake, wires, streams, State::new(exec, 1)).unwrap();
    assert_eq!(
        finished.state.over().outcome("", ""),
        Outcome::Exited { code: 0 }
    );
    let mut shown = [0; 3];
    let mut screen = File::from(pty.master);
    screen.read_exact(&mut shown).unwrap();
    assert_eq!(&shown, b"bye");
    assert!(cooked(&guest.join().unwrap()));
}
