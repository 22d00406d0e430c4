//! Every refusal that needs no guest: one line that names the object and the
//! remedy, status 125, within a second, and nothing left behind.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

struct Bed(tempfile::TempDir);

impl Bed {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
    fn run_dir(&self) -> PathBuf {
        self.path("run")
    }
    fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        path.display().to_string()
    }

    fn command(&self, options: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_casemate"));
        command
            .args(["run", "--no-audit"])
            .arg("--state-dir")
            .arg(self.path("state"))
            .arg("--run-dir")
            .arg(self.run_dir())
            .args(options)
            .stdin(Stdio::null());
        command
    }

    /// Refused with `words` in its line; the FullKvm layer is let be missing, so
    /// that the refusals behind that check are seen on any machine.
    fn refuses(&self, options: &[&str], words: &[&str]) {
        let mut all = vec!["--allow-missing", "full-kvm"];
        all.extend(options);
        if !options.contains(&"--") {
            all.extend(["--", "true"]);
        }
        let started = Instant::now();
        let output = self.command(&all).output().unwrap();
        let took = started.elapsed();
        self.check(&output, took, words);
    }

    fn check(&self, output: &Output, took: Duration, words: &[&str]) {
        let line = String::from_utf8(output.stderr.clone()).unwrap();
        assert_eq!(output.status.code(), Some(125), "{line}");
        assert!(line.starts_with("casemate: "), "{line}");
        assert_eq!(line.lines().count(), 1, "{line}");
        for word in words {
            assert!(line.contains(word), "{word:?} is not in {line}");
        }
        assert!(output.stdout.is_empty());
        assert!(took < Duration::from_secs(1), "{took:?}: {line}");
        let left = fs::read_dir(self.run_dir()).map_or(0, Iterator::count);
        assert_eq!(left, 0, "left in the run folder after {line}");
    }
}

/// A vmlinux of one segment, as far as headers tell.
fn vmlinux() -> Vec<u8> {
    let mut elf = vec![0; 0x2000];
    elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
    elf[18] = 62;
    elf[24..32].copy_from_slice(&0x100_0000u64.to_le_bytes());
    (elf[32], elf[54], elf[56], elf[64]) = (64, 56, 1, 1);
    for (at, value) in [(8, 0x1000u64), (24, 0x100_0000), (32, 0x1000), (40, 0x1000)] {
        elf[64 + at..72 + at].copy_from_slice(&value.to_le_bytes());
    }
    elf
}

#[test]
fn numbers_and_names() {
    let bed = Bed::new();
    let long = "x".repeat(300);
    bed.refuses(&["--memory", "0"], &["--memory 0", "at least 32 MiB"]);
    bed.refuses(&["--memory", "16M"], &["16 MiB", "at least 32 MiB"]);
    bed.refuses(&["--memory", "1000T"], &["more than the host has", "less"]);
    bed.refuses(&["--memory", "-1"], &["-1", "256M"]);
    bed.refuses(&["--cpus", "0"], &["--cpus \"0\"", "1 to 32"]);
    bed.refuses(&["--cpus", "10000"], &["10000", "1 to 32"]);
    for id in ["a/b", "..", "héé", "a b", "-x"] {
        bed.refuses(&["--id", id], &[id, "only a-z"]);
    }
    bed.refuses(&["--id", ""], &["id is empty", "1 to 64"]);
    bed.refuses(&["--id", &long], &["300 bytes", "at most 64"]);
    bed.refuses(&["--tenant", "a/b"], &["a/b", "only a-z"]);
    bed.refuses(&["--timeout", "soon"], &["soon", "2s"]);
    bed.refuses(&["--env", "novalue"], &["novalue", "K=V"]);
    bed.refuses(&["--allow-missing", "mnt"], &["mnt", "mount-ns"]);
    bed.refuses(&["--no-such-option"], &["--no-such-option"]);
    bed.refuses(&["--"], &["no program", "-- CMD"]);
}

#[test]
fn an_id_that_is_not_text() {
    use std::os::unix::ffi::OsStrExt;
    let bed = Bed::new();
    let started = Instant::now();
    let output = bed
        .command(&["--id"])
        .arg(std::ffi::OsStr::from_bytes(b"\xff\xfe"))
        .args(["--", "true"])
        .output()
        .unwrap();
    bed.check(&output, started.elapsed(), &["is not text"]);
}

