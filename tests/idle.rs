//! What an idle cell costs.

use casemate_testbed::Way;
use casemate_tests::proc::Process;
use casemate_tests::run::Run;
use casemate_tests::{cell, leftovers, linux};
use std::io::Read;
use std::time::Duration;

#[test]
fn an_idle_guest_costs_no_cpu_and_little_memory() {
    let guest = cell::start(cell::Mode::Idle, &[]);
    std::thread::sleep(Duration::from_millis(500));
    let before = guest.vmm().cpu_ticks();
    std::thread::sleep(Duration::from_secs(10));
    let ticks = guest.vmm().cpu_ticks() - before;
    // 10 s are 1,000 ticks of 10 ms: 0.5 % of a core is 5.
    assert!(ticks < 5, "{ticks} ticks of 10 ms in 10 s");
    let run_dir = guest.stop();
    let report = cell::report(run_dir.path());
    let rss = report.usage.vmm_rss_bytes;
    println!("VMM memory outside the guest's: {} KiB", rss >> 10);
    assert!((1..5 << 20).contains(&rss), "{rss} bytes");
    assert_eq!(leftovers::all(run_dir.path()), Vec::<String>::new());
}

/// A Linux guest has timers of its own, so it is never quite still: measured and
/// shown, and bounded where the host is not itself emulated.
#[test]
fn an_idle_linux_guest_is_nearly_still() {
    linux("an_idle_linux_guest_is_nearly_still", || {
        let run = Run::sh("echo up; sleep 1000");
        let mut child = run.spawn();
        let mut up = [0; 3];
        let out = child.stdout.as_mut().expect("a pipe");
        out.read_exact(&mut up).expect("the program's word");
        std::thread::sleep(Duration::from_secs(3));
        let vmm = Process(child.id() as i32)
            .children()
            .into_iter()
            .find(|p| p.name().starts_with("casemate-jail"))
            .and_then(|supervisor| supervisor.children().into_iter().next())
            .expect("a VMM");
        let before = vmm.cpu_ticks();
        std::thread::sleep(Duration::from_secs(10));
        let ticks = vmm.cpu_ticks() - before;
        println!("an idle Linux guest: {ticks} ticks of 10 ms in 10 s");
        // An emulated host takes tens of times as long for every exit.
        let limit = match Way::detect() {
            Way::Direct => 5,
            Way::InsideBed | Way::Bed => 50,
        };
        assert!(ticks < limit, "{ticks} ticks of 10 ms in 10 s");
        Process(child.id() as i32).kill();
        child.wait().expect("ends");
    });
}
