package http3

import "github.com/pillion-proxy/pillion/proxy/task"

// tunnelStream is the proxy.Stream over a stream.
type tunnelStream struct {
	st    *stream
	reset ErrCode // for Reset
}

// Read waits for bytes; io.EOF after the orderly end of the peer's half.
func (t *tunnelStream) Read(p []byte) (int, error) { return t.st.read(p) }

// WaitReadable waits until Read would not wait.
func (t *tunnelStream) WaitReadable() error { return t.st.waitReadable() }

// Write waits until QUIC has taken all of p.
func (t *tunnelStream) Write(p []byte) (int, error) { return t.st.send(p) }

// CloseWrite ends our half in order.
func (t *tunnelStream) CloseWrite() error { return t.st.closeWrite() }

// Close releases the Stream, and resets it if a direction is still open.
func (t *tunnelStream) Close() error {
	t.st.c.endWith(t.st, task.ErrClosed, ErrRequestCancelled)
	return nil
}

// Reset resets both directions.
func (t *tunnelStream) Reset() error {
	t.st.c.endWith(t.st, task.ErrClosed, t.reset)
	return nil
}
