# Ring 0: as little as possible, because a KVM that interprets ring 0 is slow and
# knows few instructions. It maps all memory onto itself for user mode and goes
# there. Three privileged instructions of user mode are carried out for it when
# they fault, any other fault of user mode ends in a triple fault:
#
#   out dx, al   so that user mode reaches ports
#   hlt          for ever, interrupts off
#   sti          calls the function at RAX in ring 0 with RDI, RSI and RDX as its
#                arguments; RAX is its answer, and R8 is 0 or, where it faulted,
#                the vector + 1

.section .entry, "ax"
.globl _start
_start:
    cli
    mov rax, offset pml4
    mov cr3, rax
    mov rax, cr4
    or rax, 0x600               # OSFXSR, OSXMMEXCPT: user mode is compiled with SSE
    mov cr4, rax
    mov rsp, offset kernel_stack_end

    mov rax, offset tss         # base of the TSS, in its three parts
    mov [tss_descriptor + 2], ax
    shr rax, 16
    mov [tss_descriptor + 4], al
    mov [tss_descriptor + 7], ah
    mov rax, offset invalid_opcode
    mov [invalid_opcode_gate], ax
    shr rax, 16
    mov [invalid_opcode_gate + 6], ax
    mov rax, offset general_protection
    mov [general_protection_gate], ax
    shr rax, 16
    mov [general_protection_gate + 6], ax
    mov rax, offset page_fault
    mov [page_fault_gate], ax
    shr rax, 16
    mov [page_fault_gate + 6], ax

    lgdt [gdt_register]
    lidt [idt_register]
    mov ax, 0x28
    ltr ax
    mov ax, 0x23
    mov ds, ax
    mov es, ax

    mov rdi, rsi                # the zero page: user_main's argument
    push 0x23                   # user data
    push offset user_stack_end - 8
    push 0x2                    # flags: interrupts off, IOPL 0
    push 0x1b                   # user code
    push offset user_main
    iretq

invalid_opcode:
    test byte ptr [rsp + 8], 3
    jnz triple_fault
    mov r8d, 7
    jmp back_to_user
page_fault:
    test byte ptr [rsp + 16], 3
    jnz triple_fault
    mov r8d, 15
    jmp back_to_user
general_protection:
    add rsp, 8                  # error code
    test byte ptr [rsp + 8], 3
    jnz of_user
    mov r8d, 14
back_to_user:                   # a service has faulted: as if it had returned
    mov rsp, [service_stack]
    iretq
of_user:
    push rax
    mov rax, [rsp + 8]          # the faulting instruction
    mov al, [rax]
    cmp al, 0xee
    je 2f
    cmp al, 0xfb
    je 4f
    cmp al, 0xf4
    je 3f
.globl triple_fault
triple_fault:
    lidt [no_idt]               # no handler for the next fault, nor for that one's
    ud2
2:  pop rax
    out dx, al
    inc qword ptr [rsp]
    iretq
3:  hlt
    jmp 3b
4:  pop rax
    inc qword ptr [rsp]
    mov [service_stack], rsp
    call rax
    xor r8d, r8d
    iretq

.section .data
.balign 4096

pml4:
    .quad pdpt + 7
    .zero 4096 - 8
pdpt:
    .quad directories + 7
    .quad directories + 0x1007
    .quad directories + 0x2007
    .quad directories + 0x3007
    .zero 4096 - 32
directories:                    # 4 GiB in pages of 2 MiB: present, writable, user
    .set address, 0
    .rept 2048
    .quad address + 0x87
    .set address, address + 0x200000
    .endr

.balign 16
gdt:
    .quad 0
    .quad 0x00af9b000000ffff    # 0x08 kernel code
    .quad 0x00cf93000000ffff    # 0x10 kernel data
    .quad 0x00affb000000ffff    # 0x18 user code
    .quad 0x00cff3000000ffff    # 0x20 user data
tss_descriptor:                 # 0x28
    .quad 0x0000890000000067
    .quad 0
gdt_end:
idt:
    .zero 6 * 16
invalid_opcode_gate:            # vector 6: interrupt gate, kernel code
    .quad 0x00008e0000080000
    .quad 0
    .zero 6 * 16
general_protection_gate:        # vector 13
    .quad 0x00008e0000080000
    .quad 0
page_fault_gate:                # vector 14
    .quad 0x00008e0000080000
    .quad 0
idt_end:
tss:
    .long 0
    .quad kernel_stack_end      # RSP0
    .zero 104 - 12
service_stack:
    .quad 0


gdt_register:
    .word gdt_end - gdt - 1
    .quad gdt
idt_register:
    .word idt_end - idt - 1
    .quad idt
no_idt:
    .word 0
    .quad 0

.section .bss
.balign 16
    .zero 4096
kernel_stack_end:
    .zero 65536
user_stack_end:
