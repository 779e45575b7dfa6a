package socks

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
)

// The first byte of every message of a client.
const (
	Version4 = 4
	Version5 = 5
)

// Method is how a client would prove who it is.
type Method byte

// The methods that this package knows, RFC 1928 section 3.
const (
	NoAuth       Method = 0x00
	UserPassword Method = 0x02
	NoneAccepted Method = 0xff
)

// Command is what a client asks for.
type Command byte

// The commands, RFC 1928 section 4.
const (
	Connect   Command = 1
	Bind      Command = 2
	Associate Command = 3
)

// Reply is the answer to a Request, RFC 1928 section 6.
type Reply byte

// The replies.
const (
	Succeeded           Reply = 0
	Failed              Reply = 1
	NotAllowed          Reply = 2
	NetworkUnreachable  Reply = 3
	HostUnreachable     Reply = 4
	Refused             Reply = 5
	Expired             Reply = 6
	CommandNotSupported Reply = 7
	AddressNotSupported Reply = 8
	granted4, rejected4       = 90, 91 // SOCKS4
	maxName                   = 255    // bytes; RFC 1928 has one byte for its length
	maxUser4                  = 512    // bytes of a SOCKS4 user, of which the protocol gives no bound
	typeIPv4, typeName        = 1, 3
	typeIPv6                  = 4
)

// Addr is where a client wants to go: a name, or an IP where Name is "".
type Addr struct {
	Name string
	IP   netip.Addr
	Port uint16
}

// String returns host:port, as in the target of an HTTP CONNECT.
func (a Addr) String() string {
	host := a.Name
	if host == "" {
		host = a.IP.String()
	}
	return net.JoinHostPort(host, strconv.Itoa(int(a.Port)))
}

// Request is what a client asks for.
type Request struct {
	Command Command
	Addr    Addr
}

var (
	errVersion = errors.New("the version of SOCKS changed within one connection")
	errType    = errors.New("an address that is neither IPv4, IPv6 nor a name")
)

// ErrAddress is returned, wrapped, for a well-formed message with an address that cannot be used.
var ErrAddress = errors.New("no usable address")

// ParseGreeting reads the first message of SOCKS5 and chooses a method: none if the client offers that, else the user's name and password, which nobody checks.
func ParseGreeting(b []byte) (m Method, n int, err error) {
	if len(b) > 0 && b[0] != Version5 {
		return 0, 0, errVersion
	}
	if len(b) < 2 || len(b) < 2+int(b[1]) {
		return 0, 0, nil
	}
	n = 2 + int(b[1])
	m = NoneAccepted
	for _, offered := range b[2:n] {
		switch Method(offered) {
		case NoAuth:
			return NoAuth, n, nil
		case UserPassword:
			m = UserPassword
		}
	}
	return m, n, nil
}

// ParsePassword reads the message of RFC 1929 section 2, and forgets what it says.
func ParsePassword(b []byte) (n int, err error) {
	if len(b) > 0 && b[0] != 1 {
		return 0, errors.New("an unknown version of user name and password")
	}
	if len(b) < 2 {
		return 0, nil
	}
	user := 2 + int(b[1])
	if len(b) < user+1 || len(b) < user+1+int(b[user]) {
		return 0, nil
	}
	return user + 1 + int(b[user]), nil
}

// ParseRequest reads the request of SOCKS5, RFC 1928 section 4.
func ParseRequest(b []byte) (r Request, n int, err error) {
	if len(b) > 0 && b[0] != Version5 {
		return r, 0, errVersion
	}
	if len(b) < 3 {
		return r, 0, nil
	}
	r.Command = Command(b[1])
	r.Addr, n, err = parseAddr(b[3:])
	if n == 0 {
		return r, 0, err
	}
	return r, 3 + n, err
}

