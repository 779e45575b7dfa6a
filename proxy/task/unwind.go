package task

import (
	"runtime"
	"strings"
)

// unwound is the panic value that ends a task at shutdown. Deferred functions run; the task's root swallows it.
type unwound struct{}

// waiter names the function that called into this package, for logs: the first frame that is not ours.
func waiter() string {
	var pcs [32]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	for {
		f, more := frames.Next()
		if !ownFrame(f.Function) {
			return f.Function
		}
		if !more {
			return "unknown"
		}
	}
}

// ownFrame reports whether function belongs to this package's machinery.
func ownFrame(function string) bool {
	const pkg = "proxy/task."
	i := strings.LastIndex(function, pkg)
	if i < 0 {
		return strings.HasPrefix(function, "runtime.") || strings.HasPrefix(function, "iter.")
	}
	name := function[i+len(pkg):]
	return !strings.HasPrefix(name, "Test") && !strings.HasPrefix(name, "Benchmark")
}
