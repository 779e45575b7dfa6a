package demo

import (
	"net/http"
	"strconv"
	"strings"
)

// rpcHandler answers calls by their path.
type rpcHandler map[string]func(*serverCall) error

func (h rpcHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost || !strings.HasPrefix(r.Header.Get("Content-Type"), grpcContent) {
		http.Error(w, "this port speaks gRPC only", http.StatusUnsupportedMediaType)
		return
	}
	c := &serverCall{r: r, w: w, trailer: make(http.Header)}
	w.Header().Set("Content-Type", grpcContent)
	method := h[r.URL.Path]
	switch {
	case method == nil:
		c.end(rpcErrorf(codeUnimplemented, "no method %s", r.URL.Path))
	case r.Header.Get("Te") != "trailers": // "Used to detect incompatible proxies"
		c.end(rpcErrorf(codeInternal, "te is %q, want trailers", r.Header.Get("Te")))
	default:
		c.end(method(c))
	}
}

// serverCall is the server's side of one call.
type serverCall struct {
	r       *http.Request
	w       http.ResponseWriter
	trailer http.Header // metadata that goes with the status
	sent    bool        // a message, and so the header
}

// header is the metadata that goes before the first message.
func (c *serverCall) header() http.Header { return c.w.Header() }

// recv returns the next message, or io.EOF.
func (c *serverCall) recv() ([]byte, error) { return readMessage(c.r.Body) }

func (c *serverCall) send(msg []byte) error {
	c.sent = true
	if _, err := c.w.Write(appendMessage(nil, msg)); err != nil {
		return err
	}
	return http.NewResponseController(c.w).Flush()
}

// end sends the status. Without a message before it the answer is "Trailers-Only": one block of fields is all.
func (c *serverCall) end(err error) {
	c.trailer.Set("Grpc-Status", strconv.Itoa(codeOf(err)))
	if err != nil {
		c.trailer.Set("Grpc-Message", percentEncode(messageOf(err)))
	}
	prefix := ""
	if c.sent {
		prefix = http.TrailerPrefix
	}
	for name, values := range c.trailer {
		c.w.Header()[prefix+name] = values
	}
}

// asNumber returns the number that msg is.
func asNumber(msg []byte) (int, error) {
	n, err := strconv.Atoi(string(msg))
	if err != nil {
		return 0, rpcErrorf(codeInvalidArgument, "no number: %q", msg)
	}
	return n, nil
}

// number returns the number that is the only message of the client.
func (c *serverCall) number() (int, error) {
	msg, err := readOnly(c.r.Body)
	if err != nil {
		return 0, rpcErrorf(codeInternal, "%v", err)
	}
	return asNumber(msg)
}
