package demo

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// chain asks the shop, which asks orders, which asks billing, and checks what each said and who each saw.
func (d *driver) chain(ctx context.Context) error {
	n := rand.IntN(1000)
	var p page
	if err := fetchJSON(ctx, d.visitor, fmt.Sprintf("%s/shop/%d", d.t.Shop, n), "", &p); err != nil {
		return err
	}
	want := page{App: web, Caller: d.identity(billing), Order: order{
		Number: n, Item: itemOf(n), Caller: d.identity(web),
		Invoice: invoice{Number: n, Cents: centsOf(n), Caller: d.identity(orders)},
	}}
	if p != want {
		return fmt.Errorf("order %d: got %+v, want %+v", n, p, want)
	}
	return nil
}

// echo posts a body of known length, up to 64 KiB, or sometimes 1 MiB.
func (d *driver) echo(ctx context.Context) error {
	body := payload(rand.IntN(64 << 10))
	if rand.IntN(20) == 0 {
		body = payload(1 << 20)
	}
	return d.post(ctx, "length", body, bytes.NewReader(body))
}

// chunked posts a body whose length is not told.
func (d *driver) chunked(ctx context.Context) error {
	body := payload(1 + rand.IntN(128<<10))
	return d.post(ctx, "chunked", body, struct{ io.Reader }{bytes.NewReader(body)})
}

// post sends body to /echo and checks the answer, its digest and how the request was framed when it arrived.
func (d *driver) post(ctx context.Context, framing string, body []byte, r io.Reader) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.t.Orders+"/echo", r)
	if err != nil {
		return err
	}
	client := d.app
	if rand.IntN(4) == 0 {
		client = d.fresh
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return statusError(resp)
	}
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("read the echo of %d bytes: %w", len(body), err)
	}
	switch {
	case !bytes.Equal(got, body):
		return fmt.Errorf("sent %d bytes, got %d other ones", len(body), len(got))
	case resp.Header.Get("X-Digest") != digest(body):
		return fmt.Errorf("the app received other bytes than the %d sent", len(body))
	case resp.ContentLength != int64(len(body)):
		return fmt.Errorf("the answer's length: got %d, want %d", resp.ContentLength, len(body))
	case len(body) > 0 && resp.Header.Get("X-Framing") != framing:
		return fmt.Errorf("the body arrived with framing %q, want %q", resp.Header.Get("X-Framing"), framing)
	}
	return nil
}

// upgrade switches to a protocol of the app's own and talks in lines.
func (d *driver) upgrade(ctx context.Context) error {
	return d.switchTo(ctx, "/lines", linesToken, "", func(c *net.TCPConn, in *bufio.Reader, _ *http.Response) error { return talkLines(c, in) })
}

// webSocket opens a WebSocket, and is content when its frames and the reasons for its end are untouched.
func (d *driver) webSocket(ctx context.Context) error {
	key := base64.StdEncoding.EncodeToString(payload(16))
	fields := "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key + "\r\nSec-WebSocket-Protocol: " + wsProtocol + "\r\n"
	return d.switchTo(ctx, "/socket", "websocket", fields, func(c *net.TCPConn, in *bufio.Reader, resp *http.Response) error {
		if got := resp.Header.Get("Sec-WebSocket-Accept"); got != wsAcceptFor(key) || resp.Header.Get("Sec-WebSocket-Protocol") != wsProtocol {
			return fmt.Errorf("the answer accepts with %q and %q", got, resp.Header.Get("Sec-WebSocket-Protocol"))
		}
		return talkWebSocket(c, in)
	})
}

// switchTo asks orders to speak something else, and talks once that has agreed.
func (d *driver) switchTo(ctx context.Context, path, token, fields string, talk func(*net.TCPConn, *bufio.Reader, *http.Response) error) error {
	u, err := url.Parse(d.t.Orders)
	if err != nil {
		return err
	}
	at := u.Host
	if d.t.Proxy != "" {
		at = strings.TrimPrefix(d.t.Proxy, "http://")
	}
	c, closeConn, err := dialStream(ctx, at)
	if err != nil {
		return err
	}
	defer closeConn()
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: %s\r\n%s\r\n", d.t.Orders+path, u.Host, token, fields); err != nil {
		return err
	}
	in := bufio.NewReader(c)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		return fmt.Errorf("the answer to Upgrade: %w", err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return statusError(resp)
	}
	if got := resp.Header.Get("Upgrade"); got != token {
		return fmt.Errorf("the answer upgrades to %q, not %q", got, token)
	}
	return talk(c, in, resp)
}

// trailers sends trailers and expects trailers, over chunks both ways.
func (d *driver) trailers(ctx context.Context) error {
	body := payload(1 + rand.IntN(64<<10))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.t.Orders+"/trailers", struct{ io.Reader }{bytes.NewReader(body)})
	if err != nil {
		return err
	}
	want := digest(body)
	req.Trailer = http.Header{"X-Digest": {want}}
	resp, err := d.app.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return statusError(resp)
	}
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("read %d bytes in chunks: %w", len(body), err)
	}
	if !bytes.Equal(got, body) {
		return fmt.Errorf("sent %d bytes, got %d other ones", len(body), len(got))
	}
	for _, name := range []string{"X-Digest", "X-Sent-Digest"} {
		if resp.Trailer.Get(name) != want {
			return fmt.Errorf("trailer %s: got %q, want %q", name, resp.Trailer.Get(name), want)
		}
	}
	return nil
}
