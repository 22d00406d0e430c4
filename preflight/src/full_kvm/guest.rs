//! The guest: page tables, descriptor tables and a few instructions.
//!
//! Guest-physical layout (all of it identity-mapped by one 2 MiB page):
//!
//! | address | what |
//! |---|---|
//! | `0x1000` | PML4, then PDPT and page directory |
//! | `0x4000` | IDT |
//! | `0x5000` | GDT |
//! | `0x6000` | TSS, empty |
//! | `0x8000` | the instructions |
//! | `0xa000` | the handler of vector 3 |
//! | `0xb000` | 16 bytes for `cmpxchg16b` |
//! | `0xc000` | an XSAVE area, empty |
//! | `0x10000` | end; the stack grows down from here |

use kvm_bindings::{CpuId, kvm_regs, kvm_segment, kvm_userspace_memory_region};
use kvm_ioctls::{VcpuFd, VmFd};

const SIZE: usize = 0x10000;
const PML4: usize = 0x1000;
const PDPT: usize = 0x2000;
const DIRECTORY: usize = 0x3000;
const IDT: usize = 0x4000;
const GDT: usize = 0x5000;
const TSS: usize = 0x6000;
const CODE: usize = 0x8000;
const HANDLER: usize = 0xa000;
const OPERAND: usize = 0xb000;
const XSAVE_AREA: usize = 0xc000;

/// What `cmpxchg16b` stores (`rcx:rbx`).
const PATTERN: [u64; 2] = [0x5ca1_ab1e_0ddb_a115, 0x0b5e_55ed_c0de_d00d];

/// One instruction of the guest.
pub struct Step {
    /// As an assembler calls it.
    pub name: &'static str,
    bytes: &'static [u8],
    /// Whether CPUID must show XSAVE.
    xsave: bool,
}

/// The instructions, in order; `hlt` follows.
pub const STEPS: [Step; 3] = [
    Step {
        name: "int3",
        bytes: &[0xcc],
        xsave: false,
    },
    Step {
        name: "cmpxchg16b",
        bytes: &[0x48, 0x0f, 0xc7, 0x0f], // cmpxchg16b [rdi]
        xsave: false,
    },
    Step {
        name: "xrstor",
        bytes: &[0x0f, 0xae, 0x2e], // xrstor [rsi]
        xsave: true,
    },
];

const HLT: u8 = 0xf4;
/// `inc r8; iretq`
const HANDLER_CODE: [u8; 5] = [0x49, 0xff, 0xc0, 0x48, 0xcf];

/// Guest memory. KVM reads and writes it behind the compiler's back, so it is
/// only touched through the raw pointer once the VM knows of it.
#[repr(C, align(4096))]
struct Memory([u8; SIZE]);

struct Owned(*mut Memory);

// SAFETY: the pointer is the only one to its allocation, and moves with its owner.
unsafe impl Send for Owned {}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: made by Box::into_raw in `Guest::build`, freed once, here.
        drop(unsafe { Box::from_raw(self.0) });
    }
}

/// The VM, ready to run. Fields are dropped in order: the memory goes last.
pub struct Guest {
    /// Its only vCPU.
    pub vcpu: VcpuFd,
    _vm: VmFd,
    memory: Owned,
    xsave: bool,
}

impl Guest {
    /// Builds it in `vm`; an error says which ioctl failed and why.
    pub fn build(vm: VmFd, cpuid: &CpuId) -> Result<Self, String> {
        let failed = |call: &'static str| move |e| format!("{call} failed ({e})");
        let xsave = cpuid
            .as_slice()
            .iter()
            .any(|leaf| leaf.function == 1 && leaf.ecx & (1 << 26) != 0);
        let memory = Owned(Box::into_raw(Box::new(image(xsave))));
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: 0,
            memory_size: SIZE as u64,
            userspace_addr: memory.0 as u64,
        };
        // SAFETY: the region is page-aligned, of SIZE bytes, and freed only after
        // the VM is gone (order of the fields); Rust reads it by volatile loads only.
        unsafe { vm.set_user_memory_region(region) }
            .map_err(failed("KVM_SET_USER_MEMORY_REGION"))?;
        let mut vcpu = vm.create_vcpu(0).map_err(failed("KVM_CREATE_VCPU"))?;
        vcpu.set_cpuid2(cpuid).map_err(failed("KVM_SET_CPUID2"))?;
        long_mode(&mut vcpu, xsave)?;
        vcpu.set_regs(&kvm_regs {
            rip: CODE as u64,
            rsp: SIZE as u64,
            rdi: OPERAND as u64,
            rsi: XSAVE_AREA as u64,
            rbx: PATTERN[0],
            rcx: PATTERN[1],
            rflags: 2,
            ..kvm_regs::default()
        })
        .map_err(failed("KVM_SET_REGS"))?;
        Ok(Self {
            vcpu,
            _vm: vm,
            memory,
            xsave,
        })
    }

    /// Whether this step is part of the guest.
    pub fn has(&self, step: &Step) -> bool {
        self.xsave || !step.xsave
    }

    /// The instruction that the vCPU stands at.
    pub fn instruction(&self) -> &'static str {
        let Ok(regs) = self.vcpu.get_regs() else {
            return "an unknown instruction";
        };
        if (HANDLER as u64..(HANDLER + HANDLER_CODE.len()) as u64).contains(&regs.rip) {
            return "iretq";
        }
        let mut at = CODE as u64;
        for step in STEPS.iter().filter(|step| self.has(step)) {
            if regs.rip == at {
                return step.name;
            }
            at += step.bytes.len() as u64;
        }
        "hlt"
    }

    /// After `hlt`: the first instruction that did not do what it should.
    pub fn wrong_result(&self) -> Option<&'static str> {
        if self.vcpu.get_regs().map(|regs| regs.r8) != Ok(1) {
            return Some("int3");
        }
        (0..PATTERN.len())
            .any(|n| self.load(OPERAND + 8 * n) != PATTERN[n])
            .then_some("cmpxchg16b")
    }

    fn load(&self, address: usize) -> u64 {
        // SAFETY: `address` is one of the constants above, aligned and inside of SIZE.
        unsafe {
            self.memory
                .0
                .byte_add(address)
                .cast::<u64>()
                .read_volatile()
        }
    }
}

