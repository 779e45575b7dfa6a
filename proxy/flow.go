package proxy

import "errors"

// MaxDatagram is the most bytes that one datagram of a Flow holds: what UDP takes over IPv6 without jumbograms (RFC 9298 section 5).
const MaxDatagram = 65527

// ConnectUDP is the Upgrade token of a request that asks for a Flow (RFC 9298). Its Path names the target.
const ConnectUDP = "connect-udp"

// ErrDatagramTooLong is what Send returns for more than MaxDatagram bytes, or more than what carries the Flow takes by any means.
// The Flow goes on.
var ErrDatagramTooLong = errors.New("datagram too long")

// Flow is datagrams both ways, their boundaries kept. Like any datagram they may be lost or overtaken; what a Flow loses by itself
// it counts. One task may receive while another sends. All methods are called on the Flow's shard. A Flow may be a Waiter: who has
// many of them waits with WaitReadable, and takes a buffer only then.
type Flow interface {
	// Receive waits for the next datagram, copies it to p and returns its length, which may be 0. A datagram longer than p is
	// dropped. io.EOF: the other side has ended the Flow; any other error: it broke.
	Receive(p []byte) (int, error)
	// Send passes one datagram on, without waiting and without keeping p: one that cannot be sent now is dropped and counted, and
	// is no error. An error other than ErrDatagramTooLong means that the Flow is over.
	Send(p []byte) error
	// Close ends both directions. It never waits and is idempotent. Send fails from then on; Receive gives no more datagrams, and returns an error at
	// once, or, where the other side can tell an orderly end from a broken one, when that has ended too, for which it has a few seconds.
	Close() error
}

// Offerer is implemented by Streams that can write without waiting, as a Flow on a Stream needs it.
type Offerer interface {
	// Offer writes head and body, in this order and whole, or, if there is no room for both now, nothing: then it returns false. It keeps neither.
	// It is not called while a Write is under way.
	Offer(head, body []byte) (bool, error)
}