#[test]
fn kernels() {
    let bed = Bed::new();
    let refuses = |path: &str, words: &[&str]| {
        let mut all = vec![path];
        all.extend(words);
        bed.refuses(&["--kernel", path, "--rootfs", "none"], &all);
    };
    refuses(
        &bed.path("none/vmlinux").display().to_string(),
        &["no such file"],
    );
    refuses(&bed.file("empty", b""), &["is empty"]);
    refuses(
        &bed.file("junk", &[7; 5000]),
        &["neither an ELF vmlinux nor a bzImage"],
    );
    refuses(
        &bed.file("short", &vmlinux()[..0x1800]),
        &["truncated", "copy it anew"],
    );
    let mut arm = vmlinux();
    arm[18] = 183;
    refuses(&bed.file("arm", &arm), &["arm64", "x86-64"]);
    refuses(&bed.path("").display().to_string(), &["a directory"]);
    let fifo = bed.path("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    refuses(&fifo.display().to_string(), &["a FIFO"]);
    refuses("/dev/null", &["a character device"]);
    let mut large = vmlinux();
    large[64 + 40..72 + 40].copy_from_slice(&(400u64 << 20).to_le_bytes());
    refuses(
        &bed.file("large", &large),
        &["too little for the kernel", "give --memory 420M or more"],
    );
}

#[test]
fn roots() {
    let bed = Bed::new();
    let kernel = bed.file("vmlinux", &vmlinux());
    let refuses = |path: &str, words: &[&str]| {
        let mut all = vec![path];
        all.extend(words);
        bed.refuses(&["--kernel", &kernel, "--rootfs", path], &all);
    };
    let mut squash = vec![0; 8192];
    squash[..4].copy_from_slice(b"hsqs");
    squash[41] = 0x20;
    refuses(
        &bed.path("nothing").display().to_string(),
        &["no such file"],
    );
    refuses(
        &bed.file("zeros", &[0; 8192]),
        &["unknown format: ext4, erofs and squashfs"],
    );
    refuses(
        &bed.file("odd", &[&squash[..], &[0; 100]].concat()),
        &["no multiple of 512"],
    );
    refuses(
        &bed.file("short", &squash[..4096]),
        &["truncated", "squashfs"],
    );
    refuses("/dev/zero", &["a character device"]);
}

#[test]
fn a_terminal_or_report_that_cannot_be() {
    let bed = Bed::new();
    bed.refuses(&["-t"], &["terminal", "leave -t out"]);
    bed.refuses(
        &["--report", "/dev/null"],
        &["/dev/null", "no regular file"],
    );
    let path = bed.path("none/r.json").display().to_string();
    bed.refuses(&["--report", &path], &[&path, "folder is missing"]);
}

#[test]
fn closed_streams() {
    let bed = Bed::new();
    for (redirect, words) in [
        ("<&-", "standard input is closed"),
        (">&-", "standard output is closed"),
    ] {
        let started = Instant::now();
        let output = Command::new("sh")
            .arg("-c")
            .arg(format!(
                "exec \"$0\" run --no-audit --run-dir \"$1\" -- true {redirect}"
            ))
            .arg(env!("CARGO_BIN_EXE_casemate"))
            .arg(bed.run_dir())
            .output()
            .unwrap();
        bed.check(&output, started.elapsed(), &[words, "/dev/null"]);
    }
    let status = Command::new("sh")
        .arg("-c")
        .arg("exec \"$0\" run -- true 2>&-")
        .arg(env!("CARGO_BIN_EXE_casemate"))
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(125));
}

#[test]
fn not_root() {
    use std::os::unix::process::CommandExt;
    let bed = Bed::new();
    // The binary must be reachable for a user that is nobody.
    let open = tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir_in("/tmp")
        .unwrap();
    let binary = open.path().join("casemate");
    fs::copy(env!("CARGO_BIN_EXE_casemate"), &binary).unwrap();
    let started = Instant::now();
    let output = Command::new(&binary)
        .args(["run", "--no-audit", "--", "true"])
        .current_dir("/")
        .stdin(Stdio::null())
        .uid(65534)
        .gid(65534)
        .output()
        .unwrap();
    bed.check(&output, started.elapsed(), &["uid 65534", "as root"]);
}

#[test]
fn a_report_tells_of_a_refusal() {
    let bed = Bed::new();
    let report = bed.path("r.json");
    let path = report.display().to_string();
    bed.refuses(
        &["--report", &path, "--memory", "0", "--id", "abc"],
        &["--memory"],
    );
    let read: casemate_proto::report::Report =
        serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
    assert_eq!((read.exit_status, read.id.as_str()), (125, "abc"));
    assert_eq!(read.command, ["true"]);
    assert!(matches!(
        read.outcome,
        casemate_proto::status::Outcome::OwnFailure { .. }
    ));
    assert!(read.confinement.is_empty() && Path::new(&path).exists());
}
