package http1

import (
	"strings"
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// A head is read whole whatever its size, in whatever pieces it comes and wherever in the buffer it begins; what follows it stays unread, and all buffers go back.
func TestSourceGrows(t *testing.T) {
	const most = 300 << 10
	for _, size := range []int{100, task.BufferSize - 1, task.BufferSize, task.BufferSize + 1, 40_000, task.DatagramSize - 1, task.DatagramSize, task.DatagramSize + 1, 200_000} {
		for _, step := range []int{0, 4099, task.BufferSize} {
			for _, before := range []int{0, 50, task.BufferSize / 2, task.BufferSize - 10} {
				s := &fakeShard{}
				head := "GET / HTTP/1.1\r\nX: "
				head += strings.Repeat("x", size-len(head)-4) + "\r\n\r\n"
				const after = "what follows"
				r := &source{s: s, c: &fakeConn{in: []byte(strings.Repeat("-", before) + head + after), step: step}}
				for got := 0; got < before; {
					if r.buffered() == 0 {
						if err := r.fill(); err != nil {
							t.Fatal(err)
						}
					}
					n := min(r.buffered(), before-got)
					r.use(n)
					got += n
				}
				got, err := r.readHead(most, false, nil)
				if err != nil || string(got) != head {
					t.Fatalf("a head of %d bytes, %d at a time, behind %d: got %d bytes, %v", size, step, before, len(got), err)
				}
				r.use(len(got))
				rest := make([]byte, 0, len(after))
				for len(rest) < len(after) {
					p := make([]byte, len(after))
					n, err := r.read(p)
					if err != nil {
						t.Fatal(err)
					}
					rest = append(rest, p[:n]...)
				}
				if string(rest) != after {
					t.Fatalf("behind a head of %d bytes: %q", size, rest)
				}
				r.release()
				if s.out != 0 || r.buf != nil {
					t.Fatalf("a head of %d bytes: %d buffers are not given back", size, s.out)
				}
			}
		}
	}
}

// A head longer than what is allowed is refused, and holds no more than that.
func TestSourceGrowsNoFurther(t *testing.T) {
	const most = 20_000
	s := &fakeShard{}
	r := &source{s: s, c: &fakeConn{in: []byte(strings.Repeat("x", 1<<20))}}
	if _, err := r.readHead(most, false, nil); err == nil {
		t.Fatal("a head without end is read")
	}
	if len(r.buf.B) > task.DatagramSize {
		t.Errorf("a buffer of %d bytes for heads of at most %d", len(r.buf.B), most)
	}
	r.drop()
	if s.out != 0 {
		t.Errorf("%d buffers are not given back", s.out)
	}
}

// The head of a request fits the buffer that is taken for it, so that it is never copied to another.
func TestLongRequestsAllocateNothing(t *testing.T) {
	req := &proxy.Request{Method: "GET", Authority: "orders:8080", Path: "/" + strings.Repeat("x", 40_000)}
	req.Fields.Add("Host", "orders")
	req.Fields.Add("Accept", "*/*")
	s := &fakeShard{}
	w := &writer{s: s, c: &fakeConn{}}
	if got, bound := len(appendedRequest(req)), sizeOf(req); got > bound {
		t.Errorf("the head has %d bytes, and is taken to have %d at most", got, bound)
	}
	if n := testing.AllocsPerRun(50, func() {
		b, _ := appendRequest(w.beginSized(sizeOf(req)), req, "", nil)
		w.headed(b)
		w.free()
	}); n != 0 {
		t.Errorf("%v allocations for a head of 40,000 bytes, want 0", n)
	}
	if s.out != 0 {
		t.Errorf("%d buffers are not given back", s.out)
	}
}
