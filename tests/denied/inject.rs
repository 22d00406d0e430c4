//! A system call made by a thread of another process, at a debugger's word (ptrace(2)).

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::ptr;

/// How the call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It returned this.
    Returned(i64),
    /// A signal killed the thread.
    Killed(i32),
}

/// `syscall`, in machine code.
const SYSCALL: [u8; 2] = [0x0f, 0x05];
/// What a stop at a system call looks like with `PTRACE_O_TRACESYSGOOD`.
const AT_CALL: i32 = libc::SIGTRAP | 0x80;

fn ptrace(request: libc::c_uint, tid: i32, address: usize, data: usize) -> io::Result<()> {
    // SAFETY: requests that write to our memory get a pointer to enough of it by the callers.
    match unsafe { libc::ptrace(request, tid, address, data) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

fn registers(tid: i32) -> libc::user_regs_struct {
    // SAFETY: a structure of numbers.
    let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
    let data = ptr::from_mut(&mut registers) as usize;
    ptrace(libc::PTRACE_GETREGS, tid, 0, data).expect("registers");
    registers
}

/// Waits for the next stop or the end.
fn status(tid: i32) -> i32 {
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    let waited = unsafe { libc::waitpid(tid, &mut status, libc::__WALL) };
    assert_eq!(waited, tid, "{}", io::Error::last_os_error());
    status
}

fn sigsys_pending(tid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{tid}/status")).expect("its status");
    let pending = status.lines().find_map(|line| line.strip_prefix("SigPnd:"));
    let pending = u64::from_str_radix(pending.expect("a line").trim(), 16).expect("hex");
    pending & 1 << (libc::SIGSYS - 1) != 0
}

/// Where in the thread's executable memory a `syscall` instruction stands.
fn instruction(tid: i32) -> u64 {
    let memory = File::open(format!("/proc/{tid}/mem")).expect("its memory");
    let maps = fs::read_to_string(format!("/proc/{tid}/maps")).expect("its maps");
    for line in maps.lines().filter(|line| line.contains("r-xp")) {
        let range = line.split(' ').next().unwrap_or_default();
        let Some((from, to)) = range.split_once('-') else {
            continue;
        };
        let [from, to] = [from, to].map(|text| u64::from_str_radix(text, 16).expect("hex"));
        let mut bytes = vec![0; (to - from) as usize];
        if memory.read_exact_at(&mut bytes, from).is_err() {
            continue;
        }
        if let Some(at) = bytes.windows(2).position(|pair| pair == SYSCALL) {
            return from + at as u64;
        }
    }
    panic!("no syscall instruction in thread {tid}");
}

/// The registers with which a thread begins the wait again in which it was interrupted, as
/// the kernel would have set them (ERESTARTSYS and its like, 512 to 516).
fn restarted(mut registers: libc::user_regs_struct) -> libc::user_regs_struct {
    let answer = registers.rax as i64;
    if (-516..=-512).contains(&answer) && registers.orig_rax != u64::MAX {
        registers.rip -= SYSCALL.len() as u64;
        registers.rax = match answer {
            -516 => libc::SYS_restart_syscall as u64,
            _ => registers.orig_rax,
        };
    }
    registers.orig_rax = u64::MAX;
    registers
}

/// Makes the call in the thread. A thread that survives goes on as if nothing had been.
pub fn inject(tid: i32, number: i64, args: [u64; 3]) -> Outcome {
    let options = libc::PTRACE_O_TRACESYSGOOD as usize;
    ptrace(libc::PTRACE_SEIZE, tid, 0, options).expect("seized");
    ptrace(libc::PTRACE_INTERRUPT, tid, 0, 0).expect("interrupted");
    status(tid);
    let before = registers(tid);
    let mut call = before;
    call.rip = instruction(tid);
    call.rax = number as u64;
    // In no call any more, so that none is restarted.
    call.orig_rax = u64::MAX;
    (call.rdi, call.rsi, call.rdx) = (args[0], args[1], args[2]);
    (call.r10, call.r8, call.r9) = (0, 0, 0);
    set(tid, &call);
    let mut stops = 0;
    let mut deliver = 0;
    loop {
        if ptrace(libc::PTRACE_SYSCALL, tid, 0, deliver).is_err() {
            // It died under us; its status is there to be had.
        }
        let status = status(tid);
        if libc::WIFSIGNALED(status) {
            return Outcome::Killed(libc::WTERMSIG(status));
        }
        assert!(libc::WIFSTOPPED(status), "thread {tid}: {status:#x}");
        deliver = 0;
        match libc::WSTOPSIG(status) {
            AT_CALL => stops += 1,
            libc::SIGTRAP => {}
            signal => deliver = signal as usize,
        }
        // On the way in, and on the way out, where a refused call has its signal pending.
        if stops == 2 && !sigsys_pending(tid) {
            let result = registers(tid).rax as i64;
            set(tid, &restarted(before));
            ptrace(libc::PTRACE_DETACH, tid, 0, 0).expect("detached");
            return Outcome::Returned(result);
        }
    }
}

fn set(tid: i32, registers: &libc::user_regs_struct) {
    let data = ptr::from_ref(registers) as usize;
    ptrace(libc::PTRACE_SETREGS, tid, 0, data).expect("registers set");
}
