# Control transfer between the runtime and guests; see ../arch.rs for the table and the reasons. Intel syntax; names in
# braces are operands of the `global_asm!` there.

.text
.balign 4096
.globl baton_asm_begin
baton_asm_begin:
# ---- gates: one entry each, 16 bytes apart -------------------------------------------------------------------
.balign 16
.globl baton_gates
baton_gates:
.balign 16
    mov r9d, 0
    jmp 10f
.balign 16
    mov r9d, 1
    jmp 10f
.balign 16
    mov r9d, 2
    jmp 10f
.balign 16
    mov r9d, 3
    jmp 10f
.balign 16
    mov r9d, 4
    jmp 10f
.balign 16
    mov r9d, 5
    jmp 10f
.balign 16
    mov r9d, 6
    jmp 10f
.balign 16
    mov r9d, 7
    jmp 10f
.balign 16
    mov r9d, 8
    jmp 10f
.balign 16
    mov r9d, 9
    jmp 10f
.balign 16
    mov r9d, 10
    jmp 10f
.balign 16
    mov r9d, 11
    jmp 10f
.balign 16
    mov r9d, 12
    jmp 10f
.balign 16
10:
    mov r8, rdx
    xor eax, eax
    xor ecx, ecx
    xor edx, edx
    wrpkru
    test eax, eax
    jnz {violation}
    cmp byte ptr [rip + {share} + {selector}], {block}
    jne {violation}
    mov byte ptr [rip + {share} + {selector}], 0
    mov r10, [rip + {core} + {core_context}]
    mov [r10 + {c_rsp}], rsp
    mov rsp, [rip + {core} + {core_host_rsp}]
# A guest may have set the direction, alignment or trap flag: the runtime must not run with them.
    pushfq
    pop rax
    test eax, 0x44500
    jz 11f
    push 0x202
    popfq
11:
    mov [r10 + {c_rbx}], rbx
    mov [r10 + {c_rbp}], rbp
    mov [r10 + {c_r12}], r12
    mov [r10 + {c_r13}], r13
    mov [r10 + {c_r14}], r14
    mov [r10 + {c_r15}], r15
    mov qword ptr [r10 + {c_full}], 0
    stmxcsr [r10 + {c_mxcsr}]
    mov rax, [rip + {core} + {core_host_fs}]
    wrfsbase rax
    mov rdx, r8
    mov ecx, r9d
    xor ebp, ebp
    call {dispatch}
    test edx, edx
    jnz 30f
    mov r10, [rip + {core} + {core_context}]
    mov [r10 + {c_rax}], rax
    xor r11d, r11d
# ---- back to a guest that a gate left (r10: its context; r11: whether the runtime enters it) -------------------
20:
    mov rax, [r10 + {c_fs}]
    wrfsbase rax
    cmp qword ptr [rip + {core} + {core_vectors}], 1
    jb 22f
# Written out: each of these also clears what lies above its 128 bits, and costs a fifth of `vzeroall`.
    vpxor xmm0, xmm0, xmm0
    vpxor xmm1, xmm1, xmm1
    vpxor xmm2, xmm2, xmm2
    vpxor xmm3, xmm3, xmm3
    vpxor xmm4, xmm4, xmm4
    vpxor xmm5, xmm5, xmm5
    vpxor xmm6, xmm6, xmm6
    vpxor xmm7, xmm7, xmm7
    vpxor xmm8, xmm8, xmm8
    vpxor xmm9, xmm9, xmm9
    vpxor xmm10, xmm10, xmm10
    vpxor xmm11, xmm11, xmm11
    vpxor xmm12, xmm12, xmm12
    vpxor xmm13, xmm13, xmm13
    vpxor xmm14, xmm14, xmm14
    vpxor xmm15, xmm15, xmm15
    vzeroupper
    je 23f
    vpxorq zmm16, zmm16, zmm16
    vpxorq zmm17, zmm17, zmm17
    vpxorq zmm18, zmm18, zmm18
    vpxorq zmm19, zmm19, zmm19
    vpxorq zmm20, zmm20, zmm20
    vpxorq zmm21, zmm21, zmm21
    vpxorq zmm22, zmm22, zmm22
    vpxorq zmm23, zmm23, zmm23
    vpxorq zmm24, zmm24, zmm24
    vpxorq zmm25, zmm25, zmm25
    vpxorq zmm26, zmm26, zmm26
    vpxorq zmm27, zmm27, zmm27
    vpxorq zmm28, zmm28, zmm28
    vpxorq zmm29, zmm29, zmm29
    vpxorq zmm30, zmm30, zmm30
    vpxorq zmm31, zmm31, zmm31
    kxorw k0, k0, k0
    kxorw k1, k1, k1
    kxorw k2, k2, k2
    kxorw k3, k3, k3
    kxorw k4, k4, k4
    kxorw k5, k5, k5
    kxorw k6, k6, k6
    kxorw k7, k7, k7
    jmp 23f
