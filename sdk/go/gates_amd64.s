#include "textflag.h"

// func callGate(gate, a, b, c uintptr) int64
//
// Of the old calling convention, in which a function may use every register but the stack pointer: the compiler's wrapper
// restores what Go keeps in R14 and X15. A gate switches to a stack of its own and needs eight bytes of this one.
TEXT ·callGate(SB), NOSPLIT, $0-40
	MOVQ gate+0(FP), AX
	MOVQ a+8(FP), DI
	MOVQ b+16(FP), SI
	MOVQ c+24(FP), DX
	CALL AX
	MOVQ AX, ret+32(FP)
	RET
