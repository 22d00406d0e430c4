//! The default of the default: Debian's current kernel for virtual machines.

use super::apt::{AptError, Wanted};
use super::import::{self, ImportError};
use super::{Store, StoreError, make_folder};
use crate::say;
use casemate_guest_image::bundle::Bundle;
use std::path::Path;
use thiserror::Error;

/// Always depends on the current version's package.
const CURRENT: &str = "linux-image-cloud-amd64";
const INSTEAD: &str =
    "give a kernel with --kernel FILE, or `casemate kernel import PKG.deb --default`";

/// Why there is none.
#[derive(Debug, Error)]
pub enum StockError {
    /// The package could not be had.
    #[error("no kernel is imported yet, and the stock kernel {0}")]
    Apt(#[from] AptError),
    /// It could not be made ready.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// The state folder.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Fetches it, imports it, and makes it the default.
pub fn fetch(state_dir: &Path, init: &[u8]) -> Result<Bundle, StockError> {
    let meta = Wanted {
        package: CURRENT,
        instead: INSTEAD,
    };
    let mut packages = current(&meta);
    if packages.as_ref().map_or(true, Option::is_none) {
        meta.update()?;
        packages = current(&meta);
    }
    let package = packages?.unwrap_or_else(|| CURRENT.to_owned());
    say::line(format!(
        "no kernel is imported yet: fetching Debian's {package} (once, about 30 MB)"
    ));
    make_folder(state_dir)?;
    let folder = tempfile::Builder::new()
        .prefix(".fetch-")
        .tempdir_in(state_dir)
        .map_err(|source| StoreError::State {
            path: state_dir.to_owned(),
            source,
        })?;
    let deb = Wanted {
        package: &package,
        instead: INSTEAD,
    }
    .download(folder.path())?;
    say::line(format!("importing {package}"));
    let bundle = import::package(state_dir, &deb, None, init)?;
    Store::new(state_dir).set_default(&bundle.description.name)?;
    say::line(format!(
        "the default kernel is {} now; see `casemate kernel list`",
        bundle.description.name
    ));
    Ok(bundle)
}

/// The package of the current version, where the package lists have it.
fn current(meta: &Wanted<'_>) -> Result<Option<String>, AptError> {
    let names = meta.dependencies()?;
    Ok(names
        .into_iter()
        .find(|name| name.starts_with("linux-image-")))
}
