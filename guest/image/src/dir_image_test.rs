use super::*;
use crate::rootfs::detect;
use std::os::unix::fs::symlink;

fn tree(folder: &Path) -> PathBuf {
    let root = folder.join("-root");
    fs::create_dir_all(root.join("bin")).unwrap();
    fs::write(root.join("bin/large"), vec![7; 1 << 20]).unwrap();
    fs::write(root.join("small"), "text").unwrap();
    fs::set_permissions(root.join("small"), Permissions::from_mode(0o4711)).unwrap();
    symlink("bin/large", root.join("link")).unwrap();
    root
}

#[test]
fn both_tools_make_images_that_are_cached_and_reproducible() {
    for tool in Tool::ALL {
        let Some(program) = tool.find() else {
            eprintln!("skipped: no {}", tool.name());
            continue;
        };
        let folder = tempfile::tempdir().unwrap();
        let root = tree(folder.path());
        let cache = folder.path().join("cache");
        let image = make(tool, &program, &root, &cache).unwrap();
        assert!(!image.cached);
        let found = detect(&File::open(&image.path).unwrap()).unwrap();
        assert_eq!(found.format, tool.format());
        assert_eq!(found.len % 4096, 0);
        assert!(make(tool, &program, &root, &cache).unwrap().cached);
        let again = make(tool, &program, &root, &folder.path().join("cache2")).unwrap();
        let [a, b] = [image, again].map(|image| fs::read(image.path).unwrap());
        assert!(a == b, "{}", tool.name());
        // The image and the lock, and nothing else.
        assert_eq!(fs::read_dir(&cache).unwrap().count(), 2);
    }
}

#[test]
fn a_change_makes_another_image() {
    if Tool::ALL.into_iter().all(|tool| tool.find().is_none()) {
        eprintln!("skipped: neither mkfs.erofs nor mke2fs");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let root = tree(folder.path());
    let cache = folder.path().join("cache");
    let first = image_from_dir(&root, &cache).unwrap();
    fs::write(root.join("small"), "TEXT").unwrap();
    let second = image_from_dir(&root, &cache).unwrap();
    assert_ne!(first.path, second.path);
    assert!(!second.cached);
}

#[test]
fn many_at_once_make_one() {
    let folder = tempfile::tempdir().unwrap();
    let root = tree(folder.path());
    let cache = folder.path().join("cache");
    let made: Vec<DirImage> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..6)
            .map(|_| scope.spawn(|| image_from_dir(&root, &cache).unwrap()))
            .collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(made.iter().filter(|image| !image.cached).count(), 1);
}

#[test]
fn failures_are_said_in_one_line_and_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let root = tree(folder.path());
    let cache = folder.path().join("cache");
    let error = make(Tool::MkfsErofs, Path::new("/bin/false"), &root, &cache).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("it says nothing (exit status: 1)")
    );
    assert_eq!(fs::read_dir(&cache).unwrap().count(), 1);
    let missing = image_from_dir(&folder.path().join("no"), &cache).unwrap_err();
    assert!(missing.to_string().contains("No such file"));
}

#[test]
fn uuids_are_of_the_digest() {
    let digest = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    assert_eq!(uuid(digest), "01234567-89ab-8cde-8f01-23456789abcd");
}
