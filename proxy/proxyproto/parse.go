package proxyproto

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"
	"strconv"
	"strings"
)

var errNone = errors.New("no header of the PROXY protocol")

// Need returns how many bytes of the header are certainly missing behind b: who reads no more than that at a time reads nothing of what follows it.
// 0 means that b is a whole header, for Parse.
func Need(b []byte) (int, error) {
	switch {
	case len(b) == 0:
		return shortest1, nil
	case b[0] == signature[0]:
		return need2(b)
	}
	return need1(b)
}

func need1(b []byte) (int, error) {
	n := min(len(b), len(prefix1))
	if string(b[:n]) != prefix1[:n] {
		return 0, errNone
	}
	line := string(b)
	switch {
	case len(b) < shortest1:
		return shortest1 - len(b), nil
	case strings.HasSuffix(line, "\r\n"):
		return 0, nil
	case strings.Contains(line, "\n"):
		return 0, errors.New("a PROXY line that ends without CR LF")
	case len(b) >= maxHeader1:
		return 0, fmt.Errorf("a PROXY line of more than %d bytes", maxHeader1)
	case line[len(line)-1] == '\r':
		return 1, nil
	}
	least := len(b) + 2
	switch {
	case strings.HasPrefix(line, "PROXY TCP4 "):
		least = max(least, len("PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n"))
	case strings.HasPrefix(line, "PROXY TCP6 "):
		least = max(least, len("PROXY TCP6 :: :: 0 0\r\n"))
	}
	return least - len(b), nil
}

func need2(b []byte) (int, error) {
	n := min(len(b), len(signature))
	if string(b[:n]) != signature[:n] {
		return 0, errNone
	}
	if len(b) < fixed2 {
		return fixed2 - len(b), nil
	}
	whole := fixed2 + int(binary.BigEndian.Uint16(b[14:]))
	if whole > maxHeader2 {
		return 0, fmt.Errorf("a PROXY header of %d bytes, of which %d are read at most", whole, maxHeader2)
	}
	return max(0, whole-len(b)), nil
}

// Parse reads a whole header, and nothing but that.
func Parse(b []byte) (Header, error) {
	more, err := Need(b)
	switch {
	case err != nil:
		return Header{}, err
	case more > 0:
		return Header{}, errors.New("a PROXY header that is cut short")
	case b[0] != signature[0]:
		return parse1(string(b))
	}
	if whole := fixed2 + int(binary.BigEndian.Uint16(b[14:])); len(b) > whole {
		return Header{}, fmt.Errorf("%d bytes behind a PROXY header", len(b)-whole)
	}
	return parse2(b)
}

// parse1 reads a line of version 1, section 2.1 of the specification.
func parse1(line string) (h Header, err error) {
	line = strings.TrimSuffix(line, "\r\n")
	if strings.ContainsAny(line, "\r\n") || len(line)+2 > maxHeader1 {
		return h, errors.New("a PROXY line that is none")
	}
	words := strings.Split(line, " ")
	if words[1] == "UNKNOWN" { // "the receiver must ignore anything presented before the CRLF is found"
		return h, nil
	}
	if len(words) != 6 {
		return h, fmt.Errorf("a PROXY line of %d words", len(words))
	}
	if h.Src, err = addr1(words[1], words[2], words[4]); err == nil {
		h.Dst, err = addr1(words[1], words[3], words[5])
	}
	if err != nil {
		return Header{}, err
	}
	return h, nil
}

func addr1(family, ip, port string) (a netip.AddrPort, err error) {
	addr, err := netip.ParseAddr(ip)
	if err != nil || addr.Zone() != "" {
		return a, fmt.Errorf("%q in a PROXY line is no address", ip)
	}
	if family != "TCP4" && family != "TCP6" || addr.Is4() != (family == "TCP4") {
		return a, fmt.Errorf("%q in a PROXY line of %q", ip, family)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || strconv.FormatUint(n, 10) != port {
		return a, fmt.Errorf("%q in a PROXY line is no port", port)
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(n)), nil
}

// parse2 reads a header of version 2, section 2.2 of the specification.
func parse2(b []byte) (h Header, err error) {
	if b[12]>>4 != 2 || b[12]&0xf > 1 {
		return h, fmt.Errorf("a PROXY header with version and command %#x", b[12])
	}
	own := b[12]&0xf == 0 // LOCAL: "the receiver must accept this connection as valid and must use the real connection endpoints"
	size, known := addressSize(b[13])
	rest := b[fixed2:]
	if own && b[13] == 0 {
		size = 0
	}
	if !known && !own {
		return h, fmt.Errorf("a PROXY header with family and protocol %#x", b[13])
	}
	if !known {
		return h, nil
	}
	if len(rest) < size {
		return h, errors.New("a PROXY header shorter than its addresses")
	}
	tlvs := rest[size:]
	if h.Identity, err = readTLVs(b, tlvs); err != nil || own {
		return Header{}, err
	}
	if h.Src, h.Dst, h.Datagram = addresses2(b[13], rest[:size]); !h.Src.IsValid() {
		return Header{}, nil
	}
	return h, nil
}

// addressSize returns how many bytes the addresses of a family take.
func addressSize(family byte) (size int, known bool) {
	switch family {
	case 0x00:
		return 0, true
	case 0x11, 0x12:
		return 2 * (4 + 2), true
	case 0x21, 0x22:
		return 2 * (16 + 2), true
	case 0x31, 0x32: // paths of Unix sockets
		return 2 * 108, true
	}
	return 0, false
}

func addresses2(family byte, b []byte) (src, dst netip.AddrPort, datagram bool) {
	n := 4
	switch family >> 4 {
	case 1:
	case 2:
		n = 16
	default:
		return src, dst, false
	}
	a, _ := netip.AddrFromSlice(b[:n])
	z, _ := netip.AddrFromSlice(b[n : 2*n])
	src = netip.AddrPortFrom(a.Unmap(), binary.BigEndian.Uint16(b[2*n:]))
	dst = netip.AddrPortFrom(z.Unmap(), binary.BigEndian.Uint16(b[2*n+2:]))
	return src, dst, family&0xf == 2
}

// readTLVs checks that what follows the addresses is well formed, and its checksum if it has one. whole is the header.
func readTLVs(whole, b []byte) (identity string, err error) {
	for len(b) > 0 {
		if len(b) < 3 || len(b) < 3+int(binary.BigEndian.Uint16(b[1:])) {
			return "", errors.New("a PROXY header with a TLV that is cut short")
		}
		n := 3 + int(binary.BigEndian.Uint16(b[1:]))
		switch value := b[3:n]; b[0] {
		case typeIdentity:
			identity = string(value)
		case typeCRC32C:
			if len(value) != 4 || !sumFits(whole, len(whole)-len(b)+3) {
				return "", errors.New("a PROXY header with a wrong checksum")
			}
		}
		b = b[n:]
	}
	return identity, nil
}

// sumFits checks the CRC-32C at a place of the header, section 2.2.4: it is computed with zeros there.
func sumFits(header []byte, at int) bool {
	table := crc32.MakeTable(crc32.Castagnoli)
	sum := crc32.Update(0, table, header[:at])
	sum = crc32.Update(sum, table, make([]byte, 4))
	sum = crc32.Update(sum, table, header[at+4:])
	return sum == binary.BigEndian.Uint32(header[at:])
}
