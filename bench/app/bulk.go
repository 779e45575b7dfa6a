package app

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
)

// chunk is what one Write of a large answer hands over. It is read only, and made when it is needed: sidecars have this package in them.
var chunk = sync.OnceValue(func() []byte { return bytes.Repeat([]byte("x"), 256<<10) }) // bytes

// NewBulk answers GET /N over HTTP/1.1 with N bytes. It takes a body with a Content-Length and throws it away.
func NewBulk() (*Server, error) { return newServer(serveBulk) }

func serveBulk(c net.Conn) {
	r, chunk := bufio.NewReaderSize(c, 64<<10), chunk()
	for {
		size, err := readRequest(r)
		if err != nil {
			return
		}
		head := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n", size)
		if size <= 16<<10 {
			head, size = append(head, chunk[:size]...), 0
		}
		if _, err := c.Write(head); err != nil {
			return
		}
		for size > 0 {
			n, err := c.Write(chunk[:min(size, len(chunk))])
			if err != nil {
				return
			}
			size -= n
		}
	}
}

// readRequest reads a head and its body, and returns the number in the path.
func readRequest(r *bufio.Reader) (int, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return 0, err
	}
	words := strings.Fields(line)
	if len(words) != 3 {
		return 0, fmt.Errorf("request line %q", line)
	}
	size, err := strconv.Atoi(strings.TrimPrefix(words[1], "/"))
	if err != nil || size < 0 {
		return 0, fmt.Errorf("request line %q: want a size as path", line)
	}
	body := 0
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		if len(bytes.TrimSpace(line)) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		if bytes.EqualFold(name, []byte("Content-Length")) {
			if body, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return 0, err
			}
		}
	}
	_, err = io.CopyN(io.Discard, r, int64(body))
	return size, err
}

// fresh is the field of answers that may be kept for an hour.
const fresh = "Cache-Control: max-age=3600\r\n"
