//! Other jails, as they are started for a program that nobody trusts.

use super::Contestant;
use casemate_escape::BINARY_VARIABLE;
use casemate_testbed::programs;
use casemate_tests::escape::{Launcher, Stage, Words};
use serde_json::{Value, json};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// User and group of what a jailer of that kind runs.
const UID: &str = "12345";

/// Those that are known.
pub const NAMES: [&str; 5] = ["bwrap", "nsjail", "runc", "firejail", "jailer"];

/// First line of what a command prints.
pub fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.lines()
        .next()
        .unwrap_or("does not tell its version")
        .trim()
        .to_owned()
}

/// A program's version in its own words.
pub fn version(program: &Path, option: &str) -> String {
    output(&program.to_string_lossy(), &[option])
}

/// The program that is to be used: the one given, else the one that is installed.
pub fn find(name: &str, given: &BTreeMap<String, PathBuf>) -> Option<PathBuf> {
    if let Some(path) = given.get(name) {
        return Some(path.clone());
    }
    let path = std::env::var_os("PATH")?;
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

/// All that are here.
pub fn present(stage: &Stage, given: &BTreeMap<String, PathBuf>) -> Vec<Contestant> {
    let (ro, rw) = (
        stage.bait().ro.to_string_lossy().into_owned(),
        stage.bait().rw.to_string_lossy().into_owned(),
    );
    let mut all = Vec::new();
    let mut words = |title: &str, program: &Path, option: &str, text: String| {
        let arguments = text.split_whitespace().map(OsString::from);
        all.push(Contestant {
            title: title.to_owned(),
            version: version(program, option),
            launcher: Box::new(Words {
                words: [program.into()].into_iter().chain(arguments).collect(),
                user: None,
            }),
        });
    };
    if let Some(bwrap) = find("bwrap", given) {
        let plain =
            format!("--unshare-all --ro-bind / / --bind {rw} {rw} --proc /proc --dev /dev --");
        words("bubblewrap", &bwrap, "--version", plain);
        let hardened = format!(
            "--unshare-all --uid 65534 --gid 65534 --cap-drop ALL --new-session --die-with-parent \
             --clearenv --disable-userns --unshare-user --ro-bind /usr /usr --ro-bind {ro} {ro} --bind {rw} {rw} --proc /proc \
             --dev /dev --tmpfs /tmp --"
        );
        words("bubblewrap, hardened", &bwrap, "--version", hardened);
    }
    if let Some(nsjail) = find("nsjail", given) {
        let text = format!(
            "-Mo --really_quiet --user 65534 --group 65534 -R /usr -R {ro} -B {rw} -T /tmp --"
        );
        words("nsjail", &nsjail, "--version", text);
    }
    if let Some(firejail) = find("firejail", given) {
        let text = format!(
            "--quiet --noprofile --net=none --caps.drop=all --nonewprivs --seccomp --private-dev \
             --nogroups --read-only=/ --read-write={rw} --"
        );
        words("firejail", &firejail, "--version", text);
    }
    if let Some(runc) = find("runc", given)
        && let Ok(bundle) = Bundle::new(&runc, stage)
    {
        all.push(Contestant {
            title: "runc".to_owned(),
            version: version(&runc, "--version"),
            launcher: Box::new(bundle),
        });
    }
    for (title, program, ours) in [
        ("Firecracker's jailer", find("jailer", given), false),
        (
            "casemate-jailer, by its command line",
            programs().ok().map(|folder| folder.join("casemate-jailer")),
            true,
        ),
    ] {
        if let Some(program) = program
            && let Ok(jailer) = Jailer::new(&program, stage, ours)
        {
            all.push(Contestant {
                title: title.to_owned(),
                version: version(&program, "--version"),
                launcher: Box::new(jailer),
            });
        }
    }
    all
}

/// A jailer with Firecracker's command line. What it jails is copied into a folder of its own
/// and must be called `firecracker`; nothing can be shared.
struct Jailer {
    program: PathBuf,
    folder: TempDir,
    /// Takes a folder for locks and journals, and the same id again.
    ours: bool,
    starts: Cell<u32>,
}

impl Jailer {
    fn new(program: &Path, stage: &Stage, ours: bool) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        std::fs::create_dir(folder.path().join("base"))?;
        std::fs::copy(stage.program(), folder.path().join("firecracker"))?;
        Ok(Self {
            program: program.to_owned(),
            folder,
            ours,
            starts: Cell::new(0),
        })
    }
}

impl Launcher for Jailer {
    fn command(&self, program: &[OsString]) -> Vec<OsString> {
        let start = self.starts.get() + 1;
        self.starts.set(start);
        let base = self.folder.path().join("base");
        // The peer's leaves all that it made.
        let _ = std::fs::remove_dir_all(base.join("firecracker"));
        let mut words: Vec<OsString> = Vec::new();
        if !self.ours {
            // It panics where a variable is no UTF-8.
            let name = OsString::from_vec(BINARY_VARIABLE.to_vec());
            words.extend(["env".into(), "-u".into(), name]);
        }
        words.extend([
            self.program.clone().into(),
            "--id".into(),
            format!("escape-{start}").into(),
            "--exec-file".into(),
            self.folder.path().join("firecracker").into(),
        ]);
        for word in ["--uid", UID, "--gid", UID, "--chroot-base-dir"] {
            words.push(word.into());
        }
        words.push(base.into());
        if self.ours {
            words.push("--run-dir".into());
            words.push(self.folder.path().join("run").into());
        }
        words.push("--".into());
        words.extend(program.iter().skip(1).cloned());
        words
    }
}

/// An OCI bundle: runc's own default specification, with the two folders.
struct Bundle {
    runc: PathBuf,
    folder: TempDir,
    specification: Value,
}

impl Bundle {
    fn new(runc: &Path, stage: &Stage) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        std::fs::create_dir(folder.path().join("rootfs"))?;
        let made = Command::new(runc)
            .arg("spec")
            .current_dir(folder.path())
            .status()?;
        anyhow::ensure!(made.success(), "runc spec: {made}");
        let text = std::fs::read(folder.path().join("config.json"))?;
        let mut specification: Value = serde_json::from_slice(&text)?;
        specification["process"]["terminal"] = false.into();
        if let Some(mounts) = specification["mounts"].as_array_mut() {
            for (path, mode) in [(&stage.bait().ro, "ro"), (&stage.bait().rw, "rw")] {
                mounts.push(json!({
                    "destination": path, "type": "bind", "source": path, "options": ["bind", mode],
                }));
            }
        }
        Ok(Self {
            runc: runc.to_owned(),
            folder,
            specification,
        })
    }
}

impl Launcher for Bundle {
    fn command(&self, program: &[OsString]) -> Vec<OsString> {
        let mut specification = self.specification.clone();
        let words: Vec<_> = program.iter().map(|word| word.to_string_lossy()).collect();
        specification["process"]["args"] = json!(words);
        let file = self.folder.path().join("config.json");
        // Where it cannot be written, the attempt does not run, and the table says so.
        let _ = std::fs::write(file, specification.to_string());
        let id = format!("escape-{}", std::process::id());
        let bundle = self.folder.path().as_os_str();
        [
            "run".into(),
            "--bundle".into(),
            bundle.to_owned(),
            id.into(),
        ]
        .into_iter()
        .fold(vec![self.runc.clone().into()], |mut all, word: OsString| {
            all.push(word);
            all
        })
    }
}
