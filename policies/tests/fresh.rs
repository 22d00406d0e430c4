//! A process that, like the VMM, installs the setup filter before it has made any
//! thread, then a thread of every class that allocates, waits and ends. It has no test
//! harness, because a harness makes threads first: what glibc does once would go unseen.

use casemate_policies::{Role, ThreadClass, filter};
use casemate_proto::fds;
use std::collections::HashMap;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// The name under which test runners list this.
const NAME: &str = "fresh_process_runs_every_class";

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    match (has("--list"), has("--ignored")) {
        (true, false) => println!("{NAME}: test"),
        (false, false) => every_class(),
        (_, true) => (),
    }
}

fn every_class() {
    // SAFETY: takes no pointers.
    let answer = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(answer, 0);
    // As the VMM does: no heap of a thread's own, so no mprotect and no look into /proc.
    // SAFETY: takes two numbers; there is no other thread yet.
    assert_eq!(unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) }, 1);
    filter(ThreadClass::Setup).install().unwrap();
    let threads: Vec<_> = ThreadClass::ALL
        .into_iter()
        .filter(|class| *class != ThreadClass::Setup)
        .map(|class| {
            let thread = thread::Builder::new().name(class.to_string());
            thread.spawn(move || confined(class)).unwrap()
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    // Their filters were for them alone.
    // SAFETY: takes no pointers.
    assert_ne!(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) }, -1);
}

/// What any Rust code may come to do.
fn confined(class: ThreadClass) {
    let filter = match class {
        ThreadClass::Vcpu => filter(class).bind(Role::Vcpu, fds::VCPU_BASE),
        ThreadClass::Block => filter(class).bind(Role::Disk, fds::DISK_BASE),
        _ => filter(class),
    };
    filter.install().unwrap();
    for _ in 0..2 {
        // Grows the heap, and shrinks it.
        let map: HashMap<usize, Vec<u8>> = (0..8000).map(|n| (n, vec![1; n % 3000])).collect();
        drop(map);
        let mut large = vec![1u8; 8 << 20];
        large.resize(20 << 20, 2);
    }
    let (_sender, receiver) = mpsc::channel::<()>();
    _ = receiver.recv_timeout(Duration::from_millis(5));
    thread::yield_now();
    eprintln!("{class}: lives");
}
