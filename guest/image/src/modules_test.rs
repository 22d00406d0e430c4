use super::*;
use std::io::Write;

/// An object file with this `.modinfo`.
pub(crate) fn module(modinfo: &str) -> Vec<u8> {
    const NAMES: &[u8] = b"\0.modinfo\0.shstrtab\0";
    let text = modinfo.as_bytes();
    let (at_text, at_names) = (64, 64 + text.len());
    let at_table = (at_names + NAMES.len()).next_multiple_of(8);
    let mut elf = vec![0; 64];
    elf[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    elf[16] = 1;
    elf[18] = 62;
    elf[20] = 1;
    elf[40..48].copy_from_slice(&(at_table as u64).to_le_bytes());
    elf[52] = 64;
    elf[58] = 64;
    elf[60] = 3;
    elf[62] = 2;
    elf.extend(text);
    elf.extend(NAMES);
    elf.resize(at_table + 64, 0);
    for (name, kind, at, len) in [
        (1u32, 1u32, at_text, text.len()),
        (10, 3, at_names, NAMES.len()),
    ] {
        let mut section = [0; 64];
        section[..4].copy_from_slice(&name.to_le_bytes());
        section[4..8].copy_from_slice(&kind.to_le_bytes());
        section[24..32].copy_from_slice(&(at as u64).to_le_bytes());
        section[32..40].copy_from_slice(&(len as u64).to_le_bytes());
        elf.extend(section);
    }
    elf
}

struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        tree.builtin("kernel/drivers/virtio/virtio.ko\nkernel/drivers/virtio/virtio_ring.ko\n");
        for name in BASE {
            tree.add(name, "");
        }
        tree
    }

    fn builtin(&self, text: &str) {
        fs::write(self.0.path().join("modules.builtin"), text).unwrap();
    }

    fn put(&self, file: &str, content: &[u8]) {
        let folder = self.0.path().join("kernel/some/where");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(file), content).unwrap();
    }

    fn add(&self, name: &str, modinfo: &str) {
        let text = format!("{modinfo}\0vermagic=6.1.0 SMP\0");
        self.put(&format!("{name}.ko"), &module(&text));
    }

    fn collect(&self) -> Result<ModuleSet, ModulesError> {
        collect(self.0.path(), "6.1.0")
    }
}

#[test]
fn dependencies_come_first_and_once() {
    let tree = Tree::new();
    tree.add("virtio_mmio", "depends=virtio,virtio_ring");
    tree.add("vmw_vsock_virtio_transport", "depends=vsock,common");
    tree.add("common", "depends=vsock");
    tree.add("vsock", "depends=");
    tree.add("virtio-rng", "depends=rng-core");
    tree.add("rng-core", "");
    let set = tree.collect().unwrap();
    assert_eq!(
        set.order(),
        "base: virtio_mmio.ko virtio_blk.ko vsock.ko common.ko vmw_vsock_virtio_transport.ko \
         overlay.ko rng_core.ko virtio_rng.ko\n"
    );
    assert!(set.formats.is_empty());
    assert_eq!(set.files.len(), 8);
}

#[test]
fn soft_dependencies_of_ext4_are_found_by_alias() {
    let tree = Tree::new();
    tree.add("ext4", "softdep=pre: crc32c\0depends=jbd2,mbcache");
    tree.add("jbd2", "softdep=pre: crc32c");
    tree.add("mbcache", "");
    tree.add("crc32c_generic", "");
    tree.builtin("kernel/drivers/virtio/virtio.ko\nkernel/fs/squashfs/squashfs.ko\n");
    let set = tree.collect().unwrap();
    assert_eq!(
        set.groups[1],
        (
            "ext4".to_owned(),
            ["crc32c_generic.ko", "jbd2.ko", "mbcache.ko", "ext4.ko"]
                .map(str::to_owned)
                .to_vec()
        )
    );
    // Built in: a format without a group.
    assert_eq!(set.formats, [RootfsFormat::Ext4, RootfsFormat::Squashfs]);
}

#[test]
fn each_group_stands_alone() {
    let tree = Tree::new();
    tree.add("ext4", "depends=shared");
    tree.add("erofs", "depends=shared,overlay");
    tree.add("shared", "");
    let order = tree.collect().unwrap().order();
    assert!(order.contains("\nerofs: shared.ko erofs.ko\n"), "{order}");
    assert!(order.contains("\next4: shared.ko ext4.ko\n"), "{order}");
}

#[test]
fn compressed_modules_are_unpacked() {
    let tree = Tree::new();
    let path = tree.0.path().join("kernel/some/where/overlay.ko");
    let plain = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&plain).unwrap();
    tree.put("overlay.ko.gz", &encoder.finish().unwrap());
    assert_eq!(tree.collect().unwrap().files["overlay.ko"], plain);
}

#[test]
fn errors_name_the_module() {
    let says = |tree: &Tree, expected: &str| {
        let error = tree.collect().unwrap_err().to_string();
        assert!(error.contains(expected), "{error:?} lacks {expected:?}");
    };
    let tree = Tree::new();
    tree.add("overlay", "depends=gone");
    says(&tree, "has no gone (needed by overlay)");
    tree.put("overlay.ko", b"junk");
    says(&tree, "overlay.ko: neither gzip");
    tree.put("overlay.ko", &module("vermagic=5.10.0 SMP\0"));
    says(&tree, "is for Linux 5.10.0, and the kernel is 6.1.0");
    tree.put("overlay.ko", b"\x7fELF");
    says(&tree, "not a kernel module");
    let none = tempfile::tempdir().unwrap();
    let error = collect(none.path(), "6.1.0").unwrap_err().to_string();
    assert!(error.contains("has no virtio_mmio: a guest cannot run"));
}

#[test]
fn a_circle_ends() {
    let tree = Tree::new();
    tree.add("overlay", "depends=virtio_blk");
    tree.add("virtio_blk", "depends=overlay");
    assert_eq!(tree.collect().unwrap().files.len(), 4);
}

#[test]
fn a_chain_without_end_is_refused() {
    let tree = Tree::new();
    tree.add("virtio_mmio", "depends=m0");
    for n in 0..=MAX_CHAIN {
        tree.add(&format!("m{n}"), &format!("depends=m{}", n + 1));
    }
    let error = tree.collect().unwrap_err();
    assert!(matches!(error, ModulesError::Chain { .. }), "{error}");
}
