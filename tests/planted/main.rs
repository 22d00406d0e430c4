//! Something planted at a path that the jailer writes never makes it touch the outside
//! (the class of CVE-2026-1386).
//!
//! Which paths it writes is read from a trace of a whole start (strace(1)), so none is
//! forgotten. At each of them, one after the other, stands a symbolic link, a hard link, a
//! FIFO, a directory or a socket, as somebody who may write to the folder could have put it
//! there; and its folder is exchanged with a link to the outside again and again while cells
//! start. The run folder is root's alone, so nobody can: this is the second line.

mod outside;
mod paths;
mod plant;
mod subject;

use casemate_tests::audit::unlock;
use casemate_tests::cell;
use outside::Outside;
use plant::Plant;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use subject::{Came, Subject};

/// Starts during which a folder is exchanged again and again.
const RACES: u32 = 25;

/// Folders, counted from the scratch folder, that are the operator's own.
const OPERATORS: usize = 1;

/// Every plant at every path.
fn plants(subject: &dyn Subject) {
    let scratch = cell::run_folder();
    let paths = written(subject, scratch.path());
    for path in &paths {
        for plant in Plant::ALL {
            let outside = Outside::new();
            let at = format!("{plant:?} at {}", path.display());
            clean(scratch.path());
            let planted = plant.put(&scratch.path().join(path), outside.path());
            let before = outside.state();
            let came = subject.start(scratch.path());
            assert_eq!(outside.state(), before, "{at}: {came:?}");
            assert!(
                came.whole || came.refused_in_one_line(subject.refusal()),
                "{at} gave {came:?}"
            );
            if plant == Plant::Full {
                let kept = planted.iter().any(|path| path.join("theirs").exists());
                assert!(kept, "{at}: what is not the jailer's was removed");
            }
            clean(scratch.path());
            let came = subject.start(scratch.path());
            assert!(came.whole, "without {at}: {came:?}");
        }
    }
}

/// Every folder that it writes to, exchanged with a link to the outside again and again.
fn races(subject: &dyn Subject) {
    let scratch = cell::run_folder();
    let paths = written(subject, scratch.path());
    let mut folders: Vec<PathBuf> = paths
        .iter()
        .filter_map(|path| path.parent())
        .filter(|folder| folder.components().count() > OPERATORS)
        .map(Path::to_owned)
        .collect();
    folders.sort();
    folders.dedup();
    assert!(!folders.is_empty(), "no folder among {paths:?}");
    for folder in folders {
        let outside = Outside::new();
        let before = outside.state();
        clean(scratch.path());
        let at = scratch.path().join(&folder);
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let exchanger = scope.spawn(|| plant::exchange(&at, outside.path(), &over));
            for _ in 0..RACES {
                let came = subject.start(scratch.path());
                // Whoever wins: a start is whole or refused, and soon.
                let fine = came.whole || came.failed_soon();
                if !fine {
                    over.store(true, Ordering::Relaxed);
                    panic!("{} exchanged: {came:?}", folder.display());
                }
            }
            over.store(true, Ordering::Relaxed);
            let times = exchanger.join().expect("the exchanger ends");
            assert!(times > 100, "only {times} exchanges");
        });
        assert_eq!(outside.state(), before, "{} exchanged", folder.display());
        clean(scratch.path());
        let came = subject.start(scratch.path());
        assert!(
            came.whole,
            "after {} was exchanged: {came:?}",
            folder.display()
        );
    }
}

/// What a start writes below `scratch`, relative to it.
fn written(subject: &dyn Subject, scratch: &Path) -> Vec<PathBuf> {
    clean(scratch);
    let (came, trace): (Came, String) = subject.traced(scratch);
    assert!(came.whole, "{came:?}");
    let mut paths = paths::written(&trace, scratch, &subject.root());
    // Operators' own folders may be what they like.
    paths.retain(|path| path.components().count() > OPERATORS);
    assert!(paths.len() >= subject.least(), "only {paths:?}");
    paths
}

/// Empties the folder.
fn clean(scratch: &Path) {
    unlock(scratch);
    for entry in fs::read_dir(scratch).expect("the folder").flatten() {
        let path = entry.path();
        let folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        match folder {
            true => fs::remove_dir_all(path),
            false => fs::remove_file(path),
        }
        .expect("removed");
    }
}

macro_rules! tried {
    ($(fn $test:ident() = $what:ident($subject:expr);)*) => {$(
        #[test]
        fn $test() {
            $what(&$subject);
        }
    )*};
}

tried! {
    fn at_every_path_of_a_jail() = plants(subject::Jail);
    fn at_every_path_of_a_vm() = plants(subject::Vm);
    fn at_every_path_of_the_peers_jailer() = plants(subject::Peer::new());
    fn while_every_folder_of_a_jail_is_exchanged() = races(subject::Jail);
    fn while_every_folder_of_a_vm_is_exchanged() = races(subject::Vm);
    fn while_every_folder_of_the_peers_jailer_is_exchanged() = races(subject::Peer::new());
}
