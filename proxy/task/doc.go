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
// A task waits only in Conn.Read, Conn.Write, Conn.WaitReadable, Gate.Wait,
// Shard.Sleep, Shard.Dial, Shard.Offload and Shard.Yield. It never blocks on a channel, a
// sync primitive, a file, DNS or time.Sleep: that would stop the whole loop.
// Whatever must block goes through Offload. A function given to Post, After,
// Batch, OnHangup or OnDrain is a callback: it runs on the shard, outside any
// task, with the shard's lock NOT held, and must not wait at all.
//
// A panic in a task ends that task, is logged with its stack and counted; the
// connection it serves is reset, deferred functions run, and the shard lives on.
//
// # Ownership
//
// A Buffer has one owner at a time, and goes back with Shard.Free from the
// function that took it. An idle connection (one whose serve function has
// returned) holds neither a task nor a buffer.
package task
