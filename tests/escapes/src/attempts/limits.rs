//! Taking more than its share.

use super::attempt;
use crate::sys::{in_child, open, owned, reached, words, writable};
use crate::{Attempt, Bait, Failure, Tried, call};
use std::os::fd::AsRawFd;
use std::path::Path;

const CHUNK: usize = 1 << 20;

pub const ALL: &[Attempt] = &[
    attempt("fork-bomb", "make processes without end", fork_bomb),
    attempt("thread-bomb", "make threads without end", thread_bomb),
    attempt("memory-bomb", "take memory without end", |bait| {
        let mut kept: Vec<Vec<u8>> = Vec::new();
        while (kept.len() as u64) * (CHUNK as u64) < bait.memory_bytes {
            let mut chunk = Vec::new();
            chunk
                .try_reserve_exact(CHUNK)
                .map_err(|_| Failure::Errno(libc::ENOMEM))?;
            chunk.resize(CHUNK, 1);
            kept.push(std::hint::black_box(chunk));
        }
        Ok(format!("{} MiB were taken", kept.len()))
    }),
    attempt("memfd-bomb", "fill a memory file without end", |bait| {
        fill(bait, &owned(call!(libc::SYS_memfd_create, c"bomb", 0)?))
    }),
    attempt("tmpfs-bomb", "fill a tmpfs without end", |bait| {
        let mut last = Failure::Nothing("no tmpfs to fill".to_owned());
        for folder in ["/tmp", "/dev/shm", "/run", "/"].map(Path::new) {
            let path = folder.join(format!("bomb-{}", std::process::id()));
            match open(&path, libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY) {
                Ok(file) => {
                    let _ = std::fs::remove_file(&path);
                    return fill(bait, &file);
                }
                Err(e) => last = e.into(),
            }
        }
        Err(last)
    }),
    attempt("inode-bomb", "fill a tmpfs with empty files", |_| {
        let folder = ["/dev/shm", "/tmp"]
            .map(Path::new)
            .into_iter()
            .find(|folder| std::fs::File::create(folder.join("bomb-try")).is_ok());
        let Some(folder) = folder else {
            return Err(Failure::Nothing("no tmpfs to fill".to_owned()));
        };
        let _ = std::fs::remove_file(folder.join("bomb-try"));
        let name = |n: u32| folder.join(format!("bomb-{}-{n}", std::process::id()));
        let mut made = 0;
        let ended = loop {
            match open(name(made), libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY) {
                Ok(_) if made >= 150_000 => break Ok(format!("{made} files were made")),
                Ok(_) => made += 1,
                Err(e) => break Err(e.into()),
            }
        };
        for n in 0..=made {
            let _ = std::fs::remove_file(name(n));
        }
        ended
    }),
    attempt("huge-file", "make a file larger than the disk", |bait| {
        let path = writable(bait)?.join(format!("huge-{}", std::process::id()));
        let file = open(&path, libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY)?;
        let _ = std::fs::remove_file(&path);
        // A limit would send a signal, which ends it.
        reached(
            call!(libc::SYS_ftruncate, file.as_raw_fd(), 1u64 << 40),
            &[],
        )
    }),
    attempt("fd-bomb", "open files without end", fd_bomb),
    attempt("lock-memory", "lock memory", |_| {
        let page = vec![1u8; 1 << 20];
        reached(call!(libc::SYS_mlock, &page[..], page.len()), &[])
    }),
    attempt("core-dump", "leave a core dump on the host", core_dump),
    attempt("message-queue", "fill message queues", |_| {
        // mqd_t, flags, limits: 10 messages of 8192 bytes.
        let attr = words(&[0, 10, 8192, 0, 0, 0, 0, 0]);
        let flags = libc::O_CREAT | libc::O_RDWR;
        let made = call!(libc::SYS_mq_open, c"escape-bomb", flags, 0o600, &attr[..]);
        let _ = call!(libc::SYS_mq_unlink, c"escape-bomb");
        reached(made, &[])
    }),
];

fn fill(bait: &Bait, file: &impl AsRawFd) -> Tried {
    let chunk = vec![1u8; CHUNK];
    let mut written = 0;
    while written < bait.memory_bytes {
        written += call!(libc::SYS_write, file.as_raw_fd(), &chunk[..], CHUNK)? as u64;
    }
    Ok(format!("{} MiB were written", written >> 20))
}

fn fork_bomb(bait: &Bait) -> Tried {
    let mut children = Vec::new();
    let ended = loop {
        // SAFETY: one thread; the child does nothing but sleep.
        match unsafe { libc::fork() } {
            -1 => break Err(Failure::from(std::io::Error::last_os_error())),
            0 => loop {
                // SAFETY: waits for a signal.
                unsafe { libc::pause() };
            },
            pid => children.push(pid),
        }
        if children.len() >= bait.processes as usize {
            break Ok(format!("{} processes were made", children.len()));
        }
    };
    for &pid in &children {
        let _ = call!(libc::SYS_kill, pid, libc::SIGKILL);
    }
    for pid in children {
        let _ = crate::sys::wait(pid);
    }
    ended
}

fn thread_bomb(bait: &Bait) -> Tried {
    let mut made = 0;
    let gate = std::sync::Arc::new(std::sync::RwLock::new(()));
    let _closed = gate
        .write()
        .map_err(|_| Failure::Nothing("no lock".to_owned()))?;
    while made < bait.processes {
        let gate = gate.clone();
        std::thread::Builder::new()
            .stack_size(16384)
            .spawn(move || {
                drop(gate.read());
            })?;
        made += 1;
    }
    Ok(format!("{made} threads were made"))
}

fn fd_bomb(bait: &Bait) -> Tried {
    let mut limit = [0; 16];
    call!(
        libc::SYS_prlimit64,
        0,
        libc::RLIMIT_NOFILE,
        0,
        &mut limit[..]
    )?;
    let hard = u64::from_ne_bytes(limit[8..].try_into().unwrap_or_default());
    let _ = call!(
        libc::SYS_prlimit64,
        0,
        libc::RLIMIT_NOFILE,
        &words(&[hard, hard])[..],
        0
    );
    for _ in 0..bait.fds {
        call!(libc::SYS_dup, 1)?;
    }
    Ok(format!("{} fds were opened", bait.fds))
}

/// A child that crashes, in a folder where it may write, with its limit as high as it goes.
fn core_dump(bait: &Bait) -> Tried {
    let mut limit = [0; 16];
    call!(libc::SYS_prlimit64, 0, libc::RLIMIT_CORE, 0, &mut limit[..])?;
    let hard = u64::from_ne_bytes(limit[8..].try_into().unwrap_or_default());
    let _ = call!(
        libc::SYS_prlimit64,
        0,
        libc::RLIMIT_CORE,
        &words(&[hard, hard])[..],
        0
    );
    if let Ok(folder) = writable(bait) {
        let _ = std::env::set_current_dir(folder);
    }
    let status = in_child(|| {
        let pid = call!(libc::SYS_getpid).unwrap_or(0);
        let _ = call!(libc::SYS_kill, pid, libc::SIGABRT);
        0
    })?;
    match libc::WIFSIGNALED(status) && libc::WCOREDUMP(status) {
        true => Ok("a core was dumped".to_owned()),
        false => Err(Failure::Nothing("no core was dumped".to_owned())),
    }
}
