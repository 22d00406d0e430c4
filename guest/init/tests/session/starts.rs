//! How programs start, and what they start with.

use crate::host::{Session, exec, sh};
use casemate_proto::agent::{Exec, FromInit, StartError};
use nix::errno::Errno;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

fn failure(exec: Exec) -> (StartError, Errno) {
    let (_session, answer) = Session::start(exec);
    match answer {
        FromInit::Failed { error, errno } => (error, Errno::from_raw(errno)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn failures_have_a_kind_and_an_errno() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let file = |name: &str, text: &str, mode: u32| {
        fs::write(path(name), text).unwrap();
        fs::set_permissions(path(name), Permissions::from_mode(mode)).unwrap();
        path(name)
    };
    let data = file("data", "text", 0o644);
    let bare = file("bare", "echo no shebang\n", 0o755);
    let lost = file("lost", "#!/no/such/interpreter\n", 0o755);
    let below = format!("{data}/x");
    let folder_path = path(".");
    use StartError::{NotExecutable, NotFound};
    for (program, expected) in [
        ("no-such-program", (NotFound, Errno::ENOENT)),
        ("", (NotFound, Errno::ENOENT)),
        ("/no/such/program", (NotFound, Errno::ENOENT)),
        (below.as_str(), (NotFound, Errno::ENOENT)),
        (data.as_str(), (NotExecutable, Errno::EACCES)),
        (bare.as_str(), (NotExecutable, Errno::ENOEXEC)),
        (lost.as_str(), (NotExecutable, Errno::ENOENT)),
        (folder_path.as_str(), (NotExecutable, Errno::EACCES)),
    ] {
        assert_eq!(failure(exec(&[program])), expected, "{program:?}");
    }
    let mut lost_place = sh("true");
    lost_place.workdir = b"/no/such/place".to_vec();
    assert_eq!(failure(lost_place), (StartError::Workdir, Errno::ENOENT));
}

#[test]
fn the_program_has_nothing_of_ours() {
    let script = "umask; ls /proc/self/fd; grep -E '^Sig(Blk|Ign)' /proc/self/status; \
                  cat /proc/self/oom_score_adj; env; pwd; kill -0 -$$ && echo leads";
    let mut exec = sh(script);
    exec.env = vec![b"PATH=/usr/bin:/bin".to_vec(), b"X=\xff\xfe".to_vec()];
    exec.workdir = b"/usr".to_vec();
    let outcome = Session::started(exec).finish();
    let text = String::from_utf8_lossy(&outcome.stdout).into_owned();
    assert!(outcome.stdout.windows(4).any(|w| w == b"X=\xff\xfe"));
    // fd 3 is the folder that `ls` reads.
    let rest = text.lines().collect::<Vec<_>>().join(" ");
    for expected in [
        "0022 0 1 2 3 SigBlk:\t0000000000000000 SigIgn:\t0000000000000000 0",
        "PWD=/usr",
        "/usr leads",
    ] {
        assert!(rest.contains(expected), "{expected:?} in {rest:?}");
    }
}

#[test]
fn a_megabyte_of_arguments_passes() {
    let long = "x".repeat(100_000);
    let mut argv = vec!["printf", "%s"];
    argv.extend(std::iter::repeat_n(long.as_str(), 10));
    let outcome = Session::started(exec(&argv)).finish();
    assert_eq!(outcome.stdout.len(), 1_000_000);
}
