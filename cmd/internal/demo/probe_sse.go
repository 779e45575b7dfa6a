package demo

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
)

const eventCount = 5 // events of one feed

// events reads a feed whose next event is sent only after the last was acknowledged.
func (d *driver) events(ctx context.Context) error {
	id := fmt.Sprintf("%016x", rand.Uint64())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/events?id=%s&n=%d", d.t.Orders, id, eventCount), nil)
	if err != nil {
		return err
	}
	resp, err := d.app.Do(req)
	if err != nil {
		return fmt.Errorf("open the feed: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return statusError(resp)
	}
	if got := resp.Header.Get("Content-Type"); got != "text/event-stream" {
		return fmt.Errorf("content type: got %q, want text/event-stream", got)
	}
	in := bufio.NewReader(resp.Body)
	for i := range eventCount {
		want := fmt.Sprintf("id: %d\ndata: order %d is a %s\n\n", i, i, itemOf(i))
		got := make([]byte, len(want))
		if _, err := io.ReadFull(in, got); err != nil {
			return fmt.Errorf("event %d of %d did not arrive: %w", i+1, eventCount, err)
		}
		if string(got) != want {
			return fmt.Errorf("event %d: got %q, want %q", i+1, got, want)
		}
		if err := d.acknowledge(ctx, id); err != nil {
			return fmt.Errorf("acknowledge event %d: %w", i+1, err)
		}
	}
	if rest, err := io.ReadAll(in); err != nil || len(rest) > 0 {
		return fmt.Errorf("after the last event: got %q and %v, want the end", rest, err)
	}
	return nil
}

// acknowledge lets the feed send its next event.
func (d *driver) acknowledge(ctx context.Context, id string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.t.Orders+"/events/ack?id="+id, strings.NewReader("seen"))
	if err != nil {
		return err
	}
	resp, err := d.app.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		return statusError(resp)
	}
	return nil
}
