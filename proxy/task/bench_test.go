//go:build unix

package task_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy/task"
)

// onBoth runs f on both runtimes, started, with one shard.
func onBoth(b *testing.B, f func(b *testing.B, rt task.Runtime)) {
	c := task.Config{Loops: 1, Logger: slog.New(slog.DiscardHandler), StallAfter: -1}
	b.Run("loops", func(b *testing.B) {
		rt, err := task.New(c)
		if err != nil {
			b.Fatal(err)
		}
		defer start(rt)()
		f(b, rt)
	})
	b.Run("goroutines", func(b *testing.B) {
		rt := task.NewGoroutines(c)
		defer start(rt)()
		f(b, rt)
	})
}

func start(rt task.Runtime) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- rt.Run(ctx) }()
	return func() {
		cancel()
		<-done
	}
}

// inTask runs f in a task and waits.
func inTask(s task.Shard, f func()) {
	done := make(chan struct{})
	s.Post(func() { s.Go(func() { defer close(done); f() }) })
	<-done
}

// BenchmarkSwitch hands control from one task to another and back, over two gates.
func BenchmarkSwitch(b *testing.B) {
	onBoth(b, func(b *testing.B, rt task.Runtime) {
		b.ReportAllocs()
		s := rt.Shards()[0]
		var ping, pong task.Gate
		inTask(s, func() {
			s.Gate(&ping)
			s.Gate(&pong)
			stop := false
			s.Go(func() {
				for !stop {
					ping.Wait(0)
					pong.Wake()
				}
			})
			for b.Loop() {
				ping.Wake()
				pong.Wait(0)
			}
			stop = true
			ping.Wake()
		})
	})
}

// BenchmarkSpawn starts a task and waits for it.
func BenchmarkSpawn(b *testing.B) {
	onBoth(b, func(b *testing.B, rt task.Runtime) {
		b.ReportAllocs()
		s := rt.Shards()[0]
		inTask(s, func() {
			var g task.Gate
			s.Gate(&g)
			f := g.Wake
			for b.Loop() {
				s.Go(f)
				g.Wait(0)
			}
		})
	})
}

const echoConns = 64

// BenchmarkEcho has 64 connections send 64 bytes each and wait for them. CPU counts both sides; the client is the same for all.
func BenchmarkEcho(b *testing.B) {
	onBoth(b, func(b *testing.B, rt task.Runtime) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		l, err := rt.Listen(ln, task.ServeOptions{Serve: echoOnce})
		if err != nil {
			b.Fatal(err)
		}
		defer l.Close()
		runClients(b, l.Addr())
	})
	b.Run("net", func(b *testing.B) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		defer ln.Close()
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				go func() {
					p := make([]byte, 16<<10)
					for {
						n, err := c.Read(p)
						if err != nil {
							c.Close()
							return
						}
						c.Write(p[:n])
					}
				}()
			}
		}()
		runClients(b, ln.Addr())
	})
}

// runClients drives the connections in rounds from one goroutine: all send, then all receive.
func runClients(b *testing.B, addr net.Addr) {
	var conns []net.Conn
	for range echoConns {
		c, err := net.Dial("tcp", addr.String())
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		conns = append(conns, c)
	}
	p := make([]byte, 64)
	b.ReportAllocs()
	b.SetBytes(64)
	before := cpuTime()
	n := 0
	for b.Loop() {
		c := conns[n%echoConns]
		if n >= echoConns {
			if _, err := io.ReadFull(c, p); err != nil {
				b.Fatal(err)
			}
		}
		if _, err := c.Write(p); err != nil {
			b.Fatal(err)
		}
		n++
	}
	b.ReportMetric(float64(cpuTime()-before)/float64(n), "cpu-ns/op")
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
