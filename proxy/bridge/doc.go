// Package bridge carries an Exchange, a Stream or a Flow from one shard to another. QUIC lives on ordinary goroutines: a task of a
// loop that uses a Link over QUIC crosses once each way, and its other half runs in a task of a goroutine shard. The two shards may be of
// any runtime.
//
// # What crosses
//
// The heads are copied, so that their strings live as long on each side as that side needs them, whatever the other does. Bytes
// go through pipes of pooled chunks, each bounded: who fills one waits until the other side has made room. Trailers, 1xx answers, ends and resets cross as
// such. A datagram that finds its queue full is dropped and counted.
//
// A request without content is begun in the near task, if the far side is a Beginner, so that what a loop sends in one turn goes in one packet.
//
// # Waking
//
// A side that waits does so at a Gate of its own shard. The other side wakes it only when it waits, and by task.Waker: on a loop
// a Post, of which the loop takes all at once. A near side that has woken or begun a far one says so by task.HandOver.
//
// # Teardown
//
// An exchange is one object with two halves. The near half ends with an error of RoundTrip or with Response.Close; the far half ends when the RoundTripper
// there is done. Whichever ends first ends the other: near by cancelling, which resets what runs, far by the error or the end that the
// near side then reads. Neither waits for the other.
package bridge
