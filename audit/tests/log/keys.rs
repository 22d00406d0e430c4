//! Keys, heads and whole logs that are lost, exchanged or rolled back.

use crate::common::{Bed, Log, exit, key_of, unlock, verify_folder, who};
use casemate_audit::verify::{Evidence, Options, verify};
use casemate_audit::{AuditError, Head, Recorder, SLOT, Slot, key_folder, log_name};

fn refused(bed: &Bed) -> AuditError {
    let opened = Recorder::open(&bed.settings(), who("job"));
    match opened.and_then(|mut recorder| {
        recorder.add(exit(0));
        recorder.commit()
    }) {
        Ok(()) => panic!("it was recorded"),
        Err(e) => e,
    }
}

#[test]
fn without_its_key_nothing_is_recorded() {
    let bed = Bed::new();
    bed.write([exit(1)]);
    let secret = key_folder(&bed.folder()).join("secret");
    let text = std::fs::read(&secret).unwrap();
    std::fs::remove_file(&secret).unwrap();
    let error = refused(&bed);
    assert!(matches!(error, AuditError::KeyLost { .. }), "{error}");
    // The public key is enough to verify.
    assert!(bed.verify().is_whole());

    let other = Bed::new();
    other.write([exit(1)]);
    std::fs::copy(key_folder(&other.folder()).join("secret"), &secret).unwrap();
    let error = refused(&bed);
    assert!(matches!(error, AuditError::Changed { .. }), "{error}");
    std::fs::write(&secret, text).unwrap();
    bed.write([exit(2)]);
    assert!(bed.verify().is_whole());
}

#[test]
fn a_log_that_is_gone_is_noticed() {
    let bed = Bed::new();
    bed.write([exit(1)]);
    unlock(&bed.folder());
    std::fs::remove_dir_all(bed.folder()).unwrap();
    let error = refused(&bed);
    assert!(matches!(error, AuditError::LogLost { .. }), "{error}");
    assert!(error.to_string().contains("audit-key"), "{error}");
    // As the remedy says.
    std::fs::remove_dir_all(bed.folder()).unwrap();
    std::fs::remove_dir_all(key_folder(&bed.folder())).unwrap();
    bed.write([exit(1)]);
    assert!(bed.verify().is_whole());
}

#[test]
fn a_log_that_was_changed_is_not_signed_again() {
    let bed = Bed::new();
    bed.write([exit(1)]);
    let older = Log::read(&bed.folder());
    bed.write([exit(2)]);
    let good = Log::read(&bed.folder());
    let changed = |change: &dyn Fn(&mut Log)| {
        let mut log = good.clone();
        change(&mut log);
        log.write(&bed.folder());
        let error = refused(&bed);
        assert!(matches!(error, AuditError::Changed { .. }), "{error}");
        assert!(
            error.to_string().contains("casemate audit verify"),
            "{error}"
        );
        assert!(!bed.verify().is_whole());
    };
    changed(&|log| log.head.clear());
    changed(&|log| log.head[SLOT + 10] ^= 1);
    changed(&|log| log.head.truncate(SLOT));
    changed(&|log| log.head = older.head.clone());
    changed(&|log| log.files = older.files.clone());
    changed(&|log| log.files.clear());
    changed(&|log| log.files[0].1.truncate(10));
    changed(&|log| log.files[0].1.push(b'\n'));
    changed(&|log| log.files.push((2, b"{}\n".to_vec())));
    good.write(&bed.folder());
    bed.write([exit(3)]);
    assert!(bed.verify().is_whole());
}

#[test]
fn another_logs_key_or_files_are_told() {
    let (bed, other) = (Bed::new(), Bed::new());
    bed.write([exit(1)]);
    other.write([exit(1)]);
    let log = Log::read(&bed.folder());
    let verdict = log.verify(&other.key(), &Options::default());
    assert!(
        verdict.findings[0].what.contains("wrong key"),
        "{verdict:?}"
    );
    let mut mixed = log;
    mixed.files = Log::read(&other.folder()).files;
    assert!(!mixed.verify(&bed.key(), &Options::default()).is_whole());
}

/// What a head copied elsewhere adds: a log that was rolled back with its head.
#[test]
fn a_roll_back_is_found_with_a_head_copied_earlier() {
    let bed = Bed::new();
    bed.write([exit(1)]);
    let older = Log::read(&bed.folder());
    bed.write([exit(2)]);
    let copied: Head = Slot::parse(&Log::read(&bed.folder()).head[..SLOT])
        .unwrap()
        .head;
    let options = Options {
        earlier: vec![copied],
        ..Options::default()
    };
    bed.write([exit(3)]);
    assert!(verify_folder(&bed.folder(), &options).is_whole());
    // Nothing in it is wrong by itself, and `docs/audit.md` says so.
    older.write(&bed.folder());
    assert!(bed.verify().is_whole());
    let verdict = verify_folder(&bed.folder(), &options);
    assert!(
        verdict.findings[0].what.contains("rolled back"),
        "{verdict:?}"
    );
    // Gone on with from there, it is not the same log any more.
    bed.write([exit(4)]);
    bed.write([exit(5)]);
    assert!(!verify_folder(&bed.folder(), &options).is_whole());
}

#[test]
fn copies_without_the_first_files_verify_from_where_they_begin() {
    let bed = Bed::new();
    let mut settings = bed.settings();
    settings.file_bytes = 2000;
    let mut recorder = Recorder::open(&settings, who("job")).unwrap();
    for n in 0..20 {
        recorder.add(exit(n));
        recorder.commit().unwrap();
    }
    let copies = tempfile::tempdir().unwrap();
    let mut paths = Vec::new();
    for (number, content) in Log::read(&bed.folder()).files.iter().skip(2) {
        // Under another name: a file tells its number itself.
        let path = copies.path().join(format!("host1-{number}"));
        std::fs::write(&path, content).unwrap();
        paths.insert(0, path);
    }
    paths.push(bed.folder().join("head"));
    let verify_with = |options: &Options| {
        let evidence = Evidence::of_files(&paths).unwrap();
        verify(evidence, &key_of(&bed.folder()), options).unwrap()
    };
    let options = Options {
        from_any: true,
        ..Options::default()
    };
    let verdict = verify_with(&options);
    assert!(verdict.is_whole(), "{:?}", verdict.findings);
    assert!(verdict.notes[0].what.contains("verified from here on"));
    let verdict = verify_with(&Options::default());
    assert_eq!(verdict.findings[0].file, log_name(1));
    // One in the middle cannot be missing.
    paths.remove(1);
    let evidence = Evidence::of_files(&paths).unwrap();
    let verdict = verify(evidence, &key_of(&bed.folder()), &options).unwrap();
    assert!(!verdict.is_whole());
}
