// Package baton lets a Go program be a Baton function in a compartment.
//
// A function is an ordinary program that needs no C library:
//
//	CGO_ENABLED=0 go build -buildmode=pie -o hello .
//
//	func main() {
//		log.Fatal(baton.Serve(func(request *baton.Request) (uint16, []byte) {
//			return 200, []byte("hello\n")
//		}))
//	}
//
// Goroutines, channels, timers and the garbage collector work as usual, on one processor. What a compartment does not
// have is in the documentation of compartments: no network, no files but the function's own, no other processes, and no
// signals: a loop without a function call is not interrupted for other goroutines, and a nil pointer ends the function
// instead of becoming a panic.
//
// What a program did before its first Recv is its snapshot, from which each replica begins. Random numbers of crypto/rand are
// drawn anew in every replica. Those of math/rand and the hash seeds of maps are not: the runtime drew their seeds when it
// began.
package baton

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"unsafe"
)

// ErrNotInCell says that this program was not started in a compartment.
var ErrNotInCell = errors.New("baton: this program runs in a compartment of a Baton node, which starts it")

// Open finds the gates. Serve and Recv do so by themselves.
func Open() error {
	if gatePage.Load() != nil {
		return nil
	}
	auxv := runtimeAuxv()
	for i := 0; i+1 < len(auxv); i += 2 {
		if auxv[i] != atBaton {
			continue
		}
		// The page is no memory of Go's: the collector leaves it alone, and it never moves.
		found := *(**page)(unsafe.Pointer(&auxv[i+1]))
		if found.magic != magic || found.abiVersion != abiVersion {
			return fmt.Errorf("baton: built for version %d of the gates, the cell has %d", abiVersion, found.abiVersion)
		}
		gatePage.Store(found)
		return nil
	}
	return ErrNotInCell
}

// message is something that came through a gate, with what it brought.
type message struct {
	parcel parcel
	open   bool
}

// body is the payload in place, readable until it is given back.
func (m *message) body() []byte {
	switch {
	case !m.open || m.parcel.bodyLen == 0:
		return nil
	case m.parcel.flags&flagInline != 0:
		if m.parcel.bodyLen > 8 {
			return m.parcel.small[:min(m.parcel.bodyLen, uint64(len(m.parcel.small)))]
		}
		return unsafe.Slice((*byte)(unsafe.Pointer(&m.parcel.bodyOffset)), m.parcel.bodyLen)
	case m.parcel.bodyHandle == none:
		return nil
	}
	at := m.parcel.bodyBase + uintptr(m.parcel.bodyOffset)
	return unsafe.Slice(*(**byte)(unsafe.Pointer(&at)), m.parcel.bodyLen)
}

// drop gives back what the message brought.
func (m *message) drop() {
	if !m.open {
		return
	}
	m.open = false
	pairs := make([]pair, 0, 2)
	if m.parcel.flags&flagInline == 0 && m.parcel.bodyHandle != none {
		pairs = append(pairs, pair{m.parcel.bodyHandle, m.parcel.bodyGen})
	}
	if m.parcel.headHandle != none && m.parcel.headHandle != m.parcel.bodyHandle {
		pairs = append(pairs, pair{m.parcel.headHandle, m.parcel.headGen})
	}
	if len(pairs) > 0 {
		gate(gateFree, uintptr(unsafe.Pointer(&pairs[0])), uintptr(len(pairs)), 0)
		runtime.KeepAlive(pairs)
	}
}

// Request is a request in this function's hands. It must be answered once.
type Request struct {
	message
	answered bool
}

// Answer is what a called function answered. Give it back with Drop when its body is not needed any more.
type Answer struct {
	message
	// Status is the answer's status, as of HTTP.
	Status uint16
	// Failed says that the called function did not answer: it crashed, or was too late.
	Failed bool
}

// Body is the payload, in place. It is valid until Drop.
func (a *Answer) Body() []byte { return a.body() }

// Drop gives back what the answer brought.
func (a *Answer) Drop() { a.drop() }

// Body is the payload, in place. It is valid until the request is answered.
func (r *Request) Body() []byte { return r.body() }

