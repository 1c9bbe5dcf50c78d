package baton

import (
	"sync/atomic"
	"unsafe"
)

// Layouts and numbers are those of crates/abi/src/gate.rs.
const (
	atBaton    = 0x42544e00
	magic      = 0x42544e67
	abiVersion = 4
	none       = 0xffffffff
	gatesMax   = 32
)

const (
	gateRecv  = 0
	gateReply = 1
	gateCall  = 2
	gateFree  = 4
	gateWait  = 9
	gateLog   = 10
)

const (
	kindRequest = 1
	kindReply   = 2
)

const (
	flagError  = 8
	flagInline = 16
	flagBytes  = 64
)

// The result of the call gate when the answer comes later.
const pending = 1

type page struct {
	magic       uint32
	abiVersion  uint32
	gates       [gatesMax]uintptr
	incarnation uint64
}

// parcel is a message: 64 bytes of descriptor, where its buffers are mapped, and a payload of 9 to 64 bytes that needs no
// buffer.
type parcel struct {
	kind, flags          uint8
	code                 uint16
	tag                  uint32
	invocation, deadline uint64
	bodyHandle, bodyGen  uint32
	bodyOffset, bodyLen  uint64
	headHandle, headGen  uint32
	headOffset, headLen  uint32
	bodyBase, bodyCap    uintptr
	headBase, headCap    uintptr
	rights, from         uint32
	reserved             [3]uint64
	small                [64]byte
}

type pair struct{ handle, generation uint32 }

// The layouts that the gates read and write.
var (
	_ [192]byte = [unsafe.Sizeof(parcel{})]byte{}
	_ [64]byte  = [unsafe.Offsetof(parcel{}.bodyBase)]byte{}
	_ [96]byte  = [unsafe.Offsetof(parcel{}.rights)]byte{}
	_ [272]byte = [unsafe.Sizeof(page{})]byte{}
)

// gatePage is what the cell maps for every function, read-only.
var gatePage atomic.Pointer[page]

//go:linkname runtimeAuxv runtime.getAuxv
func runtimeAuxv() []uintptr

//go:linkname entersyscall runtime.entersyscall
func entersyscall()

//go:linkname exitsyscall runtime.exitsyscall
func exitsyscall()

// callGate calls the function at gate, which has the C calling convention, on this stack. In gates_amd64.s.
//
//go:noescape
func callGate(gate, a, b, c uintptr) int64

// gate calls a gate that returns at once. Addresses differ between cells: they are read anew for each call.
//
// Pointers among the arguments are converted where gate is called: what they point to is on the heap, and stays.
//
//go:uintptrescapes
//go:nosplit
func gate(number int, a, b, c uintptr) int64 {
	return callGate(gatePage.Load().gates[number], a, b, c)
}

// gateWaiting calls a gate that may wait for long: other goroutines run meanwhile, as during a system call.
//
//go:uintptrescapes
//go:nosplit
func gateWaiting(number int, a, b, c uintptr) int64 {
	page := gatePage.Load()
	entersyscall()
	result := callGate(page.gates[number], a, b, c)
	exitsyscall()
	return result
}

// Never set, which the compiler does not know.
var leak bool
var leaked *byte

// address is where bytes begin, of which there are some. They must not be on a stack, which may move: the compiler believes
// that they are kept.
func address(bytes []byte) uint64 {
	if leak {
		leaked = &bytes[0]
	}
	return uint64(uintptr(unsafe.Pointer(&bytes[0])))
}
