//! Asks the machine's own package client for packages, into the cache, without
//! installing them and without touching the system's sources.

use crate::error::{BedError, Result};
use crate::tool;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The Debian release of the bed and of the userland for guests.
pub const SUITE: &str = "bookworm";

/// Newest package whose name matches the regular expression `pattern`.
///
/// Debian's kernel packages carry their version in their name, so "the newest 6.12"
/// is a search.
pub fn newest(pattern: &str) -> Result<String> {
    if let Some(found) = search(pattern)? {
        return Ok(found);
    }
    tool::step("apt-get update", || {
        tool::run(
            "apt-get update",
            Command::new("apt-get").args(["-q", "update"]),
        )
    })?;
    search(pattern)?.ok_or_else(|| BedError::NoPackage(pattern.to_owned()))
}

fn search(pattern: &str) -> Result<Option<String>> {
    let list = tool::output(
        "apt-cache search",
        Command::new("apt-cache").args(["search", "--names-only", pattern]),
    )?;
    let mut names: Vec<&str> = list.lines().filter_map(|l| l.split(' ').next()).collect();
    names.sort_by_key(|name| version_key(name));
    Ok(names.last().map(|n| (*n).to_owned()))
}

/// Numbers in a name, in order: enough to sort kernel package names by version.
fn version_key(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit())
        .filter_map(|part| part.parse().ok())
        .collect()
}

/// Downloads `package` into `dir` and returns the file.
pub fn download(package: &str, dir: &Path) -> Result<PathBuf> {
    tool::run(
        &format!("downloading {package}"),
        Command::new("apt-get")
            .args(["-q", "-o", "APT::Sandbox::User=root", "download", package])
            .current_dir(dir),
    )?;
    only_deb(dir, package)
}

fn only_deb(dir: &Path, package: &str) -> Result<PathBuf> {
    let prefix = format!("{package}_");
    let entries = fs::read_dir(dir).map_err(BedError::io("list", dir))?;
    entries
        .flatten()
        .map(|e| e.path())
        .find(|p| {
            let name = p.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(&prefix) && name.ends_with(".deb")
        })
        .ok_or_else(|| BedError::NoPackage(package.to_owned()))
}

/// Unpacks a package's files below `dir`.
pub fn unpack(deb: &Path, dir: &Path) -> Result<()> {
    tool::run(
        &format!("unpacking {}", deb.display()),
        Command::new("dpkg-deb").arg("-x").arg(deb).arg(dir),
    )
}

/// Version field of a package file.
pub fn version(deb: &Path) -> Result<String> {
    let out = tool::output(
        "dpkg-deb --field",
        Command::new("dpkg-deb")
            .arg("--field")
            .arg(deb)
            .arg("Version"),
    )?;
    Ok(out.trim().to_owned())
}

/// The mirror that this machine's sources name for [`SUITE`].
pub fn mirror() -> Result<String> {
    let list = tool::output(
        "apt-get indextargets",
        Command::new("apt-get").args([
            "indextargets",
            "--format",
            "$(CODENAME) $(COMPONENT) $(REPO_URI)",
            "Created-By: Packages",
        ]),
    )?;
    let wanted = format!("{SUITE} main ");
    list.lines()
        .find_map(|line| line.strip_prefix(&wanted))
        .map(str::to_owned)
        .ok_or_else(|| BedError::NoPackage(format!("(a source for {SUITE} main)")))
}

/// A package client of its own: the machine's sources plus the backports of
/// [`SUITE`], with lists and archives below one folder.
pub struct PrivateApt {
    dir: PathBuf,
}

impl PrivateApt {
    /// Lays the configuration out below `dir` and reads the package lists.
    pub fn with_backports(dir: PathBuf) -> Result<Self> {
        let parts = dir.join("sources.list.d");
        for sub in ["lists/partial", "cache/archives/partial", "sources.list.d"] {
            let sub = dir.join(sub);
            fs::create_dir_all(&sub).map_err(BedError::io("create", &sub))?;
        }
        let own = format!(
            "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {mirror} {SUITE} main\n\
             deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {mirror} {SUITE}-backports main\n",
            mirror = mirror()?
        );
        let file = parts.join("bed.list");
        fs::write(&file, own).map_err(BedError::io("write", &file))?;
        let apt = Self { dir };
        tool::run("apt-get update (backports)", apt.get().arg("update"))?;
        Ok(apt)
    }

    /// Downloads what installing `package` from the backports would need, beyond what is
    /// installed, and unpacks it below `root`.
    pub fn unpack_with_missing(&self, package: &str, root: &Path) -> Result<()> {
        let target = format!("{SUITE}-backports");
        tool::run(
            &format!("downloading {package} from {target}"),
            self.get()
                .args(["-y", "--download-only", "--no-install-recommends"])
                .args(["-t", &target, "install", package]),
        )?;
        let archives = self.dir.join("cache/archives");
        for entry in fs::read_dir(&archives).map_err(BedError::io("list", &archives))? {
            let path = entry.map_err(BedError::io("list", &archives))?.path();
            if path.extension().is_some_and(|e| e == "deb") {
                unpack(&path, root)?;
            }
        }
        Ok(())
    }

    fn get(&self) -> Command {
        let mut command = Command::new("apt-get");
        let option = |name: &str, path: PathBuf| format!("{name}={}", path.display());
        command
            .arg("-q")
            .args(["-o", "APT::Sandbox::User=root"])
            .args(["-o", "Dir::Etc::sourcelist=/dev/null"])
            .args([
                "-o",
                &option("Dir::Etc::sourceparts", self.dir.join("sources.list.d")),
            ])
            .args(["-o", &option("Dir::State::lists", self.dir.join("lists"))])
            .args(["-o", &option("Dir::Cache", self.dir.join("cache"))]);
        command
    }
}

#[cfg(test)]
mod tests {
    use super::version_key;

    #[test]
    fn newer_kernels_sort_last() {
        let mut names = [
            "linux-image-6.12.117+deb12-cloud-amd64-unsigned",
            "linux-image-6.12.9+deb12-cloud-amd64-unsigned",
            "linux-image-6.12.100+deb12-cloud-amd64-unsigned",
        ];
        names.sort_by_key(|n| version_key(n));
        assert!(names[2].contains("6.12.117") && names[0].contains("6.12.9+"));
    }
}
