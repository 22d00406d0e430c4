//! What the host asks of the init on the kernel's command line.

use std::fs;
use thiserror::Error;

/// The root image's file system. It is stated, never guessed: a guess would
/// let an image choose which of the kernel's parsers reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RootFormat {
    /// ext4(5).
    Ext4,
    /// EROFS.
    Erofs,
    /// Squashfs.
    Squashfs,
}

impl RootFormat {
    /// The kernel's name for it, also that of its module group.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Erofs => "erofs",
            Self::Squashfs => "squashfs",
        }
    }
}

/// What is wrong with the command line.
#[derive(Debug, Error)]
pub enum CmdlineError {
    /// `/proc/cmdline` cannot be read.
    #[error("/proc/cmdline: {0}")]
    Read(#[from] std::io::Error),
    /// No `casemate.rootfs=`.
    #[error("the kernel's command line lacks casemate.rootfs=ext4|erofs|squashfs|none")]
    Missing,
    /// Not one of the known values.
    #[error("casemate.rootfs={0:?} is none of ext4, erofs, squashfs, none")]
    Unknown(String),
}

/// Reads `/proc/cmdline`; `None` is `casemate.rootfs=none`, the initramfs itself.
pub fn read() -> Result<Option<RootFormat>, CmdlineError> {
    parse(&String::from_utf8_lossy(&fs::read("/proc/cmdline")?))
}

/// As [`read`], of a text. The last `casemate.rootfs` counts, as with the kernel's own options.
pub fn parse(cmdline: &str) -> Result<Option<RootFormat>, CmdlineError> {
    let value = cmdline
        .split_ascii_whitespace()
        .filter_map(|word| word.strip_prefix("casemate.rootfs="))
        .next_back();
    match value {
        Some("ext4") => Ok(Some(RootFormat::Ext4)),
        Some("erofs") => Ok(Some(RootFormat::Erofs)),
        Some("squashfs") => Ok(Some(RootFormat::Squashfs)),
        Some("none") => Ok(None),
        Some(other) => Err(CmdlineError::Unknown(other.to_owned())),
        None => Err(CmdlineError::Missing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_option_among_others() {
        assert_eq!(
            parse("quiet casemate.rootfs=erofs panic=1\n").unwrap(),
            Some(RootFormat::Erofs)
        );
        assert_eq!(parse("casemate.rootfs=none").unwrap(), None);
        assert_eq!(
            parse("casemate.rootfs=none casemate.rootfs=ext4").unwrap(),
            Some(RootFormat::Ext4)
        );
    }

    #[test]
    fn nothing_is_guessed() {
        assert!(matches!(parse("quiet"), Err(CmdlineError::Missing)));
        assert!(matches!(
            parse("casemate.rootfs=auto"),
            Err(CmdlineError::Unknown(_))
        ));
    }
}
