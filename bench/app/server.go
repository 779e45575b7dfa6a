package app

import (
	"net"
	"net/netip"
	"sync"
)

// Server is an app with a goroutine for each connection.
type Server struct {
	Addr  netip.AddrPort // not valid where it is a Unix socket
	ln    net.Listener
	serve func(net.Conn)
	wg    sync.WaitGroup

	mu     sync.Mutex
	conns  map[net.Conn]struct{}
	closed bool
}

// newServer listens on a free port of loopback. serve need not close the connection.
func newServer(serve func(net.Conn)) (*Server, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := newServerOn(ln, serve)
	s.Addr = ln.Addr().(*net.TCPAddr).AddrPort()
	return s, nil
}

// newServerOn takes ln over.
func newServerOn(ln net.Listener, serve func(net.Conn)) *Server {
	s := &Server{ln: ln, serve: serve, conns: map[net.Conn]struct{}{}}
	s.wg.Go(s.accept)
	return s
}

func (s *Server) accept() {
	for {
		c, err := s.ln.Accept()
		if err != nil {
			return
		}
		if !s.add(c) {
			c.Close()
			return
		}
		s.wg.Go(func() { s.serveOne(c) })
	}
}

func (s *Server) add(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.conns[c] = struct{}{}
	}
	return !s.closed
}

func (s *Server) serveOne(c net.Conn) {
	s.serve(c)
	c.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// Close ends all connections and waits until their goroutines have ended.
func (s *Server) Close() {
	s.ln.Close()
	s.mu.Lock()
	s.closed = true
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}
