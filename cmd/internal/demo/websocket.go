package demo

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
)

// Opcodes of RFC 6455 section 5.2.
const (
	wsContinue = 0x0
	wsBinary   = 0x2
	wsClose    = 0x8
	wsPing     = 0x9
	wsPong     = 0xa
	wsFin      = 0x80 // the last frame of a message
)

// wsProtocol is the subprotocol that the demo speaks.
const wsProtocol = "echo.example.com"

// wsAcceptFor is the answer to a Sec-WebSocket-Key, RFC 6455 section 4.2.2.
func wsAcceptFor(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// wsFrame is a frame as it is on the wire, but for the mask: its first byte and its payload.
type wsFrame struct {
	first   byte
	payload []byte
}

// appendTo appends the frame; clients mask theirs.
func (f wsFrame) appendTo(b []byte, masked bool) []byte {
	bit := byte(0)
	if masked {
		bit = 0x80
	}
	b = append(b, f.first)
	switch n := len(f.payload); {
	case n < 126:
		b = append(b, bit|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, bit|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, bit|127), uint64(n))
	}
	if !masked {
		return append(b, f.payload...)
	}
	var mask [4]byte
	binary.BigEndian.PutUint32(mask[:], rand.Uint32())
	b = append(b, mask[:]...)
	for i, c := range f.payload {
		b = append(b, c^mask[i%4])
	}
	return b
}

// readFrame reads a frame that must be masked, or must not.
func readFrame(r io.Reader, masked bool) (f wsFrame, err error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return f, err
	}
	f.first = head[0]
	n := uint64(head[1] & 0x7f)
	var long [8]byte
	switch n {
	case 126:
		_, err = io.ReadFull(r, long[6:])
	case 127:
		_, err = io.ReadFull(r, long[:])
	}
	if n >= 126 {
		n = binary.BigEndian.Uint64(long[:])
	}
	var mask [4]byte
	if err == nil && masked {
		_, err = io.ReadFull(r, mask[:])
	}
	switch {
	case err != nil:
		return f, err
	case masked != (head[1]&0x80 != 0):
		return f, fmt.Errorf("a frame with the first bytes %x, want masked to be %v", head, masked)
	case n > maxEcho:
		return f, fmt.Errorf("a frame of %d bytes", n)
	}
	f.payload = make([]byte, n)
	_, err = io.ReadFull(r, f.payload)
	for i := range f.payload {
		f.payload[i] ^= mask[i%4]
	}
	return f, err
}

// serveWebSocket sends back every frame as it came, answers pings, and closes when it is asked to.
func serveWebSocket(w http.ResponseWriter, r *http.Request) {
	key := r.Header.Get("Sec-WebSocket-Key")
	if r.Header.Get("Upgrade") != "websocket" || key == "" || r.Header.Get("Sec-WebSocket-Protocol") != wsProtocol {
		http.Error(w, "this is a WebSocket with the protocol "+wsProtocol, http.StatusUpgradeRequired)
		return
	}
	c, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer c.Close()
	_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Accept: "+wsAcceptFor(key)+"\r\nSec-WebSocket-Protocol: "+wsProtocol+"\r\n\r\n")
	for {
		f, err := readFrame(buf, true)
		if err != nil {
			return
		}
		if f.first == wsFin|wsPing {
			f.first = wsFin | wsPong
		}
		if _, err := c.Write(f.appendTo(nil, false)); err != nil || f.first == wsFin|wsClose {
			return
		}
	}
}

// talkWebSocket is the client's side: messages in fragments with pings between them, and an end that both agree on.
func talkWebSocket(c io.Writer, in *bufio.Reader) error {
	for range 1 + rand.IntN(5) {
		frames := []wsFrame{{wsBinary, payload(rand.IntN(100_000))}}
		for range rand.IntN(3) {
			frames = append(frames, wsFrame{wsFin | wsPing, payload(rand.IntN(100))}, wsFrame{wsContinue, payload(rand.IntN(300))})
		}
		frames = append(frames, wsFrame{wsFin | wsContinue, payload(rand.IntN(300))})
		for _, f := range frames {
			if err := wantFrame(c, in, f); err != nil {
				return err
			}
		}
	}
	enough := append(binary.BigEndian.AppendUint16(nil, 4000), "enough"...)
	if err := wantFrame(c, in, wsFrame{wsFin | wsClose, enough}); err != nil {
		return err
	}
	return wantRest(in, "")
}

// wantFrame sends a frame and compares what comes back.
func wantFrame(c io.Writer, in *bufio.Reader, f wsFrame) error {
	if _, err := c.Write(f.appendTo(nil, true)); err != nil {
		return err
	}
	got, err := readFrame(in, false)
	if err != nil {
		return fmt.Errorf("the answer to a frame of %d bytes: %w", len(f.payload), err)
	}
	if f.first == wsFin|wsPing {
		f.first = wsFin | wsPong
	}
	if got.first != f.first || string(got.payload) != string(f.payload) {
		return fmt.Errorf("a frame %#x of %d bytes came back as %#x of %d bytes, or with others", f.first, len(f.payload), got.first, len(got.payload))
	}
	return nil
}
