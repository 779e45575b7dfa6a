// Package task is the runtime: it runs straight-line blocking code either on
// event loops (epoll and coroutines, Linux) or on ordinary goroutines
// (anywhere). Code written against this package cannot tell which.
//
// # Shards
//
// A Shard is a scheduling domain. Connections, gates, timers and tasks belong
// to one shard for life and never meet those of another. On a loop all tasks of
// a shard share one thread of control, so that between two waits nothing else
// of the shard runs; on goroutines the tasks of a shard run in parallel, and
// Lock makes state that they share safe. Code must therefore hold Lock around
// every touch of shared state and must never wait while holding it: on a loop
// that costs nothing, on goroutines it is a mutex.
//
//	s.Lock()
//	for !ready {
//		s.Unlock()
//		if !gate.Wait(deadline) { return ErrTimeout }
//		s.Lock()
//	}
//	...
//	s.Unlock()
//
// # Rules for task code
//
// A task waits only in Conn.Read, Conn.Write, Conn.WaitReadable, PacketConn.Receive, Gate.Wait,
// Shard.Sleep, Shard.Dial, Shard.Offload and Shard.Yield. It never blocks on a channel, a
// sync primitive, a file, DNS or time.Sleep: that would stop the whole loop.
// Whatever must block goes through Offload. A function given to Post, After,
// Batch, OnHangup or OnDrain is a callback: it runs on the shard, outside any
// task, with the shard's lock NOT held, and must not wait at all.
//
// A panic in a task ends that task, is logged with its stack and counted; the
// connection it serves is reset, deferred functions run, and the shard lives on.
//
// # How a loop runs
//
// A loop repeats: poll; fire timers; run what was posted; resume ready tasks until none is left, 1024 at most; call
// kicked batches. A task that reads or writes 64 times without a wait yields until after the next poll. Events are
// edge-triggered, descriptors registered once. Coroutines and buffers are pooled and given back when not needed. A watchdog
// logs, and counts, a task or callback that holds its loop for longer than Config.StallAfter. Files are named by the state that they
// own: loop_*_linux.go are the loops, go_*.go the goroutines.
//
// # The end
//
// When the context of Run ends, listeners and connections are closed (what Push has queued still leaves), Dial and Adopt fail, and tasks
// that sleep are unwound: their deferred functions run, nothing else of them does. Other tasks have Config.Grace to
// return; whoever then still waits is logged by function and unwound too.
//
// # Ownership
//
// A Buffer has one owner at a time, and goes back with Shard.Free from the
// function that took it. An idle connection (one whose serve function has
// returned) holds neither a task nor a buffer.
package task
