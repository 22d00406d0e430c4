//! Guests that misbehave cost the host no more than their limits.

use casemate_proto::status;
use casemate_tests::linux;
use casemate_tests::run::{Finished, Run};

fn panicked(done: &Finished) -> bool {
    done.status == i32::from(status::GUEST_PANIC)
}

#[test]
fn a_panic_is_told_with_the_kernels_own_words() {
    linux("a_panic_is_told_with_the_kernels_own_words", || {
        // Zeroes over the init's own code: a kernel without its init panics.
        let done = Run::sh(
            "a=$(sed -n '/r-xp/{s/-.*//p;q}' /proc/1/maps); \
             dd if=/dev/zero of=/proc/1/mem bs=4096 seek=$((0x$a/4096)) count=100 conv=notrunc; \
             sleep 60",
        )
        .option("--timeout", "60s")
        .go()
        .expect(i32::from(status::GUEST_PANIC));
        assert!(done.err().contains("Kernel panic"), "{}", done.err());
    });
}

#[test]
fn a_reset_from_inside_is_no_clean_exit() {
    linux("a_reset_from_inside_is_no_clean_exit", || {
        let done = Run::sh("reboot -f; sleep 60")
            .option("--timeout", "60s")
            .go();
        assert!(panicked(&done), "{done:?}");
    });
}

#[test]
fn a_program_that_wants_all_memory_is_told_so() {
    linux("a_program_that_wants_all_memory_is_told_so", || {
        // tail keeps all it read since the last newline, of which zeroes have none.
        let done = Run::new(["tail", "/dev/zero"])
            .option("--timeout", "120s")
            .go()
            .expect(i32::from(status::GUEST_OOM));
        assert!(done.err().contains("--memory"), "{}", done.err());
        let peak = done.report().usage.memory_peak_bytes;
        assert!(peak < 400 << 20, "the host paid {peak} bytes for 256 MiB");
    });
}

#[test]
fn a_fork_bomb_stays_inside() {
    linux("a_fork_bomb_stays_inside", || {
        let done = Run::sh("b() { b | b & }; b; sleep 5; exit 0")
            .option("--timeout", "20s")
            .go();
        // However the guest ends, the host's cost is bounded.
        assert!(
            done.report().usage.memory_peak_bytes < 400 << 20,
            "{:?}",
            done.report()
        );
        Run::new(["true"]).go().expect(0);
    });
}

#[test]
fn a_flooded_console_costs_little() {
    linux("a_flooded_console_costs_little", || {
        let console = tempfile::NamedTempFile::new().expect("a file");
        let done = Run::sh("yes > /dev/ttyS0 & sleep 5; exit 0")
            .option("--console", console.path())
            .option("--timeout", "60s")
            .go()
            .expect(0);
        let length = console.as_file().metadata().expect("metadata").len();
        assert!(length < 2 << 20, "{length} bytes of console");
        assert_eq!(done.out(), "");
    });
}

#[test]
fn a_guest_that_halts_for_ever_is_ended_by_its_limit() {
    linux("a_guest_that_halts_for_ever_is_ended_by_its_limit", || {
        // With its init stopped nobody answers; only the supervisor's clock runs.
        let done = Run::sh("sleep 1000 & kill -STOP 1; while :; do sleep 1000; done")
            .option("--timeout", "10s")
            .go()
            .expect(i32::from(status::TIMEOUT));
        assert!(done.wall.as_secs() < 12, "{:?}", done.wall);
    });
}

#[test]
fn a_disk_cut_short_while_in_use_is_the_guests_trouble() {
    linux(
        "a_disk_cut_short_while_in_use_is_the_guests_trouble",
        || {
            use std::io::Read;
            let folder = tempfile::tempdir().expect("a folder");
            let image = folder.path().join("root.ext4");
            std::fs::copy(casemate_tests::fixture::root("ext4"), &image).expect("copied");
            let run = Run::sh("echo up; read x; cat /big | md5sum; dd if=/dev/vda of=/dev/null bs=1M || echo io; exit 5")
            .option("--rootfs", &image)
            .option("--timeout", "60s");
            let mut child = run.spawn();
            let mut up = [0; 3];
            child
                .stdout
                .as_mut()
                .expect("a pipe")
                .read_exact(&mut up)
                .expect("up");
            let file = std::fs::OpenOptions::new()
                .write(true)
                .open(&image)
                .expect("opened");
            file.set_len(1 << 20).expect("cut");
            drop(child.stdin.take());
            let out = child.wait_with_output().expect("ends");
            let code = out.status.code().expect("a status");
            // The guest sees I/O errors: its program fails in its own way, the VMM lives on.
            assert_ne!(code, i32::from(status::VMM_DEATH), "{out:?}");
            assert!(
                String::from_utf8_lossy(&out.stdout).contains("io"),
                "{out:?}"
            );
        },
    );
}
