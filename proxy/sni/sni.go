// Package sni reads the name of the server out of the ClientHello with which a TLS connection begins, and writes the alert that refuses
// one. It changes nothing, decrypts nothing, and does not check what it does not need: listeners/local passes the bytes on as they came.
//
// Formats: the records and handshake messages of RFC 8446 sections 4.1.2 and 5.1, the extension of RFC 6066 section 3. Of an encrypted
// ClientHello (RFC 9849) the outer name is what can be seen.
package sni

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// ErrNoName is returned for a whole ClientHello that names no server.
var ErrNoName = errors.New("the ClientHello names no server (no SNI)")

// MaxHello is the longest ClientHello that is read, in bytes. A client with several post-quantum key shares needs a quarter of that.
const MaxHello = 16 << 10

const (
	recordHandshake  = 22
	recordAlert      = 21
	helloMessage     = 1
	extServerName    = 0
	nameTypeHost     = 0
	maxRecord        = 1 << 14 // bytes; RFC 8446 section 5.1
	maxName          = 253     // bytes of a DNS name as text
	recordHeader     = 5       // bytes
	messageHeader    = 4       // bytes
	afterVersion     = 2 + 32  // bytes of legacy_version and random
	levelFatal       = 2
	legacyVersionMin = 3 // major version of every TLS, SSL 3 included
)

// Name returns the name that the ClientHello at the beginning of b asks for, in lower case as it stands there. ok is false while more bytes are needed. err
// is ErrNoName, or says why this is no ClientHello; it is never nil together with an empty name if ok.
func Name(b []byte) (name string, ok bool, err error) {
	hello, ok, err := message(b)
	if !ok || err != nil {
		return "", ok, err
	}
	ext, err := extensions(hello)
	if err != nil {
		return "", true, err
	}
	for len(ext) > 0 {
		var kind uint16
		var data []byte
		if kind, data, ext, err = nextExtension(ext); err != nil {
			return "", true, err
		}
		if kind == extServerName {
			name, err = hostName(data)
			return name, true, err
		}
	}
	return "", true, ErrNoName
}

// message returns the body of the ClientHello, put together from as many records as it was cut into.
func message(b []byte) (body []byte, ok bool, err error) {
	var msg []byte // what the records so far held
	for {
		piece, rest, ok, err := record(b)
		if err != nil {
			return nil, true, err
		}
		if !ok {
			return nil, false, nil
		}
		if msg == nil {
			msg = slices.Clip(piece) // not copied: there is one record as a rule
		} else {
			msg = append(msg, piece...)
		}
		if body, ok, err = handshake(msg); ok {
			return body, true, err
		}
		b = rest
	}
}

// handshake returns the body of the handshake message that b begins with, once that is complete.
func handshake(b []byte) (body []byte, ok bool, err error) {
	if len(b) < messageHeader {
		return nil, false, nil
	}
	if b[0] != helloMessage {
		return nil, true, fmt.Errorf("a handshake message of type %d instead of a ClientHello", b[0])
	}
	n := int(b[1])<<16 | int(b[2])<<8 | int(b[3])
	if n > MaxHello {
		return nil, true, fmt.Errorf("a ClientHello of %d bytes, of which %d are read at most", n, MaxHello)
	}
	if len(b) < messageHeader+n {
		return nil, false, nil
	}
	return b[messageHeader : messageHeader+n], true, nil
}

// record takes one record off b. ok is false while it is incomplete.
func record(b []byte) (content, rest []byte, ok bool, err error) {
	if len(b) > 0 && b[0] != recordHandshake {
		return nil, nil, false, fmt.Errorf("a record of type %d instead of a handshake", b[0])
	}
	if len(b) > 1 && b[1] != legacyVersionMin {
		return nil, nil, false, fmt.Errorf("a record of version %d", b[1])
	}
	if len(b) < recordHeader {
		return nil, nil, false, nil
	}
	n := int(binary.BigEndian.Uint16(b[3:]))
	if n == 0 || n > maxRecord {
		return nil, nil, false, fmt.Errorf("a record of %d bytes", n)
	}
	if len(b) < recordHeader+n {
		return nil, nil, false, nil
	}
	return b[recordHeader : recordHeader+n], b[recordHeader+n:], true, nil
}

var errHello = errors.New("a ClientHello whose lengths do not fit")

// extensions skips what comes before them: RFC 8446 section 4.1.2.
func extensions(b []byte) ([]byte, error) {
	if len(b) < afterVersion {
		return nil, errHello
	}
	b = b[afterVersion:]
	for _, size := range []int{1, 2, 1} { // legacy_session_id, cipher_suites, legacy_compression_methods
		var err error
		if _, b, err = vector(b, size); err != nil {
			return nil, err
		}
	}
	if len(b) == 0 { // TLS 1.2 allows a ClientHello without extensions
		return nil, nil
	}
	ext, rest, err := vector(b, 2)
	if err == nil && len(rest) > 0 {
		err = errHello
	}
	return ext, err
}

// vector takes a vector off b, whose length has size bytes.
func vector(b []byte, size int) (content, rest []byte, err error) {
	if len(b) < size {
		return nil, nil, errHello
	}
	n := 0
	for _, x := range b[:size] {
		n = n<<8 | int(x)
	}
	b = b[size:]
	if len(b) < n {
		return nil, nil, errHello
	}
	return b[:n], b[n:], nil
}

func nextExtension(b []byte) (kind uint16, data, rest []byte, err error) {
	if len(b) < 2 {
		return 0, nil, nil, errHello
	}
	data, rest, err = vector(b[2:], 2)
	return binary.BigEndian.Uint16(b), data, rest, err
}

// hostName reads the extension of RFC 6066 section 3, which holds one name of the one type that there is.
func hostName(b []byte) (string, error) {
	list, rest, err := vector(b, 2)
	if err != nil || len(rest) > 0 || len(list) == 0 {
		return "", errHello
	}
	if list[0] != nameTypeHost {
		return "", ErrNoName
	}
	name, _, err := vector(list[1:], 2)
	if err != nil {
		return "", errHello
	}
	return checkName(name)
}

// checkName lets through what can be the name of a host or of a service.
func checkName(b []byte) (string, error) {
	if len(b) == 0 {
		return "", ErrNoName
	}
	if len(b) > maxName {
		return "", fmt.Errorf("a server name of %d bytes", len(b))
	}
	name := make([]byte, len(b))
	for i, c := range b {
		switch {
		case c >= 'A' && c <= 'Z':
			c |= 0x20
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '.', c == '_':
		default:
			return "", fmt.Errorf("a server name %q, which is none", b)
		}
		name[i] = c
	}
	return string(name), nil
}

// Alert is why a connection is refused, RFC 8446 section 6.2.
type Alert byte

// The alerts that refuse a ClientHello.
const (
	DecodeError      Alert = 50
	AccessDenied     Alert = 49
	InternalError    Alert = 80
	MissingExtension Alert = 109
	UnrecognizedName Alert = 112
)

// AppendAlert appends the record of a fatal alert, as a server sends it in answer to a ClientHello.
func AppendAlert(b []byte, a Alert) []byte {
	return append(b, recordAlert, 3, 3, 0, 2, levelFatal, byte(a))
}
