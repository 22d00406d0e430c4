//! A vCPU's thread: runs the guest, and answers what KVM cannot answer itself.

use crate::bus::Bus;
use crate::exit::Exit;
use crate::legacy::serial::Serial;
use crate::thread::Gate;
use casemate_proto::control::Ended;
use kvm_bindings::{
    KVM_INTERNAL_ERROR_EMULATION, KVM_SYSTEM_EVENT_CRASH, KVM_SYSTEM_EVENT_RESET,
    KVM_SYSTEM_EVENT_SHUTDOWN,
};
use kvm_ioctls::{VcpuExit, VcpuFd};
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};

/// Longest access that a device sees, in bytes. KVM hands over more only for
/// string input, which no device of ours has.
const MAX_ACCESS: usize = 8;

/// The guest's two address spaces that end in devices.
#[derive(Default)]
pub struct Buses {
    /// Ports.
    pub pio: Bus,
    /// Memory.
    pub mmio: Bus,
    /// The serial port once more, for the end.
    pub serial: Option<Arc<Mutex<Serial<File>>>>,
}

impl Buses {
    /// Brings out what the guest said last.
    fn finish(&self) {
        if let Some(serial) = &self.serial {
            serial
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .finish();
        }
    }
}

/// One vCPU.
pub struct Vcpu {
    number: u8,
    fd: VcpuFd,
    buses: Arc<Buses>,
    exit: Exit,
}

/// What is to be done after an exit.
enum Next {
    Run,
    End(Ended),
    InternalError,
}

impl Vcpu {
    /// vCPU `number`, set up and not yet running.
    pub fn new(number: u8, fd: VcpuFd, buses: Arc<Buses>, exit: Exit) -> Self {
        Self {
            number,
            fd,
            buses,
            exit,
        }
    }

    /// Waits at the gate, then runs the guest until the VM ends. Afterwards the
    /// thread waits for the process to end.
    pub fn run(mut self, gate: &Gate) {
        gate.wait();
        while self.exit.reason().is_none() {
            match self.step() {
                Next::Run => {}
                Next::End(why) => self.exit.request(why),
                Next::InternalError => {
                    let why = self.internal_error();
                    self.exit.request(why);
                }
            }
        }
        self.buses.finish();
        self.exit.announce();
        loop {
            std::thread::park();
        }
    }

    fn step(&mut self) -> Next {
        let exit = match self.fd.run() {
            Ok(exit) => exit,
            // EAGAIN: a vCPU that was waiting for its start-up interrupt.
            Err(e) if [libc::EINTR, libc::EAGAIN].contains(&e.errno()) => return Next::Run,
            Err(e) => {
                return Next::End(Ended::Failed {
                    message: format!("KVM cannot run vCPU {}: {e}", self.number),
                });
            }
        };
        match exit {
            VcpuExit::IoIn(port, data) if data.len() <= MAX_ACCESS => {
                self.buses.pio.read(port.into(), data);
            }
            VcpuExit::IoIn(_, data) => data.fill(0xff),
            VcpuExit::IoOut(port, data) if data.len() <= MAX_ACCESS => {
                self.buses.pio.write(port.into(), data);
            }
            VcpuExit::IoOut(..) => {}
            VcpuExit::MmioRead(address, data) => self.buses.mmio.read(address, data),
            VcpuExit::MmioWrite(address, data) => self.buses.mmio.write(address, data),
            VcpuExit::Intr | VcpuExit::Hlt | VcpuExit::IrqWindowOpen => {}
            VcpuExit::Shutdown => return Next::End(Ended::TripleFault),
            VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_RESET | KVM_SYSTEM_EVENT_SHUTDOWN, _) => {
                return Next::End(Ended::Reset);
            }
            VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_CRASH, _) => {
                return Next::End(Ended::TripleFault);
            }
            VcpuExit::InternalError => return Next::InternalError,
            other => {
                return Next::End(Ended::Failed {
                    message: format!("vCPU {} left KVM with {other:?}", self.number),
                });
            }
        }
        Next::Run
    }

    fn internal_error(&mut self) -> Ended {
        let run = self.fd.get_kvm_run();
        // SAFETY: KVM has just left with KVM_EXIT_INTERNAL_ERROR, for which it fills
        // this member; any bytes are valid for it.
        let suberror = unsafe { run.__bindgen_anon_1.internal.suberror };
        let meaning = match suberror {
            KVM_INTERNAL_ERROR_EMULATION => {
                "it met an instruction that this host's KVM cannot emulate; \
                 run `casemate doctor` to see whether this host can run a kernel"
            }
            _ => "see the host kernel's log",
        };
        Ended::Failed {
            message: format!(
                "KVM internal error on vCPU {}, suberror {suberror}: {meaning}",
                self.number
            ),
        }
    }
}
