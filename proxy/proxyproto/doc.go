// Package proxyproto reads and writes the header of the PROXY protocol, versions 1 and 2, by which a proxy tells an app for which client a
// connection is. It works on bytes: listeners/local decides who may send one, upstream/direct which app gets one.
//
// The specification is https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt; the type of the TLV that holds a SPIFFE ID is ztunnel's.
package proxyproto

import "net/netip"

// Version is a version of the protocol; None is no header.
type Version int

// The versions.
const (
	None Version = iota
	V1
	V2
)

// Header is what a header says.
type Header struct {
	// Src is the client and Dst the address that it connected to. Both are zero where the header names no client: it is
	// the sender's own connection, a check of health for example, or one that has no IP addresses.
	Src, Dst netip.AddrPort
	// Datagram says that these are addresses of UDP. Version 1 has no words for that.
	Datagram bool
	// Identity is the client's SPIFFE ID, "" if unknown. Only version 2 carries it.
	Identity string
}

const (
	signature  = "\r\n\r\n\x00\r\nQUIT\n"
	fixed2     = 16       // bytes of version 2 before the addresses
	maxHeader1 = 107      // bytes, of which the specification says that it is enough for every line
	maxHeader2 = 4 << 10  // bytes; with TLVs as large proxies send them a few hundred
	prefix1    = "PROXY " // begins version 1
	shortest1  = len("PROXY UNKNOWN\r\n")
)

// MaxHeader is the longest header that is read, in bytes.
const MaxHeader = maxHeader2

// TLV types.
const (
	typeCRC32C   = 0x03
	typeIdentity = 0xd0 // as ztunnel has it
)
