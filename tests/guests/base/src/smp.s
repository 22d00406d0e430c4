# Where another vCPU starts: real mode at TRAMPOLINE, then long mode, then user
# mode in `other_main` on a stack of its own. It has no TSS: a fault there ends in
# a triple fault. One at a time: `smp_next` is its number.

.section .text
.globl trampoline, trampoline_end
.balign 16
.code16
trampoline:
    jmp 2f
.balign 4
    .long pml4                  # at TRAMPOLINE + 4
    .word 47                    # at TRAMPOLINE + 8: the descriptor table
    .long gdt
2:  cli
    xor ax, ax
    mov ds, ax
    lgdt [0x8008]
    mov eax, cr4
    or eax, 0x620               # PAE, OSFXSR, OSXMMEXCPT
    mov cr4, eax
    mov eax, [0x8004]
    mov cr3, eax
    mov ecx, 0xc0000080         # EFER: LME
    rdmsr
    or eax, 0x100
    wrmsr
    mov eax, cr0
    or eax, 0x80000001          # PG, PE
    mov cr0, eax
    .byte 0x66, 0xea            # far jump to 0x08:other_start
    .long other_start
    .word 0x08
trampoline_end:

.code64
other_start:
    mov ax, 0x10
    mov ss, ax
    mov ax, 0x23
    mov ds, ax
    mov es, ax
    mov rdi, [smp_next]
    mov rax, rdi
    shl rax, 14
    add rax, offset smp_stacks
    mov rsp, rax                # ring 0's stack, used up to iretq only
    mov rcx, rax
    sub rcx, 0x1008             # user mode's, a page below
    push 0x23
    push rcx
    push 0x2
    push 0x1b
    push offset other_main
    iretq

.section .bss
.balign 16
smp_stacks:
    .zero 4 * 16384
.globl smp_next
smp_next:
    .zero 8
