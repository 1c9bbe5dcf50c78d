// A Go function: answers with what it got, and does what the first byte of a request asks for.
package main

import (
	"crypto/rand"
	"fmt"
	quick "math/rand/v2"
	"os"
	"runtime"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"baton"
)

var served int
var ticks atomic.Int64

func act(request *baton.Request) (uint16, string) {
	body := string(request.Body())
	if body == "" {
		return 200, ""
	}
	switch body[0] {
	case 'n': // number of requests served
		served++
		return 200, fmt.Sprint(served)
	case 'c': // calls echo with the rest
		answer, err := request.CallBytes("echo", []byte(body[1:]))
		if err != nil {
			return 500, err.Error()
		}
		defer answer.Drop()
		return 200, fmt.Sprintf("%d %t %s", answer.Status, answer.Failed, answer.Body())
	case 'g': // goroutines and a channel
		return 200, fmt.Sprint(sums(16, 1000))
	case 'G': // many allocations, and collections
		return 200, collect()
	case 'z':
		began := time.Now()
		time.Sleep(20 * time.Millisecond)
		return 200, fmt.Sprint(time.Since(began) >= 20*time.Millisecond)
	case 't':
		select {
		case <-time.After(10 * time.Millisecond):
			return 200, "time"
		case <-make(chan int):
			return 500, "?"
		}
	case 'b': // a goroutine behind the answer
		go func() {
			for i := 0; i < 5; i++ {
				time.Sleep(5 * time.Millisecond)
				ticks.Add(1)
			}
		}()
		return 200, "begun"
	case 'T':
		return 200, fmt.Sprint(ticks.Load())
	case 'w': // waits for another goroutine without giving way
		var flag atomic.Bool
		go func() { flag.Store(true) }()
		for !flag.Load() {
			runtime.Gosched()
		}
		return 200, "seen"
	case 'r': // recovers from a panic
		return 200, recovered()
	case 'p':
		panic("on purpose")
	case 'x':
		os.Exit(3)
	case 'l':
		for {
		}
	case 'L':
		fmt.Println("printed")
		baton.Log(baton.Info, "logged")
		return 200, "ok"
	case 'd':
		var lock sync.Mutex
		lock.Lock()
		lock.Lock()
	case 'R': // random numbers: of the system, and of the generator that the runtime seeded when it began
		secret := make([]byte, 8)
		if _, err := rand.Read(secret); err != nil {
			return 500, err.Error()
		}
		return 200, fmt.Sprintf("%x %x", secret, quick.Uint64())
	case 'N': // a fault that a signal handler would turn into a panic
		var nowhere *[8]int
		return 200, fmt.Sprint(nowhere[served])
	case 'm': // what the system says
		name, err := os.Hostname()
		_, missing := os.ReadFile("/etc/passwd")
		return 200, fmt.Sprint(runtime.NumCPU(), " ", os.Getpid(), " ", name, " ", err, " ", missing)
	}
	return 200, body
}

func sums(workers, amount int) int {
	results := make(chan int)
	for worker := range workers {
		go func() {
			sum := 0
			for i := range amount {
				sum += i * worker
				if i%100 == 0 {
					runtime.Gosched()
				}
			}
			results <- sum
		}()
	}
	total := 0
	for range workers {
		total += <-results
	}
	return total
}

func collect() string {
	words := map[string]int{}
	for i := 0; i < 200000; i++ {
		words[strings.Repeat(string(rune('a'+i%26)), i%50+1)] += i
	}
	keys := make([]string, 0, len(words))
	for key := range words {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return fmt.Sprint(len(keys), " ", keys[0], " ", stats.NumGC > 0)
}

func recovered() (text string) {
	defer func() { text = fmt.Sprint("recovered: ", recover()) }()
	var nothing []int
	return fmt.Sprint(nothing[served])
}

func main() {
	err := baton.Serve(func(request *baton.Request) (uint16, []byte) {
		status, text := act(request)
		return status, []byte(text)
	})
	fmt.Fprintln(os.Stderr, err)
	os.Exit(4)
}
