//! `casemate jail` as a launcher of attempts.

use super::{Launcher, Stage};
use crate::rootless::{Handed, User};
use casemate_proto::cell::Layer;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A jail of Casemate's with the stage's two folders shared.
#[derive(Debug)]
pub struct Casemate {
    program: PathBuf,
    policy: String,
    shares: Vec<OsString>,
    options: Vec<String>,
    without: Vec<Layer>,
    user: Option<u32>,
    joins: Vec<PathBuf>,
    run_dir: TempDir,
}

impl Casemate {
    /// `program` is the `casemate` to use; it must know how to leave layers out where
    /// [`Casemate::without`] is asked for.
    pub fn new(program: &Path, policy: &str, stage: &Stage) -> Self {
        let bait = stage.bait();
        let shares = [("--ro", &bait.ro), ("--rw", &bait.rw)];
        Self {
            program: program.to_owned(),
            policy: policy.to_owned(),
            shares: shares
                .into_iter()
                .flat_map(|(option, path)| [option.into(), path.into()])
                .collect(),
            options: Vec::new(),
            without: Vec::new(),
            user: None,
            joins: Vec::new(),
            run_dir: crate::cell::run_folder(),
        }
    }

    /// The same, started by this user with its copy of `casemate`, in a cgroup that was handed
    /// to it or in none.
    #[must_use]
    pub fn rootless(mut self, user: &User, cgroup: Option<&Handed>) -> Self {
        std::os::unix::fs::chown(self.run_dir.path(), Some(user.id), Some(user.id))
            .expect("its owner");
        self.program = user.program();
        self.user = Some(user.id);
        match cgroup {
            None => self.options(&["--allow-missing", "cgroup"]),
            Some(handed) => {
                self.joins = handed.files("session");
                self
            }
        }
    }

    /// The same with more options.
    #[must_use]
    pub fn options(mut self, options: &[&str]) -> Self {
        self.options.extend(options.iter().map(|&o| o.to_owned()));
        self
    }

    /// The same without these layers, nor those that cannot be without them.
    #[must_use]
    pub fn without(mut self, layers: &[Layer]) -> Self {
        self.without.extend(layers);
        self
    }

    /// Its folder of locks and journals.
    pub fn run_dir(&self) -> &Path {
        self.run_dir.path()
    }
}

/// Layers that cannot be without this one.
pub fn dependents(layer: Layer) -> &'static [Layer] {
    match layer {
        Layer::MountNs => &[Layer::Root],
        Layer::User => &[Layer::UserNs],
        Layer::NoNewPrivs => &[Layer::Landlock, Layer::Seccomp],
        _ => &[],
    }
}

/// Layers without which this one is not tried, or cannot be read back.
pub fn needs(layer: Layer) -> &'static [Layer] {
    match layer {
        Layer::Root => &[Layer::MountNs],
        Layer::UserNs => &[Layer::User],
        Layer::Seccomp => &[Layer::NoNewPrivs],
        Layer::Landlock => &[Layer::NoNewPrivs, Layer::Root, Layer::MountNs],
        _ => &[],
    }
}

impl Launcher for Casemate {
    fn user(&self) -> Option<u32> {
        self.user
    }

    fn joins(&self) -> Vec<PathBuf> {
        self.joins.clone()
    }

    fn command(&self, program: &[OsString]) -> Vec<OsString> {
        let mut words: Vec<OsString> = vec![
            self.program.clone().into(),
            "jail".into(),
            "--no-audit".into(),
        ];
        words.extend(["--policy".into(), self.policy.clone().into()]);
        words.extend(["--run-dir".into(), self.run_dir.path().into()]);
        let tenant = crate::leftovers::tenant(self.run_dir.path());
        words.extend(["--tenant".into(), tenant.into()]);
        words.extend(self.shares.iter().cloned());
        words.extend(self.options.iter().map(OsString::from));
        for &layer in &self.without {
            words.extend(["--leave-out", layer.name()].map(OsString::from));
            for missing in dependents(layer).iter().chain([&layer]) {
                words.extend(["--allow-missing", missing.name()].map(OsString::from));
            }
        }
        words.push("--".into());
        words.extend_from_slice(program);
        words
    }
}
