package demo

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
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

// upgrade switches protocols and talks in lines, as a WebSocket client does.
func (d *driver) upgrade(ctx context.Context) error {
	target := d.t.Orders + "/lines"
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
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", target, u.Host, linesToken); err != nil {
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
	if got := resp.Header.Get("Upgrade"); got != linesToken {
		return fmt.Errorf("the answer upgrades to %q, not %q", got, linesToken)
	}
	return talkLines(c, in)
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