22:
    xorps xmm0, xmm0
    xorps xmm1, xmm1
    xorps xmm2, xmm2
    xorps xmm3, xmm3
    xorps xmm4, xmm4
    xorps xmm5, xmm5
    xorps xmm6, xmm6
    xorps xmm7, xmm7
    xorps xmm8, xmm8
    xorps xmm9, xmm9
    xorps xmm10, xmm10
    xorps xmm11, xmm11
    xorps xmm12, xmm12
    xorps xmm13, xmm13
    xorps xmm14, xmm14
    xorps xmm15, xmm15
23:
# Mostly it is as it should be, and to look costs less than to set it. Below the stack pointer nobody writes: signals have a
# stack of their own.
    stmxcsr [rsp - 8]
    mov eax, [r10 + {c_mxcsr}]
    cmp eax, [rsp - 8]
    je 24f
    ldmxcsr [r10 + {c_mxcsr}]
24:
    mov rbx, [r10 + {c_rbx}]
    mov rbp, [r10 + {c_rbp}]
    mov r12, [r10 + {c_r12}]
    mov r13, [r10 + {c_r13}]
    mov r14, [r10 + {c_r14}]
    mov r15, [r10 + {c_r15}]
    mov r8, [r10 + {c_rax}]
    mov rsp, [r10 + {c_rsp}]
    mov eax, [r10 + {c_pkru}]
    mov byte ptr [rip + {share} + {selector}], {block}
    xor ecx, ecx
    xor edx, edx
    wrpkru
    cmp eax, dword ptr [rip + {share} + {share_pkru}]
    jne {violation}
    mov rax, r8
    xor esi, esi
    xor edi, edi
    xor r8d, r8d
    xor r9d, r9d
    xor r10d, r10d
    test r11d, r11d
    jnz 25f
    ret
# Entered: the processor expects the return of somebody else.
25:
    pop r11
    jmp r11
# ---- enter(context: rdi) -------------------------------------------------------------------------------------
.balign 16
.globl baton_enter
baton_enter:
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    sub rsp, 8
    mov [rip + {core} + {core_host_rsp}], rsp
    mov r10, rdi
    mov r15, [r10 + {c_full}]
    test r15, r15
    jnz 40f
    mov r11d, 1
    jmp 20b
# ---- leave: enter returns rax --------------------------------------------------------------------------------
30:
    mov rsp, [rip + {core} + {core_host_rsp}]
    jmp 32f
# The same from a handler: the signal stack is free again.
31:
    mov rsp, [rip + {core} + {core_host_rsp}]
    mov rbx, rax
    lea rdi, [rip + {alternate}]
    xor esi, esi
    mov eax, {sigaltstack}
    syscall
    mov rax, rbx
32:
    add rsp, 8
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret
# ---- signals -------------------------------------------------------------------------------------------------
.balign 16
.globl baton_trap
baton_trap:
# The kernel comes here with rights that no guest has: everything but key 0 closed. A tick that came between a signal
# and these instructions comes back with the runtime's. A guest that jumps here has its own.
    xor ecx, ecx
    rdpkru
    test eax, eax
    jz 39f
    cmp eax, {signal_pkru}
    jne {violation}
39:
    xor eax, eax
    xor ecx, ecx
    xor edx, edx
    wrpkru
.globl baton_trap_open
baton_trap_open:
    test eax, eax
    jnz {violation}
# Above the first frame a handler would write over it; far below there is no room for one.
    mov rdi, rsp
    cmp rdi, [rip + {core} + {core_frame_at}]
    ja {violation}
    lea rax, [rip + {stack} + {handler_bytes}]
    cmp rdi, rax
    jb {violation}
    push 0x202
    popfq
    movzx esi, byte ptr [rip + {share} + {selector}]
    mov byte ptr [rip + {share} + {selector}], 0
    rdfsbase rdx
    mov rax, [rip + {core} + {core_host_fs}]
    wrfsbase rax
    and rsp, -16
    xor ebp, ebp
    call {on_trap}
    cmp edx, 1
    je 31b
    ja 50f
    mov r14d, 1
    jmp 41f
# ---- back to a guest with all its registers; r14: whether that is from a handler -----------------------------
40:
    xor r14d, r14d
41:
    lea r15, [rip + {guest_full}]
    mov rcx, [r15 + {f_xsave}]
    mov rax, [r15 + {f_mask}]
    mov rdx, rax
    shr rdx, 32
    xrstor64 [rcx]
    test eax, 0x200
    jnz {violation}
    mov rax, [r15 + {f_fs}]
    wrfsbase rax
