//! The guest's root: an image, a directory, the built-in userland, or none.

use super::open::{self, OpenError};
use crate::kernels::apt::{AptError, Wanted};
use crate::kernels::{StoreError, make_folder};
use casemate_guest_image::bundle::digest;
use casemate_guest_image::dir_image::{DirImageError, image_from_dir};
use casemate_guest_image::rootfs::{self as image, RootfsError};
use casemate_guest_image::userland::{USUAL_PLACES, UserlandError, userland};
use casemate_proto::report::Artifact;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use thiserror::Error;

/// The word for a guest without a root image: the initramfs is all it has.
pub const NONE: &str = "none";
/// How reports call the built-in userland.
const BUILT_IN: &str = "busybox";

/// Why there is no root.
#[derive(Debug, Error)]
pub enum RootError {
    /// The file cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The image cannot be used.
    #[error("rootfs {path}: {source}", path = path.display())]
    Image {
        /// Where.
        path: PathBuf,
        /// Why.
        source: RootfsError,
    },
    /// The directory cannot be made into an image.
    #[error("rootfs {path}: {source}", path = path.display())]
    Directory {
        /// Where.
        path: PathBuf,
        /// Why.
        source: DirImageError,
    },
    /// The built-in userland.
    #[error("the built-in userland: {0}")]
    Userland(#[from] UserlandError),
    /// Its busybox.
    #[error("the built-in userland: {0}")]
    Busybox(#[from] AptError),
    /// A package that does not unpack.
    #[error("the built-in userland: busybox-static does not unpack ({0}): give a --rootfs")]
    Unpack(String),
    /// The state folder.
    #[error(transparent)]
    State(#[from] StoreError),
}

/// A guest's root.
#[derive(Debug)]
pub struct Root {
    /// The image, read-only.
    pub image: Option<File>,
    /// What it is, or [`NONE`].
    pub format: &'static str,
    /// For the report.
    pub artifact: Option<Artifact>,
}

/// Opens what was named.
pub fn resolve(choice: Option<&Path>, state_dir: &Path) -> Result<Root, RootError> {
    let images = state_dir.join("images");
    match choice {
        Some(path) if path.as_os_str() == NONE => Ok(Root {
            image: None,
            format: NONE,
            artifact: None,
        }),
        Some(path) if path.is_dir() => {
            make_folder(state_dir)?;
            make_folder(&images)?;
            let made = image_from_dir(path, &images).map_err(|source| RootError::Directory {
                path: path.to_owned(),
                source,
            })?;
            image_at(&made.path, path.display().to_string())
        }
        Some(path) => image_at(path, path.display().to_string()),
        None => {
            make_folder(state_dir)?;
            built_in(&images)
        }
    }
}

fn image_at(path: &Path, name: String) -> Result<Root, RootError> {
    let (file, _) = open::regular("rootfs", path)?;
    let found = image::detect(&file).map_err(|source| RootError::Image {
        path: path.to_owned(),
        source,
    })?;
    let format = found.format.name();
    Ok(Root {
        image: Some(file),
        format,
        artifact: Some(Artifact {
            name,
            format: format.to_owned(),
        }),
    })
}

/// The image of a busybox is found again by the busybox' digest, through a link.
fn built_in(images: &Path) -> Result<Root, RootError> {
    make_folder(images)?;
    for place in USUAL_PLACES.map(Path::new) {
        match from_busybox(place, images) {
            Err(RootError::Userland(UserlandError::NotStatic(_))) => {}
            Err(RootError::Userland(UserlandError::File { source, .. }))
                if source.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
    }
    from_busybox(&fetched_busybox(images)?, images)
}

fn from_busybox(busybox: &Path, images: &Path) -> Result<Root, RootError> {
    let program = fs::read(busybox).map_err(|source| UserlandError::File {
        path: busybox.to_owned(),
        source,
    })?;
    let link = images.join(format!("{}.userland", digest(&program)));
    if link.is_file() {
        return image_at(&link, BUILT_IN.to_owned());
    }
    let made = userland(busybox, images)?;
    let root = image_at(&made.path, BUILT_IN.to_owned())?;
    // Without the link the next run only takes longer.
    if let Some(name) = made.path.file_name() {
        let _ = fs::remove_file(&link);
        let _ = symlink(name, &link);
    }
    Ok(root)
}

/// Debian's static busybox, fetched once.
fn fetched_busybox(images: &Path) -> Result<PathBuf, RootError> {
    let kept = images.join("busybox-static");
    if kept.is_file() {
        return Ok(kept);
    }
    let package = Wanted {
        package: "busybox-static",
        instead: "give a root with --rootfs",
    };
    crate::say::line("no static busybox is installed: fetching Debian's busybox-static (once)");
    let state = |source| StoreError::State {
        path: images.to_owned(),
        source,
    };
    let folder = tempfile::Builder::new()
        .prefix(".fetch-")
        .tempdir_in(images)
        .map_err(state)?;
    let deb = package.download(folder.path())?;
    let tree = folder.path().join("tree");
    let output = Command::new("dpkg-deb")
        .arg("--extract")
        .args([&deb, &tree])
        .stdin(Stdio::null())
        .output()
        .map_err(|e| RootError::Unpack(format!("dpkg-deb: {e}")))?;
    let program = ["bin/busybox", "usr/bin/busybox"]
        .map(|name| tree.join(name))
        .into_iter()
        .find(|path| path.is_file());
    match program {
        Some(program) if output.status.success() => {
            fs::rename(program, &kept).map_err(state)?;
            Ok(kept)
        }
        _ => Err(RootError::Unpack(format!("dpkg-deb: {}", output.status))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_userland_is_found_again() {
        let images = tempfile::tempdir().unwrap();
        let Some(busybox) = USUAL_PLACES
            .map(Path::new)
            .into_iter()
            .find(|p| p.is_file())
        else {
            return; // fetched from packages on such a machine
        };
        let first = from_busybox(busybox, images.path()).unwrap();
        let started = std::time::Instant::now();
        let second = from_busybox(busybox, images.path()).unwrap();
        assert!(started.elapsed() < std::time::Duration::from_millis(500));
        assert_eq!(first.artifact, second.artifact);
        assert_eq!(first.artifact.unwrap().name, BUILT_IN);
        assert!(second.image.is_some());
    }

    #[test]
    fn none_is_a_word_and_a_folder_of_that_name_is_a_path() {
        let state = tempfile::tempdir().unwrap();
        let root = resolve(Some(Path::new(NONE)), state.path()).unwrap();
        assert!(root.image.is_none() && root.format == NONE);
        assert!(resolve(Some(Path::new("./none")), state.path()).is_err());
    }
}
