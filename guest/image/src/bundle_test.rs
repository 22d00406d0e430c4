use super::*;
use crate::bzimage::tests::bzimage;
use crate::kernel::tests::elf;

fn kernel() -> Vec<u8> {
    let mut kernel = elf(62);
    kernel.extend(b"\0Linux version %s\0Linux version 6.1.0-test (someone) #1\0");
    kernel
}

fn source<'a>(kernel: &'a Path, init: &'a [u8]) -> Source<'a> {
    Source {
        name: "test",
        kernel,
        modules: None,
        init,
    }
}

#[test]
fn is_made_opened_and_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("vmlinuz");
    fs::write(&file, bzimage(&kernel())).unwrap();
    let place = folder.path().join("kernels/test");
    let made = Bundle::create(&place, source(&file, b"init")).unwrap();
    assert_eq!(made.description.release, "6.1.0-test");
    assert_eq!(made.description.source_format, SourceFormat::BzImage);
    assert_eq!(made.description.rootfs, RootfsFormat::ALL);
    assert_eq!(fs::read(made.vmlinux()).unwrap(), kernel());
    assert!(made.has_init(b"init") && !made.has_init(b"other"));
    assert_eq!(Bundle::open(&place).unwrap(), made);

    let again = Bundle::create(&place, source(&file, b"other")).unwrap();
    assert!(again.has_init(b"other"));
    let left = fs::read_dir(place.parent().unwrap()).unwrap().count();
    assert_eq!(left, 1, "no staging folder stays");
}

#[test]
fn a_bad_kernel_leaves_nothing_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("vmlinuz");
    let place = folder.path().join("kernels/test");
    let full = bzimage(&kernel());
    for (content, expected) in [
        (Vec::new(), "vmlinuz: empty file"),
        (full[..full.len() - 9].to_vec(), "vmlinuz: truncated"),
        (elf(62), "no version banner"),
        (elf(183), "a kernel for aarch64"),
    ] {
        fs::write(&file, content).unwrap();
        let error = Bundle::create(&place, source(&file, b"init"))
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{error:?} lacks {expected:?}");
        assert!(!place.exists());
    }
}

#[test]
fn another_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("vmlinux");
    fs::write(&file, kernel()).unwrap();
    let place = folder.path().join("test");
    let made = Bundle::create(&place, source(&file, b"init")).unwrap();
    let path = place.join(DESCRIPTION);
    let mut newer = made.description.clone();
    newer.schema += 1;
    fs::write(&path, serde_json::to_vec(&newer).unwrap()).unwrap();
    let error = Bundle::open(&place).unwrap_err().to_string();
    assert!(error.ends_with("import the kernel anew"), "{error}");
    fs::remove_file(made.vmlinux()).unwrap();
    fs::write(&path, serde_json::to_vec(&made.description).unwrap()).unwrap();
    assert!(matches!(
        Bundle::open(&place),
        Err(BundleError::File { .. })
    ));
}
