package proxy

import "io"

// Content is a Body that is there as a whole. The zero value is an empty one. It is read by one task at a time.
type Content struct {
	Left []byte // what has not been read yet; it is not written to
	End  Fields // Trailers
}

// Read implements Body.
func (c *Content) Read(p []byte) (int, error) {
	if len(c.Left) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.Left)
	c.Left = c.Left[n:]
	return n, nil
}

// Buffered implements Body.
func (c *Content) Buffered() int {
	if len(c.Left) == 0 {
		return -1
	}
	return len(c.Left)
}

// Trailers implements Body.
func (c *Content) Trailers() Fields { return c.End }

// Close implements Body: there is nothing to be given back.
func (c *Content) Close() error { return nil }
