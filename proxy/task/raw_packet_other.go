//go:build !unix

package task

import (
	"net"
	"net/netip"
)

const msgTrunc = 0

// rawPacket does here what package net offers: a wait takes no look ahead, and a send may wait for a moment.
type rawPacket struct{ nc *net.UDPConn }

func newRawPacket(nc *net.UDPConn) *rawPacket { return &rawPacket{nc} }

func (r *rawPacket) isIPv6() bool             { return false }
func (r *rawPacket) wantInfo(netip.Addr) bool { return false }
func (r *rawPacket) lost() uint64             { return 0 }
func (r *rawPacket) awaitReadable() error     { return nil }

func (r *rawPacket) send(p, _ []byte, to netip.AddrPort, _ bool) error {
	var err error
	if to.IsValid() {
		_, err = r.nc.WriteToUDPAddrPort(p, to)
	} else {
		_, err = r.nc.Write(p)
	}
	return err
}
