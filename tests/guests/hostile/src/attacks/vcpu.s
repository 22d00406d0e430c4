# Instructions of ring 0 that no kernel would issue so, one a function. Arguments as
# in the System V ABI.

.section .text
.globl bad_cr0, bad_cr3, bad_cr4, bad_cr8, bad_xsetbv, bad_int3, bad_cmpxchg16b
.globl bad_xrstor, bad_vmcall, bad_vmrun, bad_vmxon, bad_rdpmc, bad_mwait, bad_dr7
.globl bad_ud2, bad_invd, bad_sysret, bad_far_call, bad_ltr, bad_lgdt, bad_monitor
.globl bad_wrpkru, bad_smi, bad_task_switch, bad_invlpg, bad_loop, bad_cpuid
.globl bad_page_tables, bad_mov_to_cs, bad_int_nothing, bad_sti_halt
bad_cr0:
    mov cr0, rdi
    ret
bad_cr3:
    mov rax, cr3
    mov cr3, rdi
    mov cr3, rax
    ret
bad_cr4:
    mov rax, cr4
    mov cr4, rdi
    mov cr4, rax
    ret
bad_cr8:
    mov cr8, rdi
    mov rax, cr8
    ret
bad_xsetbv:
    mov ecx, edi
    mov eax, esi
    mov edx, 0xffffffff
    xsetbv
    ret
bad_int3:
    int3
    ret
bad_cmpxchg16b:
    xor eax, eax
    xor edx, edx
    cmpxchg16b [rdi]
    ret
bad_xrstor:
    mov eax, 0xffffffff
    mov edx, eax
    xrstor [rdi]
    ret
bad_vmcall:
    mov rax, rdi
    mov r9, rbx
    mov rbx, -1
    mov rcx, -1
    mov rdx, -1
    vmcall
    mov rbx, r9
    ret
bad_vmrun:
    mov rax, rdi
    vmrun
    ret
bad_vmxon:
    vmxon [rdi]
    ret
bad_rdpmc:
    mov ecx, edi
    rdpmc
    ret
bad_monitor:
    mov rax, rdi
    mov rcx, -1
    mov rdx, -1
    monitor
    ret
bad_mwait:
    mov rax, -1
    mov rcx, -1
    mwait
    ret
bad_dr7:
    mov dr7, rdi
    ret
bad_ud2:
    ud2
    ret
bad_invd:
    invd
    wbinvd
    ret
bad_sysret:
    mov rcx, rdi
    sysretq
    ret
bad_far_call:
    push 0x4b                   # a selector beyond the table
    push rdi
    retfq
    ret
bad_ltr:
    mov eax, edi
    ltr ax
    ret
bad_lgdt:
    lgdt [rdi]
    mov ax, 0x10
    mov ss, ax
    ret
bad_wrpkru:
    xor ecx, ecx
    xor edx, edx
    mov eax, -1
    wrpkru
    ret
bad_smi:
    mov edx, 0xb2
    mov eax, 1
    out dx, al
    ret
bad_task_switch:
    int 5
    ret
bad_invlpg:
    mov rcx, 1000
2:  invlpg [rdi]
    add rdi, 0x200000
    dec rcx
    jnz 2b
    ret
bad_loop:
    mov rcx, rdi
2:  dec rcx
    jnz 2b
    ret
bad_cpuid:
    mov r9, rbx
    mov eax, edi
    mov ecx, esi
    cpuid
    mov rbx, r9
    ret
bad_page_tables:
    mov cr3, rdi                # and never back
    mov rax, [rdi]
    ret
bad_mov_to_cs:
    .byte 0x8e, 0xc8            # mov cs, ax
    ret
bad_int_nothing:
    int 200
    ret
bad_sti_halt:
    sti
    hlt
    ret
