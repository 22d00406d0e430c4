//! The program that the tests jail: prints what it sees, then does what its arguments say.
//!
//! Arguments after the jailer's own: `exit N`, `sleep`, `socket PATH` (binds and sleeps),
//! `child` (forks one that sleeps, then exits), `try` (what must not work any more),
//! `plant KIND PATH` (leaves something behind and exits), `file PATH` (prints into it).

use std::ffi::CStr;
use std::fmt::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

fn main() {
    let arguments: Vec<Vec<u8>> = std::env::args_os().map(|a| a.into_vec()).collect();
    let words: Vec<String> = arguments
        .iter()
        .map(|a| a.escape_ascii().to_string())
        .collect();
    let own = words.iter().position(|word| word == "--parent-cpu-time-us");
    let told: Vec<&str> = words
        .iter()
        .skip(own.map_or(1, |at| at + 2))
        .map(String::as_str)
        .collect();
    let mut report = String::new();
    let out = &mut report;
    for word in &words {
        let _ = writeln!(out, "arg {word}");
    }
    for (name, value) in std::env::vars_os() {
        let _ = writeln!(
            out,
            "env {}={}",
            name.as_bytes().escape_ascii(),
            value.as_bytes().escape_ascii()
        );
    }
    identity(out);
    process(out);
    files(out);
    let to = told.iter().position(|&word| word == "file");
    if told.contains(&"try") {
        attempts(out);
    }
    let _ = writeln!(out, "done 1");
    match to {
        Some(at) => std::fs::write(told[at + 1], &report).expect("the report's file"),
        None => print!("{report}"),
    }
    act(&told);
}

fn act(told: &[&str]) {
    match *told {
        ["exit", status, ..] => std::process::exit(status.parse().expect("a status")),
        ["socket", path, ..] => {
            let _socket = std::os::unix::net::UnixListener::bind(path).expect("bind");
            println!("bound 1");
            sleep();
        }
        // SAFETY: the child only sleeps.
        ["child", ..] => match unsafe { libc::fork() } {
            0 => sleep(),
            pid => println!("child {pid}"),
        },
        ["plant", kind, path, ..] => plant(kind, path),
        _ if told.contains(&"sleep") => sleep(),
        _ => {}
    }
}

fn sleep() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

fn plant(kind: &str, path: &str) {
    let _ = std::fs::remove_file(path);
    let _ = std::fs::remove_dir_all(path);
    match kind {
        "symlink" => std::os::unix::fs::symlink("/etc/shadow", path).expect("symlink"),
        "directory" => std::fs::create_dir(path).expect("mkdir"),
        _ => std::fs::write(path, "planted").expect("write"),
    }
    println!("planted 1");
}

fn identity(out: &mut String) {
    // SAFETY: plain calls without memory, but getgroups with null and the two with buffers
    // that outlive them.
    unsafe {
        let _ = writeln!(out, "uid {} {}", libc::getuid(), libc::geteuid());
        let _ = writeln!(out, "gid {} {}", libc::getgid(), libc::getegid());
        let _ = writeln!(out, "groups {}", libc::getgroups(0, std::ptr::null_mut()));
        let _ = writeln!(out, "pid {}", libc::getpid());
        let _ = writeln!(
            out,
            "leader {}",
            u8::from(libc::getsid(0) == libc::getpid())
        );
        let _ = writeln!(
            out,
            "nnp {}",
            libc::prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
        );
        let _ = writeln!(out, "securebits {}", libc::prctl(libc::PR_GET_SECUREBITS));
        let bounding = (0..64)
            .filter(|&n| libc::prctl(libc::PR_CAPBSET_READ, n) == 1)
            .count();
        let _ = writeln!(out, "bounding {bounding}");
        let mut name = [0u8; 128];
        libc::gethostname(name.as_mut_ptr().cast(), name.len());
        let name = CStr::from_bytes_until_nul(&name)
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let _ = writeln!(out, "hostname {name}");
        let mask = libc::umask(0o22);
        libc::umask(mask);
        let _ = writeln!(out, "umask {mask:o}");
        let keyring = libc::syscall(
            libc::SYS_keyctl,
            libc::KEYCTL_SEARCH,
            -3,
            c"user".as_ptr(),
            c"casemate-peer-test".as_ptr(),
            0,
        );
        let _ = writeln!(out, "callers-key {}", u8::from(keyring >= 0));
    }
}

fn process(out: &mut String) {
    let limit = |resource| {
        // SAFETY: `limit` outlives the call.
        unsafe {
            let mut limit: libc::rlimit = std::mem::zeroed();
            libc::getrlimit(resource, &raw mut limit);
            format!("{} {}", limit.rlim_cur, limit.rlim_max)
        }
    };
    let _ = writeln!(out, "nofile {}", limit(libc::RLIMIT_NOFILE));
    let _ = writeln!(out, "fsize {}", limit(libc::RLIMIT_FSIZE));
    let _ = writeln!(out, "core {}", limit(libc::RLIMIT_CORE));
    // SAFETY: queries of this process' own signals into memory that outlives the calls.
    unsafe {
        let mut mask: libc::sigset_t = std::mem::zeroed();
        libc::sigprocmask(libc::SIG_SETMASK, std::ptr::null(), &raw mut mask);
        let blocked = (1..=64)
            .filter(|&n| libc::sigismember(&raw const mask, n) == 1)
            .count();
        let _ = writeln!(out, "blocked {blocked}");
        // SIGPIPE is changed by Rust's own start-up.
        let ignored = (1..=64).filter(|&n| {
            let mut action: libc::sigaction = std::mem::zeroed();
            n != libc::SIGPIPE
                && libc::sigaction(n, std::ptr::null(), &raw mut action) == 0
                && action.sa_sigaction == libc::SIG_IGN
        });
        let _ = writeln!(out, "ignored {}", ignored.count());
        let open: Vec<String> = (0..1024)
            .filter(|&fd| libc::fcntl(fd, libc::F_GETFD) >= 0)
            .map(|fd| fd.to_string())
            .collect();
        let _ = writeln!(out, "fds {}", open.join(" "));
        for fd in 0..3 {
            let mut stat: libc::stat = std::mem::zeroed();
            libc::fstat(fd, &raw mut stat);
            let _ = writeln!(
                out,
                "fd{fd} {:o} {}",
                stat.st_mode & libc::S_IFMT,
                stat.st_rdev
            );
        }
        let mut name = [0u8; 16];
        libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr());
        let name = CStr::from_bytes_until_nul(&name).expect("a name");
        let _ = writeln!(out, "comm {}", name.to_bytes().escape_ascii());
        let tun = libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0);
        let lo = libc::if_nametoindex(c"casemate-t0".as_ptr());
        let _ = writeln!(out, "test-interface {}", u8::from(tun >= 0 && lo > 0));
    }
}

fn files(out: &mut String) {
    let mut todo = vec![Path::new("/").to_owned()];
    while let Some(path) = todo.pop() {
        let Ok(meta) = path.symlink_metadata() else {
            continue;
        };
        let _ = writeln!(
            out,
            "file {} {:o} {}:{} {}",
            path.as_os_str().as_bytes().escape_ascii(),
            meta.mode(),
            meta.uid(),
            meta.gid(),
            if meta.mode() & libc::S_IFMT == libc::S_IFCHR {
                meta.rdev()
            } else {
                0
            },
        );
        if meta.is_dir() {
            let entries = std::fs::read_dir(&path).into_iter().flatten();
            todo.extend(entries.map(|entry| entry.expect("an entry").path()));
        }
    }
}

/// One line for each thing tried: `try NAME 0` or `try NAME ERRNO`.
fn attempts(out: &mut String) {
    let mut line = |name: &str, result: i64| {
        let error = match result {
            -1 => std::io::Error::last_os_error().raw_os_error().unwrap_or(0),
            _ => 0,
        };
        let _ = writeln!(out, "try {name} {error}");
    };
    let program = std::env::args_os().next().expect("a name");
    let program = std::ffi::CString::new(program.into_vec()).expect("no NUL");
    // SAFETY: C strings and structures that outlive the calls.
    unsafe {
        let write = libc::open(program.as_ptr(), libc::O_WRONLY | libc::O_TRUNC);
        line("write-program", write.into());
        line("chmod-program", libc::chmod(program.as_ptr(), 0o777).into());
        line("unlink-program", libc::unlink(program.as_ptr()).into());
        line("kvm", libc::open(c"/dev/kvm".as_ptr(), libc::O_RDWR).into());
        line(
            "make-file",
            libc::open(c"/run/made".as_ptr(), libc::O_CREAT | libc::O_RDWR, 0o600).into(),
        );
        line(
            "rename-across",
            libc::rename(c"/run/made".as_ptr(), c"/made".as_ptr()).into(),
        );
        line("mkdir", libc::mkdir(c"/folder".as_ptr(), 0o700).into());
        line(
            "mount",
            libc::mount(
                c"x".as_ptr(),
                c"/folder".as_ptr(),
                c"tmpfs".as_ptr(),
                0,
                std::ptr::null(),
            )
            .into(),
        );
        line("setuid", libc::setuid(0).into());
        line("signal-parent", {
            let parent = libc::getppid();
            if parent > 0 {
                libc::kill(parent, 0).into()
            } else {
                -1
            }
        });
        line("abstract", abstract_connect());
        line(
            "tiocsti",
            libc::ioctl(0, libc::TIOCSTI, c"x".as_ptr()).into(),
        );
        line("tty", libc::open(c"/dev/tty".as_ptr(), libc::O_RDWR).into());
    }
}

/// Connects to `@casemate-peer-test`.
unsafe fn abstract_connect() -> i64 {
    // SAFETY: the caller's; `address` is laid out as the kernel's and outlives the call.
    unsafe {
        let name = b"\0casemate-peer-test";
        let mut address: libc::sockaddr_un = std::mem::zeroed();
        address.sun_family = libc::AF_UNIX as u16;
        for (to, from) in address.sun_path.iter_mut().zip(name) {
            *to = *from as libc::c_char;
        }
        let socket = libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0);
        let length = std::mem::size_of::<libc::sa_family_t>() + name.len();
        libc::connect(socket, (&raw const address).cast(), length as u32).into()
    }
}
