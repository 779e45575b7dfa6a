package load

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
)

// webSocket opens a WebSocket over HTTP/1.1 (RFC 6455) and then sends masked frames, each of which must come back as it is.
type webSocket struct {
	echo
	hello []byte
	head  []byte // of the answer, as far as it has come; nil once it was good
}

const wsKey = "cGlsbGlvbi1iZW5jaC0xNg==" // any 16 bytes

func newWebSocket(c *Config) *webSocket {
	w := &webSocket{echo: *newEcho(c)}
	w.request = frame(w.request)
	w.hello = fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n",
		c.Path, c.Host, wsKey)
	return w
}

// frame is a whole binary message of RFC 6455 section 5.2, with a mask of zeros.
func frame(payload []byte) []byte {
	b := []byte{0x82}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	return append(append(b, 0, 0, 0, 0), payload...)
}

// WebSocketAccept is the answer to a Sec-WebSocket-Key, RFC 6455 section 4.2.2.
func WebSocketAccept(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

func (w *webSocket) open(c *conn) bool {
	w.head = make([]byte, 0, 512)
	c.out = append(c.out, w.hello...)
	return false
}

func (w *webSocket) feed(c *conn, p []byte, now instant) error {
	if w.head == nil {
		return w.echo.feed(c, p, now)
	}
	w.head = append(w.head, p...)
	end := bytes.Index(w.head, []byte("\r\n\r\n"))
	switch {
	case end < 0 && len(w.head) > maxHead:
		return errors.New("an answer without an end to its head")
	case end < 0:
		return nil
	case end+4 < len(w.head):
		return errors.New("a WebSocket on which the server speaks first")
	}
	status, _, _ := bytes.Cut(w.head, []byte("\r\n"))
	if !bytes.HasPrefix(status, []byte("HTTP/1.1 101 ")) || !accepts(w.head) {
		return fmt.Errorf("no WebSocket: %s", status)
	}
	w.head = nil
	c.ready()
	return nil
}

// accepts reports whether a head has the right Sec-WebSocket-Accept.
func accepts(head []byte) bool {
	for line := range bytes.SplitSeq(head, []byte("\r\n")) {
		if name, value, _ := bytes.Cut(line, []byte(":")); bytes.EqualFold(name, []byte("Sec-WebSocket-Accept")) {
			return string(bytes.TrimSpace(value)) == WebSocketAccept(wsKey)
		}
	}
	return false
}
