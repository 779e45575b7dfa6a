package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"time"
)

// slowApp wants the whole answer of an app that takes its time: no timeout applies unless one is configured.
func (d *driver) slowApp(ctx context.Context) error {
	const wait = 300 * time.Millisecond
	resp, err := get(ctx, d.app, d.t.Orders+"/slow?for="+wait.String())
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return statusError(resp)
	}
	return wantRest(resp.Body, fmt.Sprintf("slow but sure: %v\n", wait))
}

// timeout asks a slow app with little time: the caller must hear of it as 504 timeout, before the app is done.
func (d *driver) timeout(ctx context.Context) error {
	if d.t.Hurried == "" {
		return nil
	}
	resp, err := get(ctx, d.app, d.t.Hurried+"/slow?for="+(probeTimeout-time.Second).String())
	return wantCode(resp, err, http.StatusGatewayTimeout, "timeout")
}

// appCloses posts to an app that closes without an answer: the caller must hear of it as 502 app_closed.
func (d *driver) appCloses(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.t.Orders+"/close", strings.NewReader("anything"))
	if err != nil {
		return err
	}
	resp, err := d.fresh.Do(req)
	if err != nil && ctx.Err() != nil {
		return ctx.Err() // nobody closed
	}
	if d.t.Proxy == "" {
		if err == nil {
			resp.Body.Close()
			return errors.New("an answer came from an app that gave none")
		}
		return nil
	}
	return wantCode(resp, err, http.StatusBadGateway, "app_closed")
}

// answerCut gets an answer that ends before its Content-Length: it must not look complete.
func (d *driver) answerCut(ctx context.Context) error {
	resp, err := get(ctx, d.app, d.t.Orders+"/cut")
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) {
		return nil // cut before its head was passed on: as good
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	switch {
	case resp.StatusCode == http.StatusBadGateway:
		return nil // cut before its head was passed on, and reported
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("an answer cut short became %s: %s", resp.Status, oneLine(string(body)))
	case err == nil:
		return fmt.Errorf("an answer cut short was presented as a complete one of %d bytes", len(body))
	}
	return nil
}

// denied calls from where the ledger does not let callers in.
func (d *driver) denied(ctx context.Context) error {
	if d.t.Stranger == "" {
		return nil
	}
	resp, err := get(ctx, d.outside, fmt.Sprintf("http://orders:%d/", ledgerPort))
	return wantCode(resp, err, http.StatusForbidden, "denied")
}

// unknownService asks for a name that is no service.
func (d *driver) unknownService(ctx context.Context) error {
	if d.t.Proxy == "" {
		return nil // nobody there to know the services
	}
	resp, err := get(ctx, d.app, "http://nosuchservice/")
	return wantCode(resp, err, http.StatusBadGateway, "unknown_service")
}

func get(ctx context.Context, c *http.Client, url string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	return c.Do(req)
}

// codeField is where pillion names what went wrong, in the answers that it makes itself.
const codeField = "Pillion-Error"

// wantCode expects an answer that pillion made itself, with this status and naming this code.
func wantCode(resp *http.Response, err error, status int, code string) error {
	if err != nil {
		return fmt.Errorf("want %d %s: %w", status, code, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 10<<10))
	if err != nil {
		return err
	}
	if resp.StatusCode != status || resp.Header.Get(codeField) != code {
		return fmt.Errorf("want %d %s: got %s: %s", status, code, resp.Status, oneLine(string(text)))
	}
	return nil
}
