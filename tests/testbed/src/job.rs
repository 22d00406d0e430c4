//! What to run in the bed, and what came of it.

use crate::error::{BedError, Result};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Size of the input disk, in bytes.
pub(crate) const INPUT_DISK: u64 = 1 << 30;

/// Standard input of a job.
#[derive(Clone, Debug, Default)]
pub enum Stdin {
    /// `/dev/null`.
    #[default]
    Null,
    /// These bytes, then end of file.
    Bytes(Vec<u8>),
    /// This process's own.
    Inherit,
}

/// Where a job's standard output and error go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Output {
    /// Into [`JobResult`].
    #[default]
    Capture,
    /// To this process's own streams, as they come; [`JobResult`] has empty ones.
    Stream,
}

/// A command to run in the bed, as root, in a fresh machine.
#[derive(Clone, Debug)]
pub struct Job {
    /// Program (looked up in the bed's PATH) and arguments.
    pub argv: Vec<OsString>,
    /// Variables added to the bed's own (PATH, HOME, `CASEMATE_IN_BED=1`).
    pub env: Vec<(OsString, OsString)>,
    /// Working directory in the bed.
    pub cwd: PathBuf,
    /// Files and folders copied in: path here, absolute path there. Owned by root there;
    /// executables stay executable. At most 1 GiB together.
    pub inputs: Vec<(PathBuf, PathBuf)>,
    /// Where the contents of the bed's `/out` go after the job. `None` throws them away.
    pub outputs: Option<PathBuf>,
    /// Standard input.
    pub stdin: Stdin,
    /// Standard output and error.
    pub output: Output,
    /// Time for the job itself, from its start.
    pub timeout: Duration,
    /// Boot the bed instead of restoring its warm state.
    pub cold: bool,
}

impl Job {
    /// A job with no inputs, no standard input, captured output, five minutes.
    pub fn new<S: Into<OsString>>(argv: impl IntoIterator<Item = S>) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            env: Vec::new(),
            cwd: PathBuf::from("/root"),
            inputs: Vec::new(),
            outputs: None,
            stdin: Stdin::Null,
            output: Output::Capture,
            timeout: Duration::from_secs(300),
            cold: false,
        }
    }

    /// Adds one input.
    #[must_use]
    pub fn input(mut self, here: impl Into<PathBuf>, there: impl Into<PathBuf>) -> Self {
        self.inputs.push((here.into(), there.into()));
        self
    }

    /// Adds one variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Writes the input archive and makes it as large as the disk must be.
    pub(crate) fn write_archive(&self, path: &Path) -> Result<()> {
        let failed = || BedError::io("write", path);
        let file = File::create(path).map_err(failed())?;
        let mut archive = tar::Builder::new(file);
        archive.mode(tar::HeaderMode::Deterministic);
        archive.follow_symlinks(true);
        for (here, there) in &self.inputs {
            let inside = there
                .strip_prefix("/")
                .map_err(|_| BedError::BadJob(format!("{} is not absolute", there.display())))?;
            let added = if here.is_dir() {
                archive.append_dir_all(inside, here)
            } else {
                archive.append_path_with_name(here, inside)
            };
            added.map_err(BedError::io("read", here))?;
        }
        add(&mut archive, "run/bed/job.sh", &self.script()?).map_err(failed())?;
        add(&mut archive, "run/bed/seed", &seed()?).map_err(failed())?;
        let mut file = archive.into_inner().map_err(failed())?;
        file.flush().map_err(failed())?;
        let have = file.metadata().map_err(failed())?.len();
        if have > INPUT_DISK {
            return Err(BedError::InputsTooLarge {
                have,
                limit: INPUT_DISK,
            });
        }
        file.set_len(INPUT_DISK).map_err(failed())
    }

    /// The job as a shell script that ends by becoming the program.
    fn script(&self) -> Result<Vec<u8>> {
        if self.argv.is_empty() {
            return Err(BedError::BadJob("no command".into()));
        }
        let mut script = b"cd ".to_vec();
        quote(&mut script, self.cwd.as_os_str());
        script.extend_from_slice(b" || exit 125\nexport CASEMATE_IN_BED=1\n");
        for (name, value) in &self.env {
            let valid = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
            if name.is_empty() || !name.as_bytes().iter().all(valid) {
                return Err(BedError::BadJob(format!(
                    "variable name {} is not made of letters, digits and _",
                    name.display()
                )));
            }
            script.extend_from_slice(b"export ");
            script.extend_from_slice(name.as_bytes());
            script.push(b'=');
            quote(&mut script, value);
            script.push(b'\n');
        }
        script.extend_from_slice(b"exec");
        for argument in &self.argv {
            script.push(b' ');
            quote(&mut script, argument);
        }
        script.push(b'\n');
        Ok(script)
    }
}

/// How a job ended.
#[derive(Clone, Debug)]
pub struct JobResult {
    /// Exit status as a shell gives it: 128+n after signal n, 126 and 127 as usual.
    pub status: i32,
    /// Standard output, when captured.
    pub stdout: Vec<u8>,
    /// Standard error, when captured.
    pub stderr: Vec<u8>,
    /// Everything the bed's kernel and init wrote to the serial console.
    pub console: String,
}

/// Appends `text` in single quotes, as a POSIX shell reads it back unchanged.
fn quote(script: &mut Vec<u8>, text: &OsStr) {
    script.push(b'\'');
    for &byte in text.as_bytes() {
        match byte {
            b'\'' => script.extend_from_slice(b"'\\''"),
            _ => script.push(byte),
        }
    }
    script.push(b'\'');
}

fn add(archive: &mut tar::Builder<File>, name: &str, data: &[u8]) -> std::io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(data.len() as u64);
    header.set_mode(0o755);
    archive.append_data(&mut header, name, data)
}

/// Fresh randomness: every warm bed would otherwise start from the same state.
fn seed() -> Result<[u8; 64]> {
    let path = Path::new("/dev/urandom");
    let mut seed = [0; 64];
    File::open(path)
        .and_then(|mut f| f.read_exact(&mut seed))
        .map_err(BedError::io("read", path))?;
    Ok(seed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_shell_reads_the_words_back() {
        let words = ["printf", "%s|", "it's", "a b", "$HOME", "", "\n", "\"x\""];
        let mut job = Job::new(words).env("V", "a'b $c");
        job.cwd = PathBuf::from("/");
        let out = Command::new("sh")
            .arg("-c")
            .arg(OsStr::from_bytes(&job.script().unwrap()))
            .output()
            .unwrap();
        assert_eq!(out.stdout, b"it's|a b|$HOME||\n|\"x\"|");
        job.argv = vec!["printenv".into(), "V".into()];
        let out = Command::new("sh")
            .arg("-c")
            .arg(OsStr::from_bytes(&job.script().unwrap()))
            .output()
            .unwrap();
        assert_eq!(out.stdout, b"a'b $c\n");
    }

    #[test]
    fn bad_jobs_are_refused() {
        assert!(Job::new(Vec::<OsString>::new()).script().is_err());
        assert!(Job::new(["x"]).env("a b", "c").script().is_err());
        let dir = tempfile::tempdir().unwrap();
        let job = Job::new(["x"]).input("/etc/hostname", "relative");
        assert!(job.write_archive(&dir.path().join("t")).is_err());
    }
}
