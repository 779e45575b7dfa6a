package discoverytest

import (
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// Fault is what a Proxy does to connections, those that there are and those that come.
type Fault int

// The faults.
const (
	None    Fault = iota // bytes pass both ways
	Cut                  // connections are reset at once
	Silent               // bytes are swallowed, and nothing is said
	Slow                 // what the server says comes late, by a tenth of a second for each piece
	Garbage              // what the server says has bytes changed, to such as are no text
	Page                 // an HTML page comes instead of an answer, as from a balancer that has lost its servers
)

// Proxy stands before a server.
type Proxy struct {
	listener net.Listener
	target   string

	mu    sync.Mutex
	fault Fault
	conns map[net.Conn]bool
	all   sync.WaitGroup
}

// NewProxy returns one before the server at target, on an address of loopback. It lives until the test ends.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{listener: ln, target: target, conns: make(map[net.Conn]bool)}
	p.all.Go(p.accept)
	t.Cleanup(func() {
		ln.Close()
		p.Set(Cut)
		p.all.Wait()
	})
	return p
}

// Addr is where the Proxy listens.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Set changes what it does. What connections were already told stays told: Cut, Garbage and Page end them.
func (p *Proxy) Set(f Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = f
	if f == Cut || f == Page {
		for nc := range p.conns {
			reset(nc)
		}
	}
}

func (p *Proxy) present() Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fault
}

func reset(nc net.Conn) {
	if tcp, ok := nc.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // best effort
	}
	nc.Close()
}

func (p *Proxy) accept() {
	for {
		nc, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.all.Go(func() { p.serve(nc) })
	}
}

func (p *Proxy) keep(nc net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[nc] = true
	if p.fault == Cut {
		reset(nc)
	}
}

func (p *Proxy) drop(nc net.Conn) {
	nc.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, nc)
}

func (p *Proxy) serve(client net.Conn) {
	p.keep(client)
	defer p.drop(client)
	if p.present() == Page {
		const page = "<html><body><h1>502 Bad Gateway</h1></body></html>"
		_, _ = client.Read(make([]byte, 4<<10)) // whatever was asked
		_, _ = io.WriteString(client, "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\nContent-Length: 50\r\n\r\n"+page)
		return
	}
	server, err := net.DialTimeout("tcp", p.target, 5*time.Second)
	if err != nil {
		reset(client)
		return
	}
	p.keep(server)
	defer p.drop(server)
	var up sync.WaitGroup
	up.Go(func() {
		p.copy(server, client, false)
		reset(server)
	})
	p.copy(client, server, true)
	reset(client)
	up.Wait()
}

// copy passes bytes on until one side ends; answers is whether they are the server's.
func (p *Proxy) copy(to, from net.Conn, answers bool) {
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		switch f := p.present(); {
		case f == Silent:
			continue
		case f == Slow && answers:
			time.Sleep(100 * time.Millisecond)
		case f == Garbage && answers:
			for range 1 + n/64 {
				buf[rand.N(n)] |= 0x80
			}
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}
