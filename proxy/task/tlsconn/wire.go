package tlsconn

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/pillion-proxy/pillion/proxy/task"
)

// wire is what tls.Conn takes for the network. During the handshake it is raw; from Attach on it is inner.
type wire struct {
	// Static after construction.
	local, remote net.Addr

	// Changed by Attach only.
	raw   net.Conn  // nil once attached, or closed
	inner task.Conn // nil until attached

	// Owned by the handshake.
	wrote bool

	// Owned by the reader.
	noWait bool // Read must not wait: it returns errEmpty instead
	ended  bool // inner said io.EOF
	frames frames

	mu   sync.Mutex // never held over a wait
	out  []byte     // sealed records that are not yet pushed
	less int        // sends in a row that used less than a quarter of out
}

func newWire(raw net.Conn) *wire {
	return &wire{local: raw.LocalAddr(), remote: raw.RemoteAddr(), raw: raw}
}

// errEmpty makes tls.Conn return, and lets it be read again later, because it is temporary.
var errEmpty error = emptyError{}

type emptyError struct{}

func (emptyError) Error() string   { return "nothing buffered" }
func (emptyError) Timeout() bool   { return true }
func (emptyError) Temporary() bool { return true }

var errDeaf = errors.New("the peer makes us answer and does not read the answers")

func (w *wire) Read(p []byte) (int, error) {
	if w.inner == nil {
		n, err := w.raw.Read(p)
		w.frames.add(p[:n])
		return n, err
	}
	if w.noWait {
		return 0, errEmpty
	}
	if err := w.answer(); err != nil {
		return 0, err
	}
	n, err := w.inner.Read(p)
	if err == io.EOF {
		w.ended = true
	}
	w.frames.add(p[:n])
	return n, err
}

// answer sends what tls.Conn wrote while it read, before the reader waits.
func (w *wire) answer() error {
	const most = 64 << 20 // bytes queued: a link stops far below, so this is a peer that only makes us answer
	if w.flush() == nil && w.inner.Queued() > most {
		return errDeaf
	}
	return nil // that sending fails is for who pushes; what arrived can still be read
}

func (w *wire) Write(p []byte) (int, error) {
	if w.inner == nil {
		w.wrote = true
		return w.raw.Write(p)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.out == nil {
		w.out = make([]byte, 0, max(len(p), smallOut))
	}
	w.out = append(w.out, p...)
	return len(p), nil
}

const (
	smallOut = 4 << 10 // bytes: the first capacity of wire.out
	lessMost = 64      // sends after which an out that is too large is given back
)

// flush pushes what is collected.
func (w *wire) flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.out) == 0 {
		return nil
	}
	err := w.inner.Push(w.out)
	w.less++
	if len(w.out) > cap(w.out)/4 || cap(w.out) <= smallOut {
		w.less = 0
	}
	w.out = w.out[:0]
	if w.less > lessMost {
		w.out, w.less = nil, 0
	}
	return err
}

// Close is called by tls.Conn only when the handshake fails or before Attach.
func (w *wire) Close() error {
	if w.raw == nil {
		return nil
	}
	return w.raw.Close()
}

func (w *wire) LocalAddr() net.Addr  { return w.local }
func (w *wire) RemoteAddr() net.Addr { return w.remote }

// The deadlines that tls.Conn itself sets bound its close_notify; on a shard that never waits.

func (w *wire) SetDeadline(t time.Time) error {
	if w.inner != nil {
		return nil
	}
	return w.raw.SetDeadline(t)
}

func (w *wire) SetReadDeadline(t time.Time) error {
	if w.inner != nil {
		return nil
	}
	return w.raw.SetReadDeadline(t)
}

func (w *wire) SetWriteDeadline(t time.Time) error {
	if w.inner != nil {
		return nil
	}
	return w.raw.SetWriteDeadline(t)
}

// frames follows the record boundaries of what tls.Conn has been given, so that Conn knows whether tls.Conn holds another
// whole record. It decides nothing else.
type frames struct {
	whole int // complete records that tls.Conn may not have opened yet; never too few
	have  int // bytes of head
	skip  int // bytes missing of the current record
	head  [recordHeader]byte
}

const recordHeader = 5 // bytes: type, version, length

func (f *frames) add(p []byte) {
	for len(p) > 0 {
		if f.have < recordHeader {
			n := copy(f.head[f.have:], p)
			f.have += n
			p = p[n:]
			if f.have < recordHeader {
				return
			}
			f.skip = int(f.head[3])<<8 | int(f.head[4])
		}
		n := min(f.skip, len(p))
		f.skip -= n
		p = p[n:]
		if f.skip == 0 {
			f.whole++
			f.have = 0
		}
	}
}
