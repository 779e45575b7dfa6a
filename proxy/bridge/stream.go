package bridge

import (
	"io"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// drained reports whether the reader has had everything, to its end.
func (p *pipe) drained() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.end == io.EOF && len(p.queue) == 0
}

// finished reports whether the writer has said that no more will come.
func (p *pipe) finished() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.end == io.EOF
}

// stream is the near end of a Stream.
type stream struct{ x *exchange }

var (
	_ proxy.Stream  = (*stream)(nil)
	_ proxy.Waiter  = (*stream)(nil)
	_ proxy.Offerer = (*stream)(nil)
)

// Read waits for bytes; io.EOF after the other side's end.
func (s *stream) Read(p []byte) (int, error) { return s.x.down.Read(p) }

// WaitReadable waits until Read would not wait.
func (s *stream) WaitReadable() error { return s.x.down.WaitReadable() }

// Write waits until all of p is on its way to the far side.
func (s *stream) Write(p []byte) (int, error) { return s.x.up.Write(p) }

// Offer implements proxy.Offerer.
func (s *stream) Offer(head, body []byte) (bool, error) { return s.x.up.offer(head, body) }

// CloseWrite ends the direction to the far side.
func (s *stream) CloseWrite() error {
	s.x.up.finish(io.EOF, nil)
	return nil
}

// Close releases the Stream, and resets it if a direction is still open.
func (s *stream) Close() error {
	s.x.end(task.ErrClosed)
	return nil
}

// Reset ends both directions at once.
func (s *stream) Reset() error {
	s.x.up.finish(task.ErrClosed, nil)
	s.x.end(task.ErrClosed)
	return nil
}

// relay is the far half of a Stream, of a Flow, or of both. Each direction has a task.
func (x *exchange) relay() {
	var parts []func()
	if st := x.resp.Stream; st != nil {
		x.down = newPipe(&x.b.chunks, x.b.far, x.b.near)
		x.up = newPipe(&x.b.chunks, x.b.near, x.b.far)
		parts = append(parts, func() { x.passDown(st) }, func() { x.passUp(st) })
	}
	if f := x.resp.Flow; f != nil {
		x.flow = newFlow(x)
		parts = append(parts, func() { x.flow.passDown(f) }, func() { x.flow.passUp(f) })
	}
	j := join{s: x.b.far, left: len(parts)}
	j.s.Gate(&j.gate)
	if !x.settle(nil) {
		return
	}
	for _, f := range parts[1:] {
		j.s.Go(func() { j.run(x, f) })
	}
	j.run(x, parts[0])
	j.wait()
	if st := x.resp.Stream; st != nil {
		st.Close()
	}
	if f := x.resp.Flow; f != nil {
		f.Close()
	}
}

// join waits for several tasks of one shard.
type join struct {
	s    task.Shard
	gate task.Gate
	left int // guarded by the shard's lock
}

// run is one of the tasks. Should it not return, as at shutdown, the exchange ends.
func (j *join) run(x *exchange, f func()) {
	whole := false
	defer func() {
		if !whole {
			x.breakFar(task.ErrClosed)
		}
		j.s.Lock()
		j.left--
		j.s.Unlock()
		j.gate.Wake()
	}()
	f()
	whole = true
}

func (j *join) wait() {
	j.s.Lock()
	defer j.s.Unlock()
	for j.left > 0 {
		j.s.Unlock()
		j.gate.Wait(0)
		j.s.Lock()
	}
}

// breakFar ends both directions, far and near, of a Stream that broke on the far side.
func (x *exchange) breakFar(err error) {
	if x.farStream != nil {
		x.farStream.Reset()
		x.down.finish(err, nil)
		x.up.leave(err)
	}
	if x.flow != nil {
		x.farFlow.Close()
		x.flow.broke(err)
	}
}

// passDown is the far task from the Stream to the near side.
func (x *exchange) passDown(st proxy.Stream) {
	err := x.down.fill(st)
	x.down.finish(err, nil)
	if err != io.EOF {
		x.breakFar(err)
	}
}

// passUp is the far task from the near side to the Stream.
func (x *exchange) passUp(st proxy.Stream) {
	err := x.moveUp(st)
	if err == io.EOF {
		err = st.CloseWrite()
	}
	if err != nil {
		x.breakFar(err)
	}
}

func (x *exchange) moveUp(st proxy.Stream) error {
	for {
		if err := x.up.WaitReadable(); err != nil {
			return err
		}
		if err := x.stepUp(st); err != nil {
			return err
		}
	}
}

func (x *exchange) stepUp(st proxy.Stream) error {
	buf := x.b.far.Buffer()
	defer x.b.far.Free(buf)
	n, err := x.up.Read(buf.B)
	if n == 0 {
		return err
	}
	if _, err := st.Write(buf.B[:n]); err != nil {
		if err == io.EOF {
			err = io.ErrClosedPipe
		}
		return err
	}
	return nil
}