fn image(xsave: bool) -> Memory {
    const PRESENT_WRITABLE: u64 = 0b11;
    const HUGE: u64 = 1 << 7;
    let mut memory = Memory([0; SIZE]);
    let mut put = |at: usize, bytes: &[u8]| memory.0[at..at + bytes.len()].copy_from_slice(bytes);
    put(PML4, &(PDPT as u64 | PRESENT_WRITABLE).to_le_bytes());
    put(PDPT, &(DIRECTORY as u64 | PRESENT_WRITABLE).to_le_bytes());
    put(DIRECTORY, &(PRESENT_WRITABLE | HUGE).to_le_bytes());
    // Intel SDM vol. 3, 7.14.1: a 64-bit interrupt gate, present, DPL 0.
    let gate = (HANDLER as u64 & 0xffff)
        | u64::from(CODE_SELECTOR) << 16
        | 0x8e00 << 32
        | (HANDLER as u64 >> 16) << 48;
    put(IDT + 3 * 16, &gate.to_le_bytes());
    put(GDT + 8, &0x00af_9b00_0000_ffff_u64.to_le_bytes());
    put(GDT + 16, &0x00cf_9300_0000_ffff_u64.to_le_bytes());
    let mut at = CODE;
    for step in STEPS.iter().filter(|step| xsave || !step.xsave) {
        put(at, step.bytes);
        at += step.bytes.len();
    }
    put(at, &[HLT]);
    put(HANDLER, &HANDLER_CODE);
    memory
}

const CODE_SELECTOR: u16 = 8;
const DATA_SELECTOR: u16 = 16;

/// 64-bit mode, ring 0 (Intel SDM vol. 3, 11.8.5), by setting the registers.
fn long_mode(vcpu: &mut VcpuFd, xsave: bool) -> Result<(), String> {
    const CR0: u64 = 1 | 1 << 1 | 1 << 4 | 1 << 5 | 1 << 16 | 1 << 31; // PE MP ET NE WP PG
    const CR4: u64 = 1 << 5 | 1 << 9 | 1 << 10; // PAE OSFXSR OSXMMEXCPT
    const CR4_OSXSAVE: u64 = 1 << 18;
    const EFER: u64 = 1 << 8 | 1 << 10; // LME LMA
    let mut sregs = vcpu
        .get_sregs()
        .map_err(|e| format!("KVM_GET_SREGS failed ({e})"))?;
    let flat = kvm_segment {
        limit: 0xffff_ffff,
        selector: DATA_SELECTOR,
        type_: 3, // read, write, accessed
        present: 1,
        db: 1,
        s: 1,
        g: 1,
        ..kvm_segment::default()
    };
    sregs.cs = kvm_segment {
        selector: CODE_SELECTOR,
        type_: 11, // execute, read, accessed
        db: 0,
        l: 1,
        ..flat
    };
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (flat, flat, flat, flat, flat);
    sregs.tr = kvm_segment {
        base: TSS as u64,
        limit: 0x67,
        type_: 11, // busy 64-bit TSS
        present: 1,
        ..kvm_segment::default()
    };
    (sregs.gdt.base, sregs.gdt.limit) = (GDT as u64, 3 * 8 - 1);
    (sregs.idt.base, sregs.idt.limit) = (IDT as u64, 4 * 16 - 1);
    sregs.cr0 = CR0;
    sregs.cr3 = PML4 as u64;
    sregs.cr4 = if xsave { CR4 | CR4_OSXSAVE } else { CR4 };
    sregs.efer = EFER;
    vcpu.set_sregs(&sregs)
        .map_err(|e| format!("KVM_SET_SREGS failed ({e})"))
}
