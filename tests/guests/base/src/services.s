# What user mode has done in ring 0, one instruction a function (see entry.s).
# Arguments as in the System V ABI: RDI, RSI, RDX.

.section .text
.globl ring0_in8, ring0_in16, ring0_in32, ring0_out8, ring0_out16, ring0_out32
ring0_in8:
    mov edx, edi
    xor eax, eax
    in al, dx
    ret
ring0_in16:
    mov edx, edi
    xor eax, eax
    in ax, dx
    ret
ring0_in32:
    mov edx, edi
    in eax, dx
    ret
ring0_out8:
    mov edx, edi
    mov eax, esi
    out dx, al
    ret
ring0_out16:
    mov edx, edi
    mov eax, esi
    out dx, ax
    ret
ring0_out32:
    mov edx, edi
    mov eax, esi
    out dx, eax
    ret

.globl ring0_ins8, ring0_outs8, ring0_outs32
ring0_ins8:                     # port, to, count
    mov rcx, rdx
    mov edx, edi
    mov rdi, rsi
    rep insb
    ret
ring0_outs8:                    # port, from, count
    mov rcx, rdx
    mov edx, edi
    rep outsb
    ret
ring0_outs32:
    mov rcx, rdx
    mov edx, edi
    rep outsd
    ret

.globl ring0_rdmsr, ring0_wrmsr
ring0_rdmsr:
    mov ecx, edi
    rdmsr
    shl rdx, 32
    or rax, rdx
    ret
ring0_wrmsr:
    mov ecx, edi
    mov rax, rsi
    mov rdx, rsi
    shr rdx, 32
    wrmsr
    ret
