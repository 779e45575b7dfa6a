package dns

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// reply is what a server says to one question.
type reply struct {
	code      dnsmessage.RCode
	records   []dnsmessage.Resource
	soaTTL    uint32 // of a negative answer; 0: no SOA
	truncated bool   // over UDP
	silent    bool
	garbage   []byte // sent, over UDP, before the answer
	lame      bool   // neither authoritative nor recursive
}

// server is a DNS server on loopback, UDP and TCP on one port.
type server struct {
	t    *testing.T
	addr netip.AddrPort
	pc   net.PacketConn
	ln   net.Listener
	wg   sync.WaitGroup

	mu     sync.Mutex
	say    func(network, name string, kind dnsmessage.Type) reply
	noEDNS bool
	asked  []string // "udp name. A"
}

func newServer(t *testing.T, say func(network, name string, kind dnsmessage.Type) reply) *server {
	t.Helper()
	s := &server{t: t, say: say}
	for range 20 { // a port that is free for both
		pc, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ln, err := net.Listen("tcp", pc.LocalAddr().String())
		if err != nil {
			pc.Close()
			continue
		}
		s.pc, s.ln = pc, ln
		break
	}
	if s.pc == nil {
		t.Fatal("no port is free for both UDP and TCP")
	}
	s.addr = netip.MustParseAddrPort(s.pc.LocalAddr().String())
	s.wg.Go(s.serveUDP)
	s.wg.Go(s.serveTCP)
	t.Cleanup(func() {
		s.pc.Close()
		s.ln.Close()
		s.wg.Wait()
	})
	return s
}

// change replaces what the server says.
func (s *server) change(say func(network, name string, kind dnsmessage.Type) reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.say = say
}

func (s *server) questions() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.asked...)
}

func (s *server) serveUDP() {
	buf := make([]byte, 4096)
	for {
		n, from, err := s.pc.ReadFrom(buf)
		if err != nil {
			return
		}
		out, r := s.answer("udp", buf[:n])
		if r.garbage != nil {
			s.pc.WriteTo(r.garbage, from)
		}
		if !r.silent {
			s.pc.WriteTo(out, from)
		}
	}
}

func (s *server) serveTCP() {
	for {
		c, err := s.ln.Accept()
		if err != nil {
			return
		}
		s.wg.Go(func() {
			defer c.Close()
			var size [2]byte
			if _, err := io.ReadFull(c, size[:]); err != nil {
				return
			}
			query := make([]byte, binary.BigEndian.Uint16(size[:]))
			if _, err := io.ReadFull(c, query); err != nil {
				return
			}
			if out, r := s.answer("tcp", query); !r.silent {
				c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(out))), out...))
			}
		})
	}
}

func (s *server) answer(network string, query []byte) ([]byte, reply) {
	var q dnsmessage.Message
	if err := q.Unpack(query); err != nil || len(q.Questions) != 1 || q.Response || !q.RecursionDesired {
		s.t.Errorf("bad query: %v, %+v", err, q)
		return nil, reply{silent: true}
	}
	name, kind := q.Questions[0].Name.String(), q.Questions[0].Type
	s.mu.Lock()
	s.asked = append(s.asked, network+" "+name+" "+strings.TrimPrefix(kind.String(), "Type"))
	say, refuse := s.say, s.noEDNS && len(q.Additionals) > 0
	s.mu.Unlock()
	if refuse {
		m := dnsmessage.Message{Header: dnsmessage.Header{ID: q.ID, Response: true, RCode: dnsmessage.RCodeFormatError}}
		out, _ := m.Pack()
		return out, reply{}
	}
	r := say(network, name, kind)
	m := dnsmessage.Message{
		Header: dnsmessage.Header{
			ID: q.ID, Response: true, RCode: r.code, RecursionAvailable: !r.lame, Truncated: r.truncated && network == "udp",
		},
		Questions: q.Questions, Answers: r.records,
	}
	if r.soaTTL > 0 {
		zone := dnsmessage.MustNewName("example.")
		m.Authorities = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: zone, Class: dnsmessage.ClassINET, TTL: r.soaTTL},
			Body:   &dnsmessage.SOAResource{NS: zone, MBox: zone, MinTTL: r.soaTTL},
		}}
	}
	s.mu.Lock() // Pack writes into records, which answers may share
	defer s.mu.Unlock()
	out, err := m.Pack()
	if err != nil {
		s.t.Errorf("pack: %v", err)
	}
	return out, r
}

// host makes an address record.
func host(name, ip string, ttl uint32) dnsmessage.Resource {
	h := dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name), Class: dnsmessage.ClassINET, TTL: ttl}
	addr := netip.MustParseAddr(ip)
	if addr.Is4() {
		return dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: addr.As4()}}
	}
	return dnsmessage.Resource{Header: h, Body: &dnsmessage.AAAAResource{AAAA: addr.As16()}}
}

func cname(name, target string, ttl uint32) dnsmessage.Resource {
	return dnsmessage.Resource{
		Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name), Class: dnsmessage.ClassINET, TTL: ttl},
		Body:   &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(target)},
	}
}

// zone answers like an authority: name → addresses, NODATA for the other family, NXDOMAIN for other names.
func zone(ttl uint32, hosts map[string][]string) func(network, name string, kind dnsmessage.Type) reply {
	return func(_, name string, kind dnsmessage.Type) reply {
		ips, ok := hosts[strings.ToLower(name)]
		if !ok {
			return reply{code: dnsmessage.RCodeNameError, soaTTL: ttl}
		}
		var r reply
		for _, ip := range ips {
			if netip.MustParseAddr(ip).Is4() == (kind == dnsmessage.TypeA) {
				r.records = append(r.records, host(name, ip, ttl))
			}
		}
		return r
	}
}
