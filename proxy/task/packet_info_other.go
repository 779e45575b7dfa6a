//go:build !linux

package task

import "net/netip"

// Elsewhere the system chooses the address that answers come from, and does not tell what it has dropped.

const infoSize = 0

func wantInfo(int, netip.Addr) bool { return false }

func parseInfo([]byte) netip.Addr { return netip.Addr{} }

func appendInfo(b []byte, _ netip.Addr, _ bool) []byte { return b }

func kernelLost(int) uint64 { return 0 }
