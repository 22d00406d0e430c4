//! Where the state of running cells is kept unless told otherwise.

use crate::RUN_DIR;
use crate::refusal::Refusal;
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use rustix::process::geteuid;
use std::path::{Path, PathBuf};

/// Root's is [`RUN_DIR`]; another user's is below `XDG_RUNTIME_DIR`, or `/run/user/UID`.
///
/// # Errors
/// Where the user has no such folder, or it is not its alone.
pub fn run_dir() -> Result<PathBuf, Refusal> {
    let uid = geteuid();
    if uid.is_root() {
        return Ok(PathBuf::from(RUN_DIR));
    }
    let (folder, named) = match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(folder) if !folder.is_empty() => (PathBuf::from(folder), "XDG_RUNTIME_DIR, "),
        _ => (PathBuf::from(format!("/run/user/{uid}")), ""),
    };
    match unfit(&folder, uid.as_raw()) {
        None => Ok(folder.join("casemate")),
        Some(why) => Err(Refusal::new(format!(
            "{named}{folder}, {why}: there is no place to keep the state of running jails in; \
             log in so that there is one, or name a folder that is yours alone with --run-dir",
            folder = folder.display()
        ))),
    }
}

/// Why a folder cannot be the user's for the time it is logged in (XDG base directories).
fn unfit(folder: &Path, uid: u32) -> Option<String> {
    if !folder.is_absolute() {
        return Some("is not absolute".to_owned());
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let stat = match openat(CWD, folder, flags, Mode::empty()).and_then(fstat) {
        Ok(stat) => stat,
        Err(e) => return Some(format!("cannot be opened ({e})")),
    };
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Some("is no folder".to_owned());
    }
    let mode = stat.st_mode & 0o777;
    match stat.st_uid == uid && mode & 0o077 == 0 {
        true => None,
        false => Some(format!(
            "is owned by uid {} with mode {mode:o}, not by uid {uid} with mode 700",
            stat.st_uid
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn only_a_folder_of_the_users_alone_will_do() {
        let uid = geteuid().as_raw();
        let bed = tempfile::tempdir().unwrap();
        let at = |name: &str| bed.path().join(name);
        let why = |name: &str| unfit(&at(name), uid).unwrap_or_default();
        fs::create_dir(at("own")).unwrap();
        fs::set_permissions(at("own"), Permissions::from_mode(0o700)).unwrap();
        assert_eq!(unfit(&at("own"), uid), None);
        assert!(unfit(&at("own"), uid + 1).unwrap().contains("not by uid"));
        symlink("own", at("link")).unwrap();
        assert_eq!(why("link"), "is no folder");
        fs::set_permissions(at("own"), Permissions::from_mode(0o750)).unwrap();
        assert!(why("own").contains("mode 750"), "{}", why("own"));
        assert!(why("none").starts_with("cannot be opened"));
        assert_eq!(
            unfit(Path::new("run"), uid).as_deref(),
            Some("is not absolute")
        );
    }
}
