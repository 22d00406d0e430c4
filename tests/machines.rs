//! The machines a guest can be: vCPUs, memory, kernels, roots, neighbours.

use casemate_tests::run::Run;
use casemate_tests::{fixture, linux};
use std::ffi::OsStr;
use std::process::Command;

#[test]
fn one_two_and_four_vcpus() {
    linux("one_two_and_four_vcpus", || {
        for n in ["1", "2", "4"] {
            let done = Run::new(["nproc"]).option("--cpus", n).go().expect(0);
            assert_eq!(done.out().trim(), n);
        }
    });
}

/// MemTotal is what the kernel has after its own reservations: between 80 % and
/// 100 % of what was given.
fn memory_is(given: &str, mib: u64) {
    let done = Run::sh("grep MemTotal /proc/meminfo")
        .option("--memory", given)
        .go()
        .expect(0);
    let kib: u64 = done
        .out()
        .split_whitespace()
        .nth(1)
        .and_then(|n| n.parse().ok())
        .unwrap_or_else(|| panic!("{}", done.out()));
    assert!(
        (mib * 1024 * 80 / 100..=mib * 1024).contains(&kib),
        "{given}: the guest sees {kib} KiB"
    );
}

#[test]
fn memory_of_128_mebibytes() {
    linux("memory_of_128_mebibytes", || memory_is("128M", 128));
}

#[test]
fn memory_of_2_gibibytes() {
    linux("memory_of_2_gibibytes", || memory_is("2G", 2048));
}

#[test]
fn memory_of_5_gibibytes_around_the_gap() {
    linux("memory_of_5_gibibytes_around_the_gap", || {
        memory_is("5G", 5120)
    });
}

fn kernel_is(name: impl AsRef<OsStr>, release: &str) {
    let name = name.as_ref();
    let done = Run::new(["uname", "-r"])
        .option("--kernel", name)
        .go()
        .expect(0);
    assert!(done.out().starts_with(release), "{name:?}: {}", done.out());
    println!(
        "{name:?}: {} in {:?}, {:?}",
        done.out().trim(),
        done.wall,
        done.report().phases
    );
}

fn import(arguments: &[&OsStr]) {
    let imported = Command::new(casemate_tests::bin("casemate"))
        .args(["kernel", "import"])
        .args(arguments)
        .output()
        .expect("casemate starts");
    assert!(imported.status.success(), "{imported:?}");
}

#[test]
fn the_lean_kernel_boots() {
    linux("the_lean_kernel_boots", || {
        kernel_is(fixture::lean_kernel(), "6.12");
        kernel_is(fixture::lean_kernel().with_file_name("bzImage"), "6.12");
    });
}

#[test]
fn debians_6_1_kernel_boots_from_its_folders() {
    linux("debians_6_1_kernel_boots_from_its_folders", || {
        let (_, root) = fixture::debian_kernel("6.1");
        let modules = std::fs::read_dir(root.join("lib/modules"))
            .expect("modules")
            .next()
            .expect("a release")
            .expect("readable")
            .path();
        let boot = root.join("boot");
        import(&[
            "--name".as_ref(),
            "debian-6.1".as_ref(),
            "--boot".as_ref(),
            boot.as_ref(),
            "--modules".as_ref(),
            modules.as_ref(),
        ]);
        kernel_is("debian-6.1", "6.1.");
    });
}

#[test]
fn debians_6_12_kernel_boots_from_its_package() {
    linux("debians_6_12_kernel_boots_from_its_package", || {
        let (package, _) = fixture::debian_kernel("6.12");
        import(&["--name".as_ref(), "debian-6.12".as_ref(), package.as_ref()]);
        kernel_is("debian-6.12", "6.12.");
        // Every file system there is a module: each root needs its own.
        for kind in ["ext4", "squashfs"] {
            let done = Run::new(["cat", "/mark"])
                .option("--kernel", "debian-6.12")
                .option("--rootfs", fixture::root(kind))
                .go()
                .expect(0);
            assert_eq!(done.out(), format!("{kind}\n"));
        }
    });
}

#[test]
fn every_kind_of_root_works() {
    linux("every_kind_of_root_works", || {
        for kind in ["ext4", "erofs", "squashfs", "dir"] {
            let root = fixture::root(kind);
            // The mark proves that this root is the one; writing to it proves the overlay.
            let done =
                Run::sh("cat /mark; echo x > /mark; cat /mark; grep -c overlay /proc/mounts")
                    .option("--rootfs", &root)
                    .go()
                    .expect(0);
            assert_eq!(done.out(), format!("{kind}\nx\n1\n"));
            let again = Run::sh("cat /mark")
                .option("--rootfs", &root)
                .go()
                .expect(0);
            assert_eq!(again.out(), format!("{kind}\n"), "a write outlived its run");
        }
    });
}

#[test]
fn three_tenants_at_once_do_not_see_each_other() {
    linux("three_tenants_at_once_do_not_see_each_other", || {
        let tenants = ["ann", "bob", "cid"].map(|tenant| {
            std::thread::spawn(move || {
                Run::sh(&format!(
                    "echo {tenant} > /tmp/secret; sleep 3; cat /tmp/*; ls /tmp | wc -l; \
                     ps -o comm | grep -c sleep; ls /sys/class/net | wc -l"
                ))
                .option("--tenant", tenant)
                .option("--id", "same-name")
                .go()
            })
        });
        for (tenant, run) in ["ann", "bob", "cid"].into_iter().zip(tenants) {
            let done = run.join().expect("runs").expect(0);
            assert_eq!(done.out(), format!("{tenant}\n1\n0\n1\n"));
        }
    });
}
