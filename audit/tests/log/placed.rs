//! What somebody placed at our names beforehand is refused, and never followed or waited for.

use crate::common::{Bed, exit, unlock, who};
use casemate_audit::Recorder;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

type Place = fn(&Path, &Path);

const PLACES: [(&str, Place); 6] = [
    ("a symbolic link", |at, precious| {
        symlink(precious, at).unwrap()
    }),
    ("a dangling link", |at, _| {
        symlink("/nonexistent/x", at).unwrap()
    }),
    ("a hard link", |at, precious| {
        std::fs::hard_link(precious, at).unwrap()
    }),
    ("a FIFO", |at, _| {
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, at, fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    }),
    ("a directory", |at, _| {
        std::fs::create_dir(at).unwrap();
        std::fs::set_permissions(at, std::fs::Permissions::from_mode(0o777)).unwrap();
    }),
    ("a socket", |at, _| {
        drop(std::os::unix::net::UnixListener::bind(at).unwrap())
    }),
];

/// Puts each kind of thing at `name` (below the bed's folder) in place of what is there.
fn placed_at(name: &str, used_before: bool, harmless: bool) {
    for (what, place) in PLACES {
        let bed = Bed::new();
        let base = bed.folder().parent().unwrap().to_owned();
        let precious = base.join("precious");
        std::fs::write(&precious, "precious").unwrap();
        if used_before {
            bed.write([exit(1)]);
        }
        let at = base.join(name);
        unlock(&base);
        if at.is_dir() {
            std::fs::remove_dir_all(&at).unwrap();
        } else {
            let _ = std::fs::remove_file(&at);
        }
        let parent = at.parent().unwrap();
        if !parent.exists() {
            std::fs::create_dir(parent).unwrap();
            std::fs::set_permissions(parent, std::fs::Permissions::from_mode(0o700)).unwrap();
        }
        place(&at, &precious);
        let recorded = Recorder::open(&bed.settings(), who("job")).and_then(|mut recorder| {
            recorder.add(exit(2));
            let binary = std::fs::File::open("/bin/true").unwrap();
            use std::os::fd::AsFd;
            recorder.digest(binary.as_fd())?;
            recorder.commit()
        });
        match recorded {
            Ok(()) => assert!(harmless, "{what} at {name} was taken"),
            Err(e) => assert!(e.to_string().contains(base.to_str().unwrap()), "{e}"),
        }
        assert_eq!(
            std::fs::read_to_string(&precious).unwrap(),
            "precious",
            "{what} at {name}"
        );
        let meta = std::fs::metadata(&precious).unwrap();
        assert_eq!(meta.permissions().mode() & 0o777, 0o644);
    }
}

#[test]
fn at_names_not_used_yet() {
    for name in [
        "audit",
        "audit-key",
        "audit/head",
        "audit/audit-00000001.jsonl",
        "audit-key/secret",
        "audit-key/secret.new",
        "audit-key/digests",
    ] {
        placed_at(name, false, false);
    }
    // Whatever stands there is removed (not followed) and made anew.
    placed_at("audit-key/public", false, true);
}

#[test]
fn at_names_in_use() {
    for name in [
        "audit",
        "audit-key",
        "audit/head",
        "audit/audit-00000001.jsonl",
        "audit-key/secret",
        "audit-key/digests",
    ] {
        placed_at(name, true, false);
    }
}

#[test]
fn a_folder_that_others_may_write_to_is_refused() {
    for name in ["audit", "audit-key"] {
        let bed = Bed::new();
        bed.write([exit(1)]);
        let path = bed.folder().with_file_name(name);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o770)).unwrap();
        let error = Recorder::open(&bed.settings(), who("job")).unwrap_err();
        assert!(error.to_string().contains("770"), "{error}");
    }
}
