//! What a crash of the host leaves, which takes the key to make up.

use super::*;
use crate::event::Exit;
use crate::verify::{Evidence, Options, Verdict, verify};
use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
use std::os::unix::fs::FileExt;

struct Bed(tempfile::TempDir);

impl Bed {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn folder(&self) -> PathBuf {
        self.0.path().join("audit")
    }

    fn file(&self, number: u64) -> PathBuf {
        self.folder().join(crate::log_name(number))
    }

    fn recorder(&self) -> Recorder {
        let who = Who {
            tenant: "acme".parse().unwrap(),
            id: "job".parse().unwrap(),
        };
        Recorder::open(&Settings::of(self.folder()), who).unwrap()
    }

    fn write(&self, lines: i32) -> Result<(), AuditError> {
        let mut recorder = self.recorder();
        for n in 0..lines {
            recorder.add(Event::Exit(Exit {
                how: String::new(),
                status: Some(n),
                signal: None,
                cpu_user_us: 0,
                cpu_system_us: 0,
                memory_peak_bytes: 0,
            }));
        }
        let committed = recorder.commit();
        self.unlock();
        committed
    }

    /// Takes the append-only attribute off, so that the test can do what a crash does.
    fn unlock(&self) {
        for number in 1..5 {
            if let Ok(file) = File::open(self.file(number))
                && let Ok(flags) = ioctl_getflags(&file)
            {
                let _ = ioctl_setflags(&file, flags - IFlags::APPEND);
            }
        }
    }

    /// Makes the head one of an earlier boot.
    fn reboot(&self) {
        let path = self.folder().join(HEAD);
        let bytes = std::fs::read(&path).unwrap();
        let folders = Folders::open(&self.folder()).unwrap();
        let secret = Secret::load(&folders.keys).unwrap();
        let head = File::options().write(true).open(&path).unwrap();
        for number in 0..2 {
            let mut old = Slot::parse(&bytes[number * SLOT..][..SLOT]).unwrap().head;
            old.boot = "an earlier one".to_owned();
            let slot = Slot::sign(old, &secret).unwrap();
            head.write_all_at(&slot.bytes(), (number * SLOT) as u64)
                .unwrap();
        }
    }

    fn verify(&self, known_gaps: &[u64]) -> Verdict {
        let folders = Folders::open(&self.folder()).unwrap();
        let key = Secret::load(&folders.keys).unwrap().public();
        let options = Options {
            known_gaps: known_gaps.iter().copied().collect(),
            ..Options::default()
        };
        verify(Evidence::of_folder(&self.folder()).unwrap(), &key, &options).unwrap()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.unlock();
    }
}

#[test]
fn lines_that_a_crash_of_the_host_lost_are_told_and_the_log_goes_on() {
    let bed = Bed::new();
    bed.write(3).unwrap();
    let size = std::fs::metadata(bed.file(1)).unwrap().len();
    // Cut at a line's end, within a line, and to nothing at all.
    for cut in [size, size - 100, 0] {
        bed.write(4).unwrap();
        let file = File::options().write(true).open(bed.file(1)).unwrap();
        file.set_len(cut).unwrap();
        assert!(!bed.verify(&[]).is_whole());
        // In the same boot, no crash can have done it.
        let error = bed.write(1).unwrap_err();
        assert!(matches!(error, AuditError::Changed { .. }), "{error}");
        bed.reboot();
        bed.write(1).unwrap();
        let text = std::fs::read_to_string(bed.file(1)).unwrap();
        let gap = text
            .lines()
            .find(|line| line.contains("\"event\":\"gap\""))
            .unwrap();
        let gap = crate::Entry::parse(gap.as_bytes()).unwrap();
        let verdict = bed.verify(&[]);
        assert!(
            verdict
                .findings
                .iter()
                .any(|finding| finding.what.contains("crash of the host"))
        );
        let verdict = bed.verify(&[gap.seq]);
        if cut == size {
            assert!(verdict.is_whole(), "{:?}", verdict.findings);
        }
        // The gap is accounted for; a change beside it is still found.
        let mut bytes = std::fs::read(bed.file(1)).unwrap();
        let last = bytes.len() - 10;
        bytes[last] ^= 1;
        std::fs::write(bed.file(1), &bytes).unwrap();
        assert!(!bed.verify(&[gap.seq]).is_whole());
        std::fs::remove_dir_all(bed.folder()).unwrap();
        std::fs::remove_dir_all(crate::key_folder(&bed.folder())).unwrap();
        bed.write(3).unwrap();
    }
}

#[test]
fn bytes_that_a_crash_of_the_host_left_unsigned_are_told() {
    let bed = Bed::new();
    bed.write(2).unwrap();
    let head = std::fs::read(bed.folder().join(HEAD)).unwrap();
    bed.write(2).unwrap();
    // The lines came to the disk, the head did not.
    std::fs::write(bed.folder().join(HEAD), head).unwrap();
    bed.reboot();
    bed.write(1).unwrap();
    let verdict = bed.verify(&[4]);
    assert!(verdict.is_whole(), "{:?}", verdict.findings);
    assert!(
        verdict.notes[0].what.contains("nobody vouches"),
        "{:?}",
        verdict.notes
    );
    assert!(!bed.verify(&[]).is_whole());
}

#[test]
fn a_file_that_a_crash_of_the_host_lost_is_told() {
    let bed = Bed::new();
    bed.write(2).unwrap();
    std::fs::remove_file(bed.file(1)).unwrap();
    bed.reboot();
    bed.write(1).unwrap();
    bed.write(1).unwrap();
    let verdict = bed.verify(&[4]);
    assert!(verdict.is_whole(), "{:?}", verdict.findings);
    assert!(
        verdict.notes[0].what.contains("lost 3 lines"),
        "{:?}",
        verdict.notes
    );
}

#[test]
fn a_reboot_without_a_loss_is_nothing() {
    let bed = Bed::new();
    bed.write(2).unwrap();
    bed.reboot();
    bed.write(2).unwrap();
    let verdict = bed.verify(&[]);
    assert!(
        verdict.is_whole() && verdict.notes.is_empty(),
        "{verdict:?}"
    );
}
