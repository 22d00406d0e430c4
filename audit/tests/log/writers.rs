//! Many writers at once keep one chain.

use crate::common::{Bed, exit, verify_folder, who};
use crate::crash::record;
use casemate_audit::Recorder;
use casemate_audit::verify::{Evidence, Options, verify};
use std::process::{Command, Stdio};

#[test]
fn many_processes_keep_one_chain_from_the_first_use_on() {
    let bed = Bed::new();
    let children: Vec<_> = (0..40)
        .map(|_| {
            Command::new(record())
                .arg("write")
                .arg(bed.folder())
                .arg("10")
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let verdict = bed.verify();
    assert!(
        verdict.is_whole() && verdict.notes.is_empty(),
        "{verdict:?}"
    );
    assert_eq!(verdict.lines, 40 * 10 * 3 + verdict.files);
    assert!(verdict.files > 1);
}

#[test]
fn a_log_that_is_being_written_to_verifies() {
    let bed = Bed::new();
    bed.write([exit(0)]);
    let key = bed.key();
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|n| {
                let mut settings = bed.settings();
                settings.file_bytes = 20_000;
                scope.spawn(move || {
                    for commit in 0..60 {
                        let mut recorder =
                            Recorder::open(&settings, who(&format!("job-{n}"))).unwrap();
                        for line in 0..5 {
                            recorder.add(exit(commit * 5 + line));
                        }
                        recorder.commit().unwrap();
                    }
                })
            })
            .collect();
        while !writers
            .iter()
            .all(std::thread::ScopedJoinHandle::is_finished)
        {
            let evidence = Evidence::of_folder(&bed.folder()).unwrap();
            let verdict = verify(evidence, &key, &Options::default()).unwrap();
            assert!(verdict.is_whole(), "{:?}", verdict.findings);
        }
    });
    let verdict = verify_folder(&bed.folder(), &Options::default());
    assert!(verdict.is_whole(), "{:?}", verdict.findings);
    assert_eq!(verdict.lines, 1 + 4 * 60 * 5 + verdict.files);
}

#[test]
fn each_file_follows_on_the_one_before() {
    let bed = Bed::new();
    let mut settings = bed.settings();
    settings.file_bytes = 3000;
    settings.sync = true;
    let mut recorder = Recorder::open(&settings, who("job")).unwrap();
    for n in 0..20 {
        recorder.add(exit(n));
        recorder.commit().unwrap();
    }
    let log = crate::common::Log::read(&bed.folder());
    assert!(log.files.len() > 3);
    for pair in log.files.windows(2) {
        let last = pair[0].1.strip_suffix(b"\n").unwrap();
        let last = last.rsplit(|&b| b == b'\n').next().unwrap();
        let first: serde_json::Value =
            serde_json::from_slice(pair[1].1.split(|&b| b == b'\n').next().unwrap()).unwrap();
        let digest = casemate_audit::Digest::of(last).to_string();
        assert_eq!(first["event"], "open");
        assert_eq!(first["prev"], digest);
        assert_eq!(first["what"]["follows"]["hash"], digest);
        assert_eq!(first["what"]["follows"]["file"], pair[0].0);
        assert_eq!(first["what"]["follows"]["offset"], pair[0].1.len());
    }
    assert!(bed.verify().is_whole());
}

/// A file system that has the attribute, and a privilege that root has here.
#[test]
fn the_files_are_append_only_where_that_can_be_had() {
    use rustix::fs::{IFlags, ioctl_getflags};
    let bed = Bed::new();
    bed.write([exit(1)]);
    let path = bed.folder().join(casemate_audit::log_name(1));
    let file = std::fs::File::open(&path).unwrap();
    match ioctl_getflags(&file) {
        Ok(flags) if flags.contains(IFlags::APPEND) => {
            assert!(std::fs::OpenOptions::new().write(true).open(&path).is_err());
            assert!(std::fs::remove_file(&path).is_err());
        }
        // As on file systems without it: nothing else to see here.
        Ok(_) | Err(_) => {}
    }
    bed.write([exit(2)]);
    assert!(bed.verify().is_whole());
}
