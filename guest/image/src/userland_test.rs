use super::*;
use crate::tree::summarize;

fn busybox() -> Option<PathBuf> {
    let found = USUAL_PLACES
        .map(PathBuf::from)
        .into_iter()
        .find(|place| fs::read(place).is_ok_and(|program| is_static(&program)));
    if found.is_none() {
        eprintln!("skipped: no static busybox (package busybox-static)");
    }
    found
}

#[test]
fn the_same_busybox_gives_the_same_tree() {
    let Some(busybox) = busybox() else { return };
    let folder = tempfile::tempdir().unwrap();
    let trees = ["a", "b"].map(|name| {
        let root = folder.path().join(name);
        build(&busybox, &root).unwrap();
        summarize(&root).unwrap()
    });
    assert_eq!(trees[0], trees[1]);
    let root = folder.path().join("a");
    assert_eq!(
        fs::read_link(root.join("bin/sh")).unwrap(),
        Path::new("/bin/busybox")
    );
    let tmp = fs::metadata(root.join("tmp")).unwrap();
    assert_eq!(tmp.permissions().mode() & 0o7777, 0o1777);
}

#[test]
fn the_image_is_cached() {
    let Some(busybox) = busybox() else { return };
    let cache = tempfile::tempdir().unwrap();
    let first = userland(&busybox, cache.path()).unwrap();
    let second = userland(&busybox, cache.path()).unwrap();
    assert_eq!((first.cached, second.cached), (false, true));
    assert_eq!(first.path, second.path);
}

#[test]
fn only_a_static_program_will_do() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("busybox");
    fs::write(&script, "#!/bin/sh\n").unwrap();
    let error = build(&script, &folder.path().join("root")).unwrap_err();
    assert!(error.to_string().contains("apt-get install busybox-static"));
}