// parseAddr reads type, address and port. With ErrAddress, n is what they took.
func parseAddr(b []byte) (a Addr, n int, err error) {
	if len(b) == 0 {
		return a, 0, nil
	}
	at := 1
	switch b[0] {
	case typeIPv4:
		n = 1 + 4
	case typeIPv6:
		n = 1 + 16
	case typeName:
		if len(b) < 2 {
			return a, 0, nil
		}
		at, n = 2, 2+int(b[1])
	default:
		return a, 0, errType
	}
	if len(b) < n+2 {
		return a, 0, nil
	}
	a.Port = binary.BigEndian.Uint16(b[n:])
	host := b[at:n]
	if b[0] == typeName {
		err = a.setName(string(host))
	} else {
		ip, _ := netip.AddrFromSlice(host)
		a.IP = ip.Unmap()
	}
	return a, n + 2, err
}

// setName takes a name, or an address that is written out.
func (a *Addr) setName(name string) error {
	if ip, err := netip.ParseAddr(name); err == nil && ip.Zone() == "" {
		a.IP = ip.Unmap()
		return nil
	}
	if name == "" {
		return fmt.Errorf("%w: an empty name", ErrAddress)
	}
	for i := range len(name) {
		switch c := name[i]; {
		case c|0x20 >= 'a' && c|0x20 <= 'z', c >= '0' && c <= '9', c == '.', c == '-', c == '_':
		default:
			return fmt.Errorf("%w: %q is no name", ErrAddress, name)
		}
	}
	a.Name = name
	return nil
}

// ParseRequest4 reads the only message of a SOCKS4 client: version, command, port, address, a user that ends with 0, and, where the address is
// 0.0.0.x, a name that ends with 0 (SOCKS4a).
func ParseRequest4(b []byte) (r Request, n int, err error) {
	if len(b) > 0 && b[0] != Version4 {
		return r, 0, errVersion
	}
	if len(b) < 9 {
		return r, 0, nil
	}
	r.Command = Command(b[1])
	r.Addr.Port = binary.BigEndian.Uint16(b[2:])
	_, n, err = cString(b, 8, maxUser4)
	if n == 0 {
		return r, 0, err
	}
	if b[4] != 0 || b[5] != 0 || b[6] != 0 || b[7] == 0 {
		r.Addr.IP = netip.AddrFrom4([4]byte(b[4:8]))
		return r, n, nil
	}
	name, end, err := cString(b, n, maxName)
	if end == 0 {
		return r, 0, err
	}
	return r, end, r.Addr.setName(name)
}

// cString reads from at to the next 0, and returns what comes behind it: 0 if there is none yet.
func cString(b []byte, at, most int) (s string, end int, err error) {
	for i := at; i < len(b); i++ {
		if b[i] == 0 {
			return string(b[at:i]), i + 1, nil
		}
		if i-at >= most {
			return "", 0, fmt.Errorf("a text of more than %d bytes", most)
		}
	}
	return "", 0, nil
}

// AppendMethod appends the answer to a greeting.
func AppendMethod(b []byte, m Method) []byte { return append(b, Version5, byte(m)) }

// AppendPasswordOK appends the answer to a user name and password: welcome.
func AppendPasswordOK(b []byte) []byte { return append(b, 1, 0) }

// AppendReply appends the answer to a Request of SOCKS5. bound is where the client is to send datagrams, after Associate; else it may be zero.
func AppendReply(b []byte, r Reply, bound netip.AddrPort) []byte {
	b = append(b, Version5, byte(r), 0)
	return appendAddr(b, bound)
}

// AppendReply4 appends the answer to a Request of SOCKS4.
func AppendReply4(b []byte, r Reply) []byte {
	code := byte(rejected4)
	if r == Succeeded {
		code = granted4
	}
	return append(b, 0, code, 0, 0, 0, 0, 0, 0)
}

func appendAddr(b []byte, a netip.AddrPort) []byte {
	ip := a.Addr().Unmap()
	if !ip.IsValid() {
		ip = netip.IPv4Unspecified()
	}
	t := byte(typeIPv4)
	if ip.Is6() {
		t = typeIPv6
	}
	b = append(b, t)
	b = append(b, ip.AsSlice()...)
	return binary.BigEndian.AppendUint16(b, a.Port())
}
