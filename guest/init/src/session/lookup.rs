//! What to hand to execve(2): strings, and the places where the program may be.

use super::spawn::StartFailure;
use casemate_proto::agent::{Exec, StartError};
use nix::errno::Errno;
use std::ffi::CString;

/// Where programs are looked for when the environment has no `PATH`.
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// An [`Exec`] in the kernel's form.
#[derive(Debug)]
pub struct Prepared {
    /// Paths to try, in order.
    pub candidates: Vec<CString>,
    /// Arguments, the program's name first.
    pub argv: Vec<CString>,
    /// Environment.
    pub env: Vec<CString>,
    /// Directory to start in.
    pub workdir: CString,
}

impl Prepared {
    /// Converts and checks.
    pub fn new(exec: &Exec) -> Result<Self, StartFailure> {
        let argv = strings(&exec.argv, StartError::NotExecutable)?;
        let env = strings(&exec.env, StartError::Init)?;
        let program = exec.argv.first().ok_or(StartFailure {
            error: StartError::NotFound,
            errno: Errno::ENOENT,
        })?;
        let workdir = match exec.workdir.as_slice() {
            b"" => b"/",
            named => named,
        };
        Ok(Self {
            candidates: candidates(program, &exec.env),
            argv,
            env,
            workdir: string(workdir, StartError::Workdir)?,
        })
    }
}

fn string(bytes: &[u8], error: StartError) -> Result<CString, StartFailure> {
    CString::new(bytes).map_err(|_| StartFailure {
        error,
        errno: Errno::EINVAL,
    })
}

fn strings(all: &[Vec<u8>], error: StartError) -> Result<Vec<CString>, StartFailure> {
    all.iter().map(|bytes| string(bytes, error)).collect()
}

/// The paths that `program` can mean. As with execvp(3): a name with a slash is
/// a path, an empty part of `PATH` is the working directory.
fn candidates(program: &[u8], env: &[Vec<u8>]) -> Vec<CString> {
    let places: Vec<Vec<u8>> = if program.is_empty() {
        Vec::new()
    } else if program.contains(&b'/') {
        vec![program.to_vec()]
    } else {
        env.iter()
            .find_map(|variable| variable.strip_prefix(b"PATH="))
            .unwrap_or(DEFAULT_PATH)
            .split(|&b| b == b':')
            .map(|dir| match dir {
                b"" => program.to_vec(),
                dir => [dir, b"/", program].concat(),
            })
            .collect()
    };
    // A NUL was refused before.
    places
        .into_iter()
        .filter_map(|path| CString::new(path).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(program: &str, env: &[&str]) -> Vec<String> {
        let env: Vec<Vec<u8>> = env.iter().map(|v| v.as_bytes().to_vec()).collect();
        candidates(program.as_bytes(), &env)
            .into_iter()
            .map(|path| path.into_string().unwrap())
            .collect()
    }

    #[test]
    fn searches_like_a_shell() {
        assert_eq!(paths("ls", &["A=1", "PATH=/a:/b"]), ["/a/ls", "/b/ls"]);
        assert_eq!(paths("ls", &["PATH=:/b:"]), ["ls", "/b/ls", "ls"]);
        assert_eq!(paths("./ls", &["PATH=/a"]), ["./ls"]);
        assert_eq!(paths("ls", &[]).last().unwrap(), "/bin/ls");
        assert!(paths("", &["PATH=/a"]).is_empty());
    }

    #[test]
    fn refuses_what_execve_cannot_take() {
        let exec = |argv: &[&[u8]], env: &[&[u8]], workdir: &[u8]| Exec {
            argv: argv.iter().map(|a| a.to_vec()).collect(),
            env: env.iter().map(|a| a.to_vec()).collect(),
            workdir: workdir.to_vec(),
            tty: None,
        };
        for (exec, error) in [
            (exec(&[], &[], b""), StartError::NotFound),
            (exec(&[b"a\0b"], &[], b""), StartError::NotExecutable),
            (exec(&[b"a"], &[b"A=\0"], b""), StartError::Init),
            (exec(&[b"a"], &[], b"/\0"), StartError::Workdir),
        ] {
            assert_eq!(Prepared::new(&exec).unwrap_err().error, error);
        }
        let ready = Prepared::new(&exec(&[b"\xff"], &[b"\xfe=\xff"], b"")).unwrap();
        assert_eq!(ready.workdir.as_bytes(), b"/");
    }
}
