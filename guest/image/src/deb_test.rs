use super::*;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use std::io::{Seek, Write};

fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        // Not set_path: it refuses what a hostile package would hold.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(content.len() as u64);
        header.set_mode(0o4777);
        header.set_entry_type(tar::EntryType::Regular);
        header.set_cksum();
        tar.append(&header, *content).unwrap();
    }
    tar.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn deb(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = ar::Builder::new(Vec::new());
    for (name, content) in members {
        let header = ar::Header::new(name.as_bytes().to_vec(), content.len() as u64);
        archive.append(&header, *content).unwrap();
    }
    archive.into_inner().unwrap()
}

fn package(files: &[(&str, &[u8])]) -> Vec<u8> {
    deb(&[
        ("debian-binary", b"2.0\n"),
        ("control.tar.gz", &gzip(&tar(&[]))),
        ("data.tar.gz", &gzip(&tar(files))),
    ])
}

fn unpack(bytes: &[u8], folder: &Path) -> Result<KernelFiles, DebError> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    extract(file, folder)
}

fn files_below(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            let below = files_below(&entry.path());
            found.extend(below.into_iter().map(|file| format!("{name}/{file}")));
        } else {
            found.push(name);
        }
    }
    found.sort();
    found
}

#[test]
fn takes_what_a_guest_can_need() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = package(&[
        ("./boot/vmlinuz-6.1.0", b"kernel"),
        ("./boot/config-6.1.0", b"config"),
        ("./boot/System.map-6.1.0", b"map"),
        ("./usr/lib/modules/6.1.0/modules.builtin", b"list"),
        ("./lib/modules/6.1.0/kernel/fs/ext4/ext4.ko", b"ext4"),
        (
            "./lib/modules/6.1.0/kernel/drivers/block/virtio_blk.ko",
            b"b",
        ),
        ("./lib/modules/6.1.0/kernel/drivers/net/e1000.ko", b"net"),
        ("./usr/share/doc/copyright", b"doc"),
    ]);
    let files = unpack(&bytes, folder.path()).unwrap();
    assert_eq!(files.release, "6.1.0");
    assert_eq!(fs::read(&files.kernel).unwrap(), b"kernel");
    assert!(files.config.is_some() && files.modules.is_some());
    assert_eq!(
        files_below(folder.path()),
        [
            "boot/config-6.1.0",
            "boot/vmlinuz-6.1.0",
            "lib/modules/6.1.0/kernel/drivers/block/virtio_blk.ko",
            "lib/modules/6.1.0/kernel/fs/ext4/ext4.ko",
            "lib/modules/6.1.0/modules.builtin",
        ]
    );
}

#[test]
fn nothing_leaves_the_folder() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("in");
    fs::create_dir(&folder).unwrap();
    let bytes = package(&[
        ("../boot/vmlinuz-out", b"x"),
        ("/boot/vmlinuz-absolute", b"x"),
        ("boot/../../vmlinuz-out", b"x"),
        ("lib/modules/6.1.0/kernel/../../../../../out", b"x"),
        ("./boot/vmlinuz-6.1.0", b"kernel"),
    ]);
    let result = unpack(&bytes, &folder);
    assert_eq!(files_below(outer.path()), ["in/boot/vmlinuz-6.1.0"]);
    assert_eq!(result.unwrap().release, "6.1.0");
}

/// A tar whose first entry gives the second a long name, `name`.
fn long_named(name: &[u8], content: &[u8]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (kind, bytes) in [
        (tar::EntryType::GNULongName, name),
        (tar::EntryType::Regular, content),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_path("short").unwrap();
        header.set_size(bytes.len() as u64);
        header.set_entry_type(kind);
        header.set_cksum();
        tar.append(&header, bytes).unwrap();
    }
    tar.into_inner().unwrap()
}

#[test]
fn long_names_are_taken_and_bounded() {
    let of = |name: &[u8]| {
        let content = gzip(&long_named(name, b"kernel"));
        deb(&[("debian-binary", b"2.0\n"), ("data.tar.gz", &content)])
    };
    let folder = tempfile::tempdir().unwrap();
    let release = "6".repeat(150);
    let name = format!("./boot/vmlinuz-{release}\0");
    let files = unpack(&of(name.as_bytes()), folder.path()).unwrap();
    assert_eq!(files.release, release);
    assert_eq!(fs::read(&files.kernel).unwrap(), b"kernel");
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("in");
    fs::create_dir(&folder).unwrap();
    let error = unpack(&of(&vec![b'a'; 1 << 20]), &folder).unwrap_err();
    assert!(matches!(error, DebError::TooLarge(_)), "{error}");
    assert!(unpack(&of(b"boot/../../vmlinuz-out"), &folder).is_err());
    assert_eq!(files_below(outer.path()), [""; 0]);
}

#[test]
fn names_what_is_wrong() {
    let two = package(&[("boot/vmlinuz-a", b"x"), ("boot/vmlinuz-b", b"x")]);
    let bzip2 = deb(&[("debian-binary", b"2.0\n"), ("data.tar.bz2", b"BZh")]);
    let damaged = deb(&[("debian-binary", b"2.0\n"), ("data.tar.xz", b"xxxxxx")]);
    for (bytes, expected) in [
        (b"junk".to_vec(), "not a Debian package"),
        (Vec::new(), "not a Debian package"),
        (deb(&[("debian-binary", b"2.0\n")]), "without content"),
        (package(&[]), "no kernel in the package"),
        (two, "more than one kernel in the package: a and b"),
        (bzip2, "bzip2"),
        (damaged, "content of the package"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let error = unpack(&bytes, folder.path()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error:?} lacks {expected:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn hostile_packages_never_panic_nor_leave_the_folder(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
    ) {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("in");
        fs::create_dir(&folder).unwrap();
        let content = tar(&[("./boot/vmlinuz-6.1.0", b"kernel"), ("./boot/config-6.1.0", b"c")]);
        let mut bytes = deb(&[("debian-binary", b"2.0\n"), ("data.tar", &content)]);
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let _ = unpack(&bytes, &folder);
        prop_assert_eq!(fs::read_dir(outer.path()).unwrap().count(), 1);
    }
}
