//! Logs to work with.

use casemate_audit::event::{Exit, Refused};
use casemate_audit::verify::{Evidence, LogFile, Options, Verdict, verify};
use casemate_audit::{Event, HEAD, PublicKey, Recorder, Settings, Who, key_folder, log_number};
use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
use std::fs::File;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A folder of logs; append-only files in it are made ordinary ones before it goes.
pub struct Bed(TempDir);

impl Bed {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn folder(&self) -> PathBuf {
        self.0.path().join("audit")
    }

    pub fn settings(&self) -> Settings {
        Settings::of(self.folder())
    }

    pub fn recorder(&self) -> Recorder {
        Recorder::open(&self.settings(), who("job")).unwrap()
    }

    /// Commits these lines.
    pub fn write(&self, lines: impl IntoIterator<Item = Event>) {
        let mut recorder = self.recorder();
        lines.into_iter().for_each(|event| recorder.add(event));
        recorder.commit().unwrap();
    }

    pub fn key(&self) -> PublicKey {
        key_of(&self.folder())
    }

    pub fn verify(&self) -> Verdict {
        verify_folder(&self.folder(), &Options::default())
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        unlock(self.0.path());
    }
}

/// Takes the append-only attribute off everything below a folder.
pub fn unlock(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        // Neither through a link nor into a FIFO.
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => unlock(&entry.path()),
            Ok(kind) if kind.is_file() => ordinary(&entry.path()),
            _ => {}
        }
    }
}

/// Takes the append-only attribute off a file.
pub fn ordinary(path: &Path) {
    if let Ok(file) = File::open(path)
        && let Ok(flags) = ioctl_getflags(&file)
        && flags.contains(IFlags::APPEND)
    {
        ioctl_setflags(&file, flags - IFlags::APPEND).unwrap();
    }
}

pub fn key_of(folder: &Path) -> PublicKey {
    let text = std::fs::read_to_string(key_folder(folder).join("public")).unwrap();
    text.parse().unwrap()
}

pub fn verify_folder(folder: &Path, options: &Options) -> Verdict {
    let evidence = Evidence::of_folder(folder).unwrap();
    verify(evidence, &key_of(folder), options).unwrap()
}

pub fn who(id: &str) -> Who {
    Who {
        tenant: "acme".parse().unwrap(),
        id: id.parse().unwrap(),
    }
}

pub fn exit(n: usize) -> Event {
    Event::Exit(Exit {
        how: format!("exited with status {n}"),
        status: Some(n as i32),
        signal: None,
        cpu_user_us: n as u64,
        cpu_system_us: 0,
        memory_peak_bytes: 0,
    })
}

pub fn refused(n: usize) -> Event {
    Event::Refused(Refused {
        layer: None,
        message: format!("the {n}th start was refused \u{1b}[2J"),
    })
}

/// A log in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Numbers and contents.
    pub files: Vec<(u64, Vec<u8>)>,
    pub head: Vec<u8>,
}

impl Log {
    pub fn read(folder: &Path) -> Self {
        let mut files: Vec<(u64, Vec<u8>)> = std::fs::read_dir(folder)
            .unwrap()
            .filter_map(|entry| {
                let path = entry.unwrap().path();
                let number = log_number(path.file_name()?.to_str()?)?;
                Some((number, std::fs::read(path).unwrap()))
            })
            .collect();
        files.sort();
        Self {
            files,
            head: std::fs::read(folder.join(HEAD)).unwrap_or_default(),
        }
    }

    pub fn verify(&self, key: &PublicKey, options: &Options) -> Verdict {
        let files = self.files.iter().map(|(number, content)| LogFile {
            name: casemate_audit::log_name(*number),
            number: *number,
            size: content.len() as u64,
            content: &content[..],
        });
        let evidence = Evidence {
            files: files.collect(),
            head: self.head.clone(),
        };
        verify(evidence, key, options).unwrap()
    }

    /// Writes it to a folder, in place of what was there.
    pub fn write(&self, folder: &Path) {
        unlock(folder);
        for entry in std::fs::read_dir(folder).unwrap() {
            std::fs::remove_file(entry.unwrap().path()).unwrap();
        }
        for (number, content) in &self.files {
            std::fs::write(folder.join(casemate_audit::log_name(*number)), content).unwrap();
        }
        std::fs::write(folder.join(HEAD), &self.head).unwrap();
    }

    pub fn lines(&self) -> usize {
        let newlines = |content: &Vec<u8>| content.iter().filter(|&&b| b == b'\n').count();
        self.files
            .iter()
            .map(|(_, content)| newlines(content))
            .sum()
    }
}
