//! Ordinary programs under the filters of the shipped jail policies, installed before the
//! exec as the jailer does it. A host that lacks a program does not fail the test: the ones
//! that every Debian has are required.

use casemate_policy::Filter;
use std::ffi::OsStr;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn filter(policy: &str) -> &'static Filter {
    let policy = casemate_policies::jail(policy).unwrap();
    policy.seccomp.as_ref().unwrap()
}

/// Confines the calling process, as the jailer does.
fn confine(filter: &Filter) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: filter.program.len() as u16,
        // The same layout: `struct sock_filter`.
        filter: filter
            .program
            .as_ptr()
            .cast::<libc::sock_filter>()
            .cast_mut(),
    };
    // SAFETY: takes no pointers, then a program of as many instructions as it says.
    let answers = unsafe {
        [
            i64::from(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)),
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                0,
                &raw const program,
            ),
        ]
    };
    match answers {
        [0, 0] => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn under(policy: &str, argv: &[&str], folder: &Path) -> Output {
    let filter = filter(policy);
    let mut command = Command::new(argv[0]);
    command
        .args(&argv[1..])
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
        .env("HOME", folder)
        .current_dir(folder)
        .stdin(Stdio::null());
    // SAFETY: makes two system calls, and allocates nothing.
    unsafe { command.pre_exec(move || confine(filter)) };
    command.output().unwrap()
}

/// Runs `argv`; it must print `expected`.
#[track_caller]
fn prints(policy: &str, argv: &[&str], folder: &Path, expected: &str) {
    let output = under(policy, argv, folder);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.trim() == expected,
        "{policy}: {argv:?}: {:?} (signal {:?})\n{text}\n{}",
        output.status,
        output.status.signal(),
        String::from_utf8_lossy(&output.stderr)
    );
}

fn find(name: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(OsStr::new(&folders))
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

const C: &str = r#"
#include <pthread.h>
#include <stdio.h>
static void *half(void *arg) { *(int *)arg = 21; return 0; }
int main(void) {
    int n = 0;
    pthread_t thread;
    pthread_create(&thread, 0, half, &n);
    pthread_join(thread, 0);
    printf("%d\n", 2 * n);
    return 0;
}
"#;

#[test]
fn shells_and_tools() {
    let folder = tempfile::tempdir().unwrap();
    for policy in ["default", "network"] {
        let prints = |script, expected| {
            prints(
                policy,
                &["/bin/bash", "-c", script],
                folder.path(),
                expected,
            )
        };
        prints("echo $((6 * 7))", "42");
        prints("seq 3 | sort -r | head -1", "3");
        prints(
            "cat < /etc/hostname > out; cp out copy; cmp out copy && mkdir -p d/e && mv copy d/e && rm -r d out && echo same",
            "same",
        );
        prints("mkfifo p; (echo through > p &); cat p; rm p", "through");
        prints("sleep 5 & kill $!; wait $!; echo $?", "143");
        prints("tar c /etc/hostname 2>/dev/null | tar t", "etc/hostname");
        prints(
            "find /usr/bin -maxdepth 1 -name bash | xargs ls",
            "/usr/bin/bash",
        );
        prints(
            "date -d @0 -u +%Y; id -u >/dev/null; df / >/dev/null; ls -la / >/dev/null",
            "1970",
        );
    }
}

#[test]
fn python() {
    let python = "/usr/bin/python3";
    if !Path::new(python).exists() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let script = "import threading, hashlib, json, time, random\n\
        t = threading.Thread(target=lambda: time.sleep(0.01)); t.start(); t.join()\n\
        print(len(json.dumps(hashlib.sha256(b'x').hexdigest())))";
    for policy in ["strict", "default", "network"] {
        prints(policy, &[python, "-c", script], folder.path(), "66");
    }
    let script = "import subprocess, asyncio, tempfile, shutil, os\n\
        async def main():\n\
        \x20 p = await asyncio.create_subprocess_exec('echo', '4', stdout=asyncio.subprocess.PIPE)\n\
        \x20 return (await p.communicate())[0]\n\
        d = tempfile.mkdtemp(); shutil.copy('/etc/hostname', d); shutil.rmtree(d)\n\
        print(int(asyncio.run(main())) + int(subprocess.check_output(['sh', '-c', 'echo 38'])))";
    for policy in ["default", "network"] {
        prints(policy, &[python, "-c", script], folder.path(), "42");
    }
    let script = "import socket, threading\n\
        s = socket.create_server(('127.0.0.1', 0)); a = s.getsockname()\n\
        t = threading.Thread(target=lambda: s.accept()[0].sendall(b'42')); t.start()\n\
        c = socket.create_connection(a); print(c.recv(9).decode()); t.join()\n\
        socket.getaddrinfo('localhost', 80)";
    prints("network", &[python, "-c", script], folder.path(), "42");
}

#[test]
fn compilers() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("a.c");
    std::fs::write(&source, C).unwrap();
    for policy in ["default", "network"] {
        if find("gcc").is_some() {
            prints(
                policy,
                &["gcc", "-O1", "-pthread", "a.c", "-o", "a"],
                folder.path(),
                "",
            );
            prints(policy, &["./a"], folder.path(), "42");
            prints("strict", &["./a"], folder.path(), "42");
        }
    }
}

#[test]
fn this_very_program() {
    // A Rust binary, with the threads of its test harness.
    let own = std::env::current_exe().unwrap();
    let argv = [own.to_str().unwrap(), "--list", "--format", "terse"];
    for policy in ["strict", "default", "network"] {
        let output = under(policy, &argv, Path::new("/"));
        assert!(output.status.success(), "{policy}: {:?}", output.status);
    }
}

#[test]
fn runtimes() {
    let folder = tempfile::tempdir().unwrap();
    if let Some(node) = find("node") {
        let node = node.to_str().unwrap();
        let script = "const cp = require('child_process');\n\
            require('fs').writeFileSync('f', 'x');\n\
            console.log(+cp.execSync('echo 41') + require('fs').readFileSync('f').length)";
        for policy in ["default", "network"] {
            prints(policy, &[node, "-e", script], folder.path(), "42");
        }
    }
    if let Some(busybox) = find("busybox") {
        let busybox = busybox.to_str().unwrap();
        for policy in ["default", "network"] {
            prints(
                policy,
                &[busybox, "sh", "-c", "echo 42 | cat"],
                folder.path(),
                "42",
            );
        }
        prints("strict", &[busybox, "echo", "42"], folder.path(), "42");
    }
}

#[test]
fn one_process_under_strict() {
    let script = "(exit 3)";
    let output = under("strict", &["/bin/bash", "-c", script], Path::new("/"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("fork: Operation not permitted"), "{output:?}");
    let script = "echo x > /tmp/casemate-strict || echo no file";
    prints(
        "strict",
        &["/bin/bash", "-c", script],
        Path::new("/"),
        "no file",
    );
    assert!(!Path::new("/tmp/casemate-strict").exists());
}
