//! The guest kernel's command line.

/// What every guest gets:
/// `panic=-1` and `reboot=k` turn a panic into a reset at once, which ends the VM;
/// `pci=off` and the `i8042` and `8250` words skip probes for hardware that is not there;
/// `tsc=reliable` ends a check twice a second that would wake an idle guest: KVM shows
/// an invariant TSC only where the host's own is stable, and else the guest's clock is KVM's.
const ALWAYS: &str = "console=ttyS0 panic=-1 reboot=k pci=off i8042.noaux i8042.nomux \
                      i8042.dumbkbd 8250.nr_uarts=1 tsc=reliable";

/// Composes it. `rootfs` is the root image's format or `none`; of words that
/// appear twice the kernel takes the last, so `append` wins.
pub fn compose(rootfs: &str, verbose: bool, append: Option<&str>) -> String {
    let loglevel = if verbose { "loglevel=7" } else { "quiet" };
    let mut cmdline = format!("{ALWAYS} {loglevel} casemate.rootfs={rootfs}");
    if let Some(append) = append {
        cmdline.push(' ');
        cmdline.push_str(append);
    }
    cmdline
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_root_and_ends_with_what_is_appended() {
        let cmdline = compose("erofs", false, Some("mode=7"));
        assert!(cmdline.contains(" quiet casemate.rootfs=erofs mode=7"));
        assert!(!cmdline.contains("  "));
        assert!(compose("none", true, None).ends_with("loglevel=7 casemate.rootfs=none"));
    }
}
