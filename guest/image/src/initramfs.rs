//! The initramfs: our init, the modules it loads, and two device nodes.

use crate::cpio::Cpio;
use crate::modules::ModuleSet;

/// Builds it. The same input gives the same bytes.
///
/// `/dev/console` and `/dev/null` must exist before anything is mounted: the
/// kernel opens the first as the init's fds 0 to 2, and where there is no
/// console a program's runtime opens the second.
pub fn build(init: &[u8], modules: &ModuleSet) -> Vec<u8> {
    let mut cpio = Cpio::new();
    for folder in ["dev", "proc", "sys", "root", "casemate"] {
        cpio.directory(folder, 0o755);
    }
    cpio.character_device("dev/console", 0o600, 5, 1);
    cpio.character_device("dev/null", 0o666, 1, 3);
    if !modules.files.is_empty() {
        cpio.directory("modules", 0o755);
        cpio.file("modules/order", 0o644, modules.order().as_bytes());
        for (name, content) in &modules.files {
            cpio.file(&format!("modules/{name}"), 0o644, content);
        }
    }
    cpio.file("init", 0o755, init);
    cpio.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_the_init_and_the_modules() {
        let mut modules = ModuleSet::none();
        modules
            .groups
            .push(("base".to_owned(), vec!["a.ko".to_owned()]));
        modules.files.insert("a.ko".to_owned(), b"module".to_vec());
        let bytes = build(b"program", &modules);
        let text = String::from_utf8_lossy(&bytes);
        for name in ["modules/order\0", "base: a.ko\n", "init\0", "dev/console\0"] {
            assert!(text.contains(name), "{name:?}");
        }
        assert_eq!(bytes, build(b"program", &modules));
    }
}
