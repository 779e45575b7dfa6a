package task

type bufferState uint8

const (
	bufferForeign bufferState = iota // made by hand: never pooled, never counted
	bufferTaken
	bufferFree
)

// newBuffer returns a taken buffer.
func newBuffer() *Buffer { return &Buffer{B: make([]byte, BufferSize), state: bufferTaken} }

// take marks a buffer that comes out of a pool.
func (b *Buffer) take() { b.R, b.W, b.state = 0, 0, bufferTaken }

// release marks b as free. counted is whether b came from a pool, keep whether it may return there.
func (b *Buffer) release() (counted, keep bool) {
	switch b.state {
	case bufferFree:
		panic("task: Buffer freed twice")
	case bufferForeign:
		return false, false
	}
	b.state = bufferFree
	return true, len(b.B) == BufferSize || len(b.B) == DatagramSize
}

// maxLarge bounds the buffers of DatagramSize that a loop keeps for reuse. Tasks hold one for no longer than a datagram, or until the other side
// of a bulk transfer has taken it.
const maxLarge = 64

func newLarge() *Buffer { return &Buffer{B: make([]byte, DatagramSize), state: bufferTaken} }