# What lay in the frame is in the registers: the signal stack is free again.
    test r14d, r14d
    jz 42f
    lea rdi, [rip + {alternate}]
    xor esi, esi
    mov eax, {sigaltstack}
    syscall
42:
.globl baton_resume_begin
baton_resume_begin:
    mov rax, [r15 + {f_rax}]
    mov [rip + {share} + {s_rax}], rax
    mov rax, [r15 + {f_rdx}]
    mov [rip + {share} + {s_rdx}], rax
    mov rax, [r15 + {f_rcx}]
    mov [rip + {share} + {s_rcx}], rax
    mov rax, [r15 + {f_rflags}]
    mov [rip + {share} + {s_rflags}], rax
    mov rax, [r15 + {f_rsp}]
    mov [rip + {share} + {s_rsp}], rax
    mov rax, [r15 + {f_rip}]
    mov [rip + {share} + {s_rip}], rax
    mov rbx, [r15 + {f_rbx}]
    mov rsi, [r15 + {f_rsi}]
    mov rdi, [r15 + {f_rdi}]
    mov rbp, [r15 + {f_rbp}]
    mov r8, [r15 + {f_r8}]
    mov r9, [r15 + {f_r9}]
    mov r10, [r15 + {f_r10}]
    mov r11, [r15 + {f_r11}]
    mov r12, [r15 + {f_r12}]
    mov r13, [r15 + {f_r13}]
    mov r14, [r15 + {f_r14}]
    mov eax, [r15 + {f_pkru}]
    mov r15, [r15 + {f_r15}]
    mov byte ptr [rip + {share} + {selector}], {block}
    xor ecx, ecx
    xor edx, edx
    wrpkru
    cmp eax, dword ptr [rip + {share} + {share_pkru}]
    jne {violation}
    lea rsp, [rip + {share} + {s_rax}]
    pop rax
    pop rdx
    pop rcx
    popfq
    mov rsp, [rip + {share} + {s_rsp}]
    jmp qword ptr [rip + {share} + {s_rip}]
.globl baton_resume_end
baton_resume_end:
# ---- back into the runtime after a tick: PKRU is 0 and stays so -----------------------------------------------
50:
    cmp edx, 3
    je 55f
    mov r14, rax
    lea r15, [rip + {host_full}]
    mov rcx, [r15 + {f_xsave}]
    mov rax, [r15 + {f_mask}]
    mov rdx, rax
    shr rdx, 32
    xrstor64 [rcx]
    test eax, 0x200
    jnz {violation}
    mov rax, [r15 + {f_fs}]
    wrfsbase rax
    test r14d, r14d
    jz 51f
    lea rdi, [rip + {alternate}]
    xor esi, esi
    mov eax, {sigaltstack}
    syscall
51:
    mov rax, [r15 + {f_rax}]
    mov [rip + {core} + {h_rax}], rax
    mov rax, [r15 + {f_rsp}]
    mov [rip + {core} + {h_rsp}], rax
    mov rax, [r15 + {f_rip}]
    mov [rip + {core} + {h_rip}], rax
    mov rbx, [r15 + {f_rbx}]
    mov rcx, [r15 + {f_rcx}]
    mov rdx, [r15 + {f_rdx}]
    mov rsi, [r15 + {f_rsi}]
    mov rdi, [r15 + {f_rdi}]
    mov rbp, [r15 + {f_rbp}]
    mov r8, [r15 + {f_r8}]
    mov r9, [r15 + {f_r9}]
    mov r10, [r15 + {f_r10}]
    mov r11, [r15 + {f_r11}]
    mov r12, [r15 + {f_r12}]
    mov r13, [r15 + {f_r13}]
    mov r14, [r15 + {f_r14}]
    mov al, byte ptr [r15 + {f_selector}]
    mov byte ptr [rip + {share} + {selector}], al
    lea rsp, [r15 + {f_rflags}]
    popfq
    mov rsp, [rip + {core} + {h_rsp}]
    mov r15, [r15 + {f_r15}]
    mov rax, [rip + {core} + {h_rax}]
    jmp qword ptr [rip + {core} + {h_rip}]
# The usual case, the selector being at *allow*: the kernel's own way back. A guest that jumps here traps.
55:
    lea rsp, [rax + 8]
    mov eax, 15
    syscall
    ud2
# ---- whoever comes here lied about a key ----------------------------------------------------------------------
.balign 16
.globl baton_violation
baton_violation:
    ud2
# ---- x87 registers back to what a new process has: only XRSTOR makes the processor forget that they were in use ----
.balign 16
.globl baton_clean_x87
baton_clean_x87:
    lea rcx, [rip + {clean}]
    mov eax, 1
    xor edx, edx
    xrstor64 [rcx]
    test eax, 0x200
    jnz {violation}
    ret
