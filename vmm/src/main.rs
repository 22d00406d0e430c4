//! The unprivileged virtual machine monitor; see the library for what it is made of.

fn main() {
    casemate_vmm::process::limit_heaps();
    let status = casemate_vmm::session::run();
    // Not `exit`: nothing of the VM is taken apart, the kernel frees it at once.
    // SAFETY: ends the process; takes no pointer.
    unsafe { libc::_exit(status) }
}
