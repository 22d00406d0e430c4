//! Packages by the system's own client: signatures, mirrors and proxies are its
//! business.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use thiserror::Error;

/// Why there is no package.
#[derive(Debug, Error)]
pub enum AptError {
    /// Not a system with apt.
    #[error("{package} cannot be fetched, since {program} is not there ({source}): {instead}")]
    NoClient {
        /// The package.
        package: String,
        /// The client's program.
        program: &'static str,
        /// Why.
        source: io::Error,
        /// What to do instead.
        instead: &'static str,
    },
    /// The client failed.
    #[error("{package} could not be fetched: {reason}; try `apt-get update`, or {instead}")]
    Failed {
        /// The package.
        package: String,
        /// The client's words.
        reason: String,
        /// What to do instead.
        instead: &'static str,
    },
}

/// What is fetched, and what a user can do where that fails.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The package's name.
    pub package: &'a str,
    /// "give … instead".
    pub instead: &'static str,
}

impl Wanted<'_> {
    fn run(&self, program: &'static str, command: &mut Command) -> Result<String, AptError> {
        let output = command
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .output()
            .map_err(|source| AptError::NoClient {
                package: self.package.to_owned(),
                program,
                source,
                instead: self.instead,
            })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let error = said.lines().find(|line| line.starts_with("E:"));
        Err(self.failed(error.unwrap_or("the package client failed")))
    }

    fn failed(&self, reason: &str) -> AptError {
        AptError::Failed {
            package: self.package.to_owned(),
            reason: reason.trim_start_matches("E:").trim().to_owned(),
            instead: self.instead,
        }
    }

    /// The packages that the current version depends on.
    pub fn dependencies(&self) -> Result<Vec<String>, AptError> {
        let mut command = Command::new("apt-cache");
        command.args(["show", "--no-all-versions", self.package]);
        let text = self.run("apt-cache", &mut command)?;
        Ok(depends(&text))
    }

    /// Downloads the current version into `folder`, and gives the file. Package
    /// lists that are missing or out of date are brought up to date once.
    pub fn download(&self, folder: &Path) -> Result<PathBuf, AptError> {
        if self.try_download(folder).is_err() {
            self.update()?;
            self.try_download(folder)?;
        }
        let deb = std::fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|e| e == "deb"));
        deb.ok_or_else(|| self.failed("nothing was downloaded"))
    }

    /// Brings the package lists up to date.
    pub fn update(&self) -> Result<(), AptError> {
        self.run("apt-get", Command::new("apt-get").args(["-q", "update"]))
            .map(drop)
    }

    fn try_download(&self, folder: &Path) -> Result<(), AptError> {
        let mut command = Command::new("apt-get");
        command
            .args([
                "-q",
                "-o",
                "APT::Sandbox::User=root",
                "download",
                self.package,
            ])
            .current_dir(folder);
        self.run("apt-get", &mut command).map(drop)
    }
}

/// The names in a `Depends` field (deb-control(5)).
fn depends(show: &str) -> Vec<String> {
    show.lines()
        .find_map(|line| line.strip_prefix("Depends:"))
        .into_iter()
        .flat_map(|list| list.split(','))
        .filter_map(|one| one.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_dependencies() {
        let show = "Package: linux-image-cloud-amd64\n\
                    Depends: linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2), x | y\n";
        assert_eq!(depends(show), ["linux-image-6.1.0-56-cloud-amd64", "x"]);
        assert!(depends("Package: x\n").is_empty());
    }
}