# ---- copies that may meet a page that is not there: copy(to: rdi, from: rsi, len: rdx) ------------------------
.macro four_words at
    mov rcx, [rsi + \at + 0]
    mov r8, [rsi + \at + 8]
    mov r9, [rsi + \at + 16]
    mov r10, [rsi + \at + 24]
    mov [rdi + \at + 0], rcx
    mov [rdi + \at + 8], r8
    mov [rdi + \at + 16], r9
    mov [rdi + \at + 24], r10
.endm
.balign 16
# The same, whole lines of 64 bytes: so many as rdx says, one at least.
.globl baton_copy_lines
baton_copy_lines:
    four_words 0
    four_words 32
    add rsi, 64
    add rdi, 64
    dec rdx
    jnz baton_copy_lines
    xor eax, eax
    ret
.balign 16
# One line, from a guest that has just passed a gate: what it wrote is in memory by then, and may be read in pairs of words. Changes
# nothing but rax and xmm0 to xmm3.
.globl baton_copy_line
baton_copy_line:
    movups xmm0, [rsi]
    movups xmm1, [rsi + 16]
    movups xmm2, [rsi + 32]
    movups xmm3, [rsi + 48]
    movups [rdi], xmm0
    movups [rdi + 16], xmm1
    movups [rdi + 32], xmm2
    movups [rdi + 48], xmm3
    xor eax, eax
    ret
.balign 16
# A parcel that carries a few bytes at most, to rdi. Words 0, 1, 2, 4 and 5 are in rax, rcx, rdx, r8 and r9, rights and sender in
# r10. Its line of payload is at rsi, so many bytes of it as word 5 says, and zeros behind them; or there is none if rsi is 0.
# Changes nothing but rax, r11 and xmm0 to xmm3.
.globl baton_write_plain
baton_write_plain:
    mov [rdi], rax
    mov [rdi + 8], rcx
    mov [rdi + 16], rdx
    mov eax, {none}
    mov [rdi + 24], rax
    mov [rdi + 32], r8
    mov [rdi + 40], r9
    mov [rdi + 48], rax
    mov qword ptr [rdi + 56], 0
    xorps xmm0, xmm0
    movups [rdi + 64], xmm0
    movups [rdi + 80], xmm0
    mov [rdi + 96], r10
    mov qword ptr [rdi + 104], 0
    movups [rdi + 112], xmm0
    test rsi, rsi
    jz 68f
    cmp r9, {line}
    jne 69f
    movups xmm0, [rsi]
    movups xmm1, [rsi + 16]
    movups xmm2, [rsi + 32]
    movups xmm3, [rsi + 48]
    movups [rdi + 128], xmm0
    movups [rdi + 144], xmm1
    movups [rdi + 160], xmm2
    movups [rdi + 176], xmm3
68:
    xor eax, eax
    ret
69:
    movups [rdi + 128], xmm0
    movups [rdi + 144], xmm0
    movups [rdi + 160], xmm0
    movups [rdi + 176], xmm0
    mov eax, 8
70:
    cmp rax, r9
    ja 71f
    mov r11, [rsi + rax - 8]
    mov [rdi + rax + 120], r11
    add rax, 8
    jmp 70b
71:
    sub rax, 8
72:
    cmp rax, r9
    jae 68b
    mov r11b, [rsi + rax]
    mov [rdi + rax + 128], r11b
    inc rax
    jmp 72b
.balign 16
# The same, one word.
.globl baton_copy_word
baton_copy_word:
    mov rcx, [rsi]
    mov [rdi], rcx
    xor eax, eax
    ret
.balign 16
.globl baton_copy
baton_copy:
    cmp rdx, 512
    ja 62f
# Eight bytes at a time: what was just written in words is read from the store buffer; wider loads would wait for it.
    cmp rdx, 64
    jb 64f
60:
    four_words 0
    four_words 32
    add rsi, 64
    add rdi, 64
    sub rdx, 64
    cmp rdx, 64
    jae 60b
64:
    test dl, 32
    jz 65f
    four_words 0
    add rsi, 32
    add rdi, 32
65:
    test dl, 16
    jz 66f
    mov rcx, [rsi]
    mov r8, [rsi + 8]
    mov [rdi], rcx
    mov [rdi + 8], r8
    add rsi, 16
    add rdi, 16
66:
    test dl, 8
    jz 67f
    mov rcx, [rsi]
    mov [rdi], rcx
    add rsi, 8
    add rdi, 8
67:
    and edx, 7
    jz 63f
61:
    mov cl, [rsi]
    mov [rdi], cl
    inc rsi
    inc rdi
    dec edx
    jnz 61b
    jmp 63f
62:
    mov rcx, rdx
    rep movsb
63:
.globl baton_copy_end
baton_copy_end:
    xor eax, eax
    ret
.globl baton_copy_failed
baton_copy_failed:
    mov eax, 1
    ret
.globl baton_asm_end
baton_asm_end:
