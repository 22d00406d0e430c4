//! The arguments of those syscalls on which policies put conditions.
//!
//! Widths are those of the kernel's `SYSCALL_DEFINE` of each call: a filter that
//! compared 32 bits where the kernel takes 64 could be passed with the rest, and
//! one that compared 64 where it takes 32 would refuse what is meant.

use crate::syscalls::{Arg, Kind};

macro_rules! signatures {
    ($($name:ident($($arg:ident: $kind:ident),*);)*) => {
        &[$((
            stringify!($name),
            &[$(Arg { name: stringify!($arg), kind: Kind::$kind }),*],
        )),*]
    };
}

/// Syscall names and their arguments.
pub(crate) static ALL: &[(&str, &[Arg])] = signatures! {
    // Files and sockets.
    read(fd: Fd, buf: Ptr, count: Long);
    write(fd: Fd, buf: Ptr, count: Long);
    readv(fd: Fd, iov: Ptr, iovcnt: Long);
    writev(fd: Fd, iov: Ptr, iovcnt: Long);
    pread64(fd: Fd, buf: Ptr, count: Long, offset: Long);
    pwrite64(fd: Fd, buf: Ptr, count: Long, offset: Long);
    preadv(fd: Fd, iov: Ptr, iovcnt: Long, offset_low: Long, offset_high: Long);
    pwritev(fd: Fd, iov: Ptr, iovcnt: Long, offset_low: Long, offset_high: Long);
    preadv2(fd: Fd, iov: Ptr, iovcnt: Long, offset_low: Long, offset_high: Long, flags: Int);
    pwritev2(fd: Fd, iov: Ptr, iovcnt: Long, offset_low: Long, offset_high: Long, flags: Int);
    lseek(fd: Fd, offset: Long, whence: Int);
    fstat(fd: Fd, statbuf: Ptr);
    newfstatat(fd: Fd, path: Ptr, statbuf: Ptr, flags: Int);
    statx(fd: Fd, path: Ptr, flags: Int, mask: Int, statbuf: Ptr);
    openat(fd: Fd, path: Ptr, flags: Int, mode: Int);
    open(path: Ptr, flags: Int, mode: Int);
    mknod(path: Ptr, mode: Int, dev: Int);
    mknodat(dirfd: Fd, path: Ptr, mode: Int, dev: Int);
    execveat(dirfd: Fd, path: Ptr, argv: Ptr, envp: Ptr, flags: Int);
    memfd_create(name: Ptr, flags: Int);
    pipe2(pipefd: Ptr, flags: Int);
    fsync(fd: Fd);
    fdatasync(fd: Fd);
    fallocate(fd: Fd, mode: Int, offset: Long, len: Long);
    ftruncate(fd: Fd, length: Long);
    close(fd: Fd);
    close_range(first: Fd, last: Fd, flags: Int);
    dup3(oldfd: Fd, newfd: Fd, flags: Int);
    fcntl(fd: Fd, cmd: Int, arg: Long);
    ioctl(fd: Fd, cmd: Int, arg: Long);
    socket(domain: Int, type: Int, protocol: Int);
    recvfrom(fd: Fd, buf: Ptr, len: Long, flags: Int, addr: Ptr, addrlen: Ptr);
    sendto(fd: Fd, buf: Ptr, len: Long, flags: Int, addr: Ptr, addrlen: Int);
    recvmsg(fd: Fd, msg: Ptr, flags: Int);
    sendmsg(fd: Fd, msg: Ptr, flags: Int);
    shutdown(fd: Fd, how: Int);
    socketpair(domain: Int, type: Int, protocol: Int, sv: Ptr);
    connect(fd: Fd, addr: Ptr, addrlen: Int);
    bind(fd: Fd, addr: Ptr, addrlen: Int);
    listen(fd: Fd, backlog: Int);
    accept(fd: Fd, addr: Ptr, addrlen: Ptr);
    accept4(fd: Fd, addr: Ptr, addrlen: Ptr, flags: Int);
    getsockname(fd: Fd, addr: Ptr, addrlen: Ptr);
    getpeername(fd: Fd, addr: Ptr, addrlen: Ptr);
    recvmmsg(fd: Fd, msgvec: Ptr, vlen: Int, flags: Int, timeout: Ptr);
    sendmmsg(fd: Fd, msgvec: Ptr, vlen: Int, flags: Int);
    getsockopt(fd: Fd, level: Int, optname: Int, optval: Ptr, optlen: Ptr);
    setsockopt(fd: Fd, level: Int, optname: Int, optval: Ptr, optlen: Int);

    // Events and time.
    epoll_create1(flags: Int);
    epoll_ctl(epfd: Fd, op: Int, fd: Fd, event: Ptr);
    epoll_wait(fd: Fd, events: Ptr, maxevents: Int, timeout: Int);
    epoll_pwait(fd: Fd, events: Ptr, maxevents: Int, timeout: Int, sigmask: Ptr, sigsetsize: Long);
    eventfd2(count: Int, flags: Int);
    timerfd_create(clockid: Int, flags: Int);
    timerfd_settime(fd: Fd, flags: Int, new_value: Ptr, old_value: Ptr);
    poll(fds: Ptr, nfds: Int, timeout: Int);
    clock_gettime(clockid: Int, tp: Ptr);
    clock_nanosleep(clockid: Int, flags: Int, request: Ptr, remain: Ptr);

    // Memory.
    mmap(addr: Ptr, length: Long, prot: Long, flags: Long, fd: Fd, offset: Long);
    mprotect(addr: Ptr, length: Long, prot: Long);
    mremap(addr: Ptr, old_size: Long, new_size: Long, flags: Long, new_addr: Ptr);
    madvise(addr: Ptr, length: Long, advice: Int);

    // Processes, threads, signals, confinement.
    clone(flags: Long, stack: Ptr, parent_tid: Ptr, child_tid: Ptr, tls: Long);
    futex(uaddr: Ptr, op: Int, val: Int, timeout: Ptr, uaddr2: Ptr, val3: Int);
    getrandom(buf: Ptr, buflen: Long, flags: Int);
    kill(pid: Int, sig: Int);
    tgkill(tgid: Int, tid: Int, sig: Int);
    rt_sigaction(signum: Int, act: Ptr, oldact: Ptr, sigsetsize: Long);
    rt_sigprocmask(how: Int, set: Ptr, oldset: Ptr, sigsetsize: Long);
    prctl(option: Int, arg2: Long, arg3: Long, arg4: Long, arg5: Long);
    arch_prctl(option: Int, addr: Long);
    personality(persona: Int);
    waitid(idtype: Int, id: Int, infop: Ptr, options: Int, rusage: Ptr);
    wait4(pid: Int, wstatus: Ptr, options: Int, rusage: Ptr);
    shmget(key: Int, size: Long, shmflg: Int);
    prlimit64(pid: Int, resource: Int, new_limit: Ptr, old_limit: Ptr);
    seccomp(op: Int, flags: Int, args: Ptr);
    landlock_create_ruleset(attr: Ptr, size: Long, flags: Int);
    landlock_add_rule(fd: Fd, rule_type: Int, attr: Ptr, flags: Int);
    landlock_restrict_self(fd: Fd, flags: Int);
};

/// The arguments of syscall `name`; none where they are not known.
pub(crate) fn of(name: &str) -> &'static [Arg] {
    ALL.iter()
        .find(|(known, _)| *known == name)
        .map_or(&[], |(_, args)| args)
}