// Operation is the number that the caller chose; 0 for requests from the gateway.
func (r *Request) Operation() uint16 { return r.parcel.code }

// Recv waits for the next request. One goroutine at a time may be in it; others go on meanwhile.
func Recv() (*Request, error) {
	if err := Open(); err != nil {
		return nil, err
	}
	for {
		request := &Request{}
		got := gateWaiting(gateRecv, 0, uintptr(unsafe.Pointer(&request.parcel)), 0)
		if got < 0 {
			return nil, fmt.Errorf("baton: waiting for a request: %w", syscall.Errno(-got))
		}
		if request.parcel.kind == kindRequest {
			request.open = true
			return request, nil
		}
		// Word of a request that its caller gave up, or of the end: what is begun is finished all the same.
	}
}

func blank(about *parcel, kind uint8, code uint16, bytes []byte) *parcel {
	out := &parcel{kind: kind, flags: flagBytes, code: code, tag: about.tag, bodyHandle: none, headHandle: none}
	if len(bytes) > 0 {
		out.bodyOffset = address(bytes)
		out.bodyLen = uint64(len(bytes))
	} else {
		out.flags = flagInline
	}
	return out
}

// ReplyBytes answers with a copy of bytes, and gives back what the request brought.
func (r *Request) ReplyBytes(status uint16, bytes []byte) error {
	if r.answered {
		return errors.New("baton: answered twice")
	}
	out := blank(&r.parcel, kindReply, status, bytes)
	replied := gate(gateReply, uintptr(unsafe.Pointer(out)), 0, 0)
	runtime.KeepAlive(bytes)
	if replied < 0 {
		return fmt.Errorf("baton: answering: %w", syscall.Errno(-replied))
	}
	r.answered = true
	r.drop()
	return nil
}

// CallBytes calls a function of the manifest's calls with a copy of bytes, on behalf of this request, and waits for the
// answer.
func (r *Request) CallBytes(function string, bytes []byte) (*Answer, error) {
	index, err := callee(function)
	if err != nil {
		return nil, err
	}
	answer := &Answer{}
	answer.parcel = *blank(&r.parcel, kindRequest, 0, bytes)
	called := gateWaiting(gateCall, uintptr(index), uintptr(unsafe.Pointer(&answer.parcel)), 0)
	runtime.KeepAlive(bytes)
	if called == pending {
		tag := uintptr(answer.parcel.tag)
		called = gateWaiting(gateWait, tag, uintptr(unsafe.Pointer(&answer.parcel)), 0)
	}
	if called < 0 {
		return nil, fmt.Errorf("baton: calling %s: %w", function, syscall.Errno(-called))
	}
	answer.open = true
	answer.Status = answer.parcel.code
	answer.Failed = answer.parcel.flags&flagError != 0
	return answer, nil
}

// calls are the functions of the manifest's calls, in its order.
var calls = sync.OnceValue(func() []string { return strings.Split(os.Getenv("BATON_CALLS"), ",") })

func callee(function string) (int, error) {
	if index := slices.Index(calls(), function); index >= 0 {
		return index, nil
	}
	return 0, fmt.Errorf("baton: %s is not among the calls in the manifest", function)
}

// Levels of Log.
const (
	Error = 'E'
	Warn  = 'W'
	Info  = 'I'
	Debug = 'D'
)

// Log writes a line to the function's log, with the invocation that it belongs to.
func Log(level rune, text string) {
	if Open() != nil || len(text) == 0 {
		return
	}
	bytes := []byte(text)
	gate(gateLog, uintptr(level), uintptr(unsafe.Pointer(&bytes[0])), uintptr(len(bytes)))
	runtime.KeepAlive(bytes)
}

// Serve answers requests with what handler gives, one at a time, until something breaks.
func Serve(handler func(*Request) (status uint16, body []byte)) error {
	for {
		request, err := Recv()
		if err != nil {
			return err
		}
		status, body := handler(request)
		if err := request.ReplyBytes(status, body); err != nil {
			return err
		}
	}
}
