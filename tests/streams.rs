//! What goes in and comes out of a program in a guest: exactly its bytes and
//! exactly its status. Issue of record: the product's main job.

use casemate_proto::status;
use casemate_tests::linux;
use casemate_tests::run::Run;
use std::io::{Read, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

#[test]
fn streams_and_status_are_the_programs_own() {
    linux("streams_and_status_are_the_programs_own", || {
        let done = Run::sh("echo out; echo err >&2; exit 7").go().expect(7);
        assert_eq!(done.out(), "out\n");
        assert_eq!(done.err(), "err\n");
    });
}

#[test]
fn the_command_in_the_readme_works() {
    linux("the_command_in_the_readme_works", || {
        let done = Run::new(["echo", "hello"]).go().expect(0);
        assert_eq!(done.out(), "hello\n");
        assert_eq!(done.err(), "");
    });
}

#[test]
fn sixty_four_mebibytes_come_back_unchanged() {
    linux("sixty_four_mebibytes_come_back_unchanged", || {
        let mut bytes = vec![0; 64 << 20];
        std::fs::File::open("/dev/urandom")
            .and_then(|mut random| random.read_exact(&mut bytes))
            .expect("random bytes");
        let done = Run::new(["cat"]).stdin(bytes.clone()).go().expect(0);
        assert_eq!(done.stdout.len(), bytes.len());
        assert_eq!(
            blake3::hash(&done.stdout),
            blake3::hash(&bytes),
            "the bytes came back changed"
        );
        println!("64 MiB through cat in {:?}", done.wall);
    });
}

#[test]
fn a_signal_that_ends_the_program_is_told() {
    linux("a_signal_that_ends_the_program_is_told", || {
        Run::sh("kill -SEGV $$").go().expect(139);
        Run::sh("kill -KILL $$").go().expect(137);
    });
}

#[test]
fn a_time_limit_ends_the_run() {
    linux("a_time_limit_ends_the_run", || {
        // The first use of all makes the built-in userland's image.
        Run::new(["true"]).go().expect(0);
        let done = Run::new(["sleep", "100"])
            .option("--timeout", "2s")
            .go()
            .expect(i32::from(status::TIMEOUT));
        assert!(done.wall < Duration::from_secs(3), "{:?}", done.wall);
        assert!(done.err().contains("2s"), "{}", done.err());
    });
}

#[test]
fn what_cannot_run_is_told_apart() {
    linux("what_cannot_run_is_told_apart", || {
        let done = Run::new(["no-such-program"]).go().expect(127);
        assert!(done.err().contains("no-such-program"), "{}", done.err());
        assert_eq!(done.err().lines().count(), 1, "{}", done.err());
        Run::new(["/etc"]).go().expect(126);
        let done = Run::sh("pwd")
            .option("--workdir", "/no/such")
            .go()
            .expect(125);
        assert!(done.err().contains("/no/such"), "{}", done.err());
    });
}

#[test]
fn environment_and_folder_are_what_was_asked() {
    linux("environment_and_folder_are_what_was_asked", || {
        let done = Run::sh("echo $A-$B; pwd; env | sort | cut -d= -f1 | tr '\\n' ' '")
            .option("--env", "A=1 2")
            .option("--env", "B=")
            .option("--workdir", "/tmp")
            .go()
            .expect(0);
        let out = done.out();
        assert!(out.starts_with("1 2-\n/tmp\n"), "{out}");
        assert!(
            !out.contains("CARGO"),
            "the host's environment came along: {out}"
        );
    });
}

#[test]
fn bytes_that_are_no_text_go_through_arguments_and_streams() {
    linux(
        "bytes_that_are_no_text_go_through_arguments_and_streams",
        || {
            use std::ffi::OsString;
            use std::os::unix::ffi::OsStringExt;
            let odd = OsString::from_vec(vec![0xff, b'x', 0xfe]);
            let done = Run::new([OsString::from("printf"), OsString::from("%s"), odd])
                .go()
                .expect(0);
            assert_eq!(done.stdout, [0xff, b'x', 0xfe]);
        },
    );
}

#[test]
fn a_slow_reader_loses_nothing_and_holds_up_no_other_stream() {
    linux(
        "a_slow_reader_loses_nothing_and_holds_up_no_other_stream",
        || {
            let run = Run::sh("head -c 3000000 /dev/zero & echo quick >&2; wait; exit 3");
            let mut child = run.spawn();
            drop(child.stdin.take());
            let mut quick = [0; 6];
            child
                .stderr
                .as_mut()
                .expect("a pipe")
                .read_exact(&mut quick)
                .expect("stderr");
            assert_eq!(&quick, b"quick\n");
            std::thread::sleep(Duration::from_millis(500));
            let mut out = Vec::new();
            child
                .stdout
                .as_mut()
                .expect("a pipe")
                .read_to_end(&mut out)
                .expect("stdout");
            assert_eq!(out.len(), 3_000_000);
            assert_eq!(child.wait().expect("ends").code(), Some(3));
        },
    );
}

#[test]
fn a_reader_that_leaves_ends_the_writer_with_sigpipe() {
    linux("a_reader_that_leaves_ends_the_writer_with_sigpipe", || {
        let run = Run::sh("yes; echo status $? >&2");
        let mut child = run.spawn();
        let mut some = [0; 64];
        child
            .stdout
            .as_mut()
            .expect("a pipe")
            .read_exact(&mut some)
            .expect("output");
        drop(child.stdout.take());
        let mut err = String::new();
        child
            .stderr
            .as_mut()
            .expect("a pipe")
            .read_to_string(&mut err)
            .expect("stderr");
        assert_eq!(err, "status 141\n");
        child.wait().expect("ends");
    });
}

#[test]
fn end_of_input_is_seen_while_output_goes_on() {
    linux("end_of_input_is_seen_while_output_goes_on", || {
        let done = Run::sh("cat >/dev/null; echo after; sleep 0.2; echo later")
            .stdin(b"x".to_vec())
            .go()
            .expect(0);
        assert_eq!(done.out(), "after\nlater\n");
    });
}

#[test]
fn a_child_that_lingers_does_not_hold_up_the_end() {
    linux("a_child_that_lingers_does_not_hold_up_the_end", || {
        let done = Run::sh("sleep 1000 & echo started").go().expect(0);
        assert_eq!(done.out(), "started\n");
        assert!(done.wall < Duration::from_secs(60), "{:?}", done.wall);
    });
}

#[test]
fn an_interrupt_reaches_the_program() {
    linux("an_interrupt_reaches_the_program", || {
        let run = Run::sh("trap 'echo got; exit 9' INT; echo ready; while :; do sleep 0.1; done");
        let mut child = run.spawn();
        let mut ready = [0; 6];
        let out = child.stdout.as_mut().expect("a pipe");
        out.read_exact(&mut ready).expect("ready");
        let pid = nix::unistd::Pid::from_raw(child.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("sent");
        let mut rest = String::new();
        child
            .stdout
            .as_mut()
            .expect("a pipe")
            .read_to_string(&mut rest)
            .expect("output");
        assert_eq!(rest, "got\n");
        assert_eq!(child.wait().expect("ends").code(), Some(9));
    });
}

#[test]
fn a_terminal_has_a_size_that_follows() {
    linux("a_terminal_has_a_size_that_follows", || {
        let size = nix::pty::Winsize {
            ws_row: 31,
            ws_col: 97,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = nix::pty::openpty(Some(&size), None).expect("a pty");
        let tty = || Stdio::from(pty.slave.try_clone().expect("dup"));
        let run = Run::sh("tty -s && stty size; read line; stty size; exit 4").flag("-t");
        let mut child = run
            .command()
            .stdin(tty())
            .stdout(tty())
            .stderr(tty())
            .spawn()
            .expect("starts");
        drop(pty.slave);
        let mut master = std::fs::File::from(pty.master);
        read_until(&mut master, "31 97");
        let size = nix::pty::Winsize {
            ws_row: 40,
            ws_col: 120,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // SAFETY: TIOCSWINSZ reads one winsize, which outlives the call.
        unsafe {
            libc::ioctl(
                std::os::fd::AsRawFd::as_raw_fd(&master),
                libc::TIOCSWINSZ,
                &size,
            )
        };
        let pid = nix::unistd::Pid::from_raw(child.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGWINCH).expect("sent");
        std::thread::sleep(Duration::from_millis(500));
        master.write_all(b"\n").expect("input");
        read_until(&mut master, "40 120");
        assert_eq!(child.wait().expect("ends").code(), Some(4));
    });
}

fn read_until(from: &mut std::fs::File, text: &str) {
    let start = Instant::now();
    let mut seen = Vec::new();
    let mut chunk = [0; 1024];
    while !String::from_utf8_lossy(&seen).contains(text) {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "no {text:?} in {seen:?}"
        );
        let n = from.read(&mut chunk).expect("the terminal");
        seen.extend_from_slice(&chunk[..n]);
    }
}
