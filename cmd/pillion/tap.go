package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pillion-proxy/pillion/proxy/tap"
)

// tapCommand shows requests as they happen.
func tapCommand() *cobra.Command {
	var (
		client adminClient
		out    format
		filter [9]string
		n      int
		rate   int
		heads  bool
		body   int
		length time.Duration
	)
	names := [...]string{"direction", "shape", "service", "peer", "method", "path", "status", "header", "slower"}
	c := &cobra.Command{
		Use:   "tap",
		Short: "Show requests as they happen",
		Long: `Prints a line for each Exchange as it ends, and for each Stream and Flow as it opens and as it ends, of those that pass all filters. Who watches
slowly misses some, and is told how many; no request waits for that.`,
		Example: "  pillion tap\n  pillion tap --service billing --status 5xx\n  pillion tap --path /orders --slower 100ms --heads\n  pillion tap -o json | jq .path",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := url.Values{"rate": {strconv.Itoa(rate)}, "body": {strconv.Itoa(body)}}
			for i, name := range names {
				if filter[i] != "" {
					q.Set(name, filter[i])
				}
			}
			if heads {
				q.Set("heads", "1")
			}
			ctx := cmd.Context()
			if length > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, length)
				defer cancel()
			}
			p := newPrinter(cmd.OutOrStdout())
			seen := 0
			err := client.follow(ctx, "/tap?"+q.Encode(), func(line []byte) bool {
				var e tap.Event
				if json.Unmarshal(line, &e) != nil {
					return true
				}
				if out.json() {
					p.w.Write(append(line, '\n'))
				} else {
					printEvent(p, &e)
				}
				seen++
				return n == 0 || seen < n
			})
			if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
				return nil
			}
			return err
		},
	}
	client.add(c)
	out.add(c)
	f := c.Flags()
	for i, help := range [...]string{"outbound or inbound", "exchange, stream or flow", "a service by its name", "a part of the identity at the other end", "a method",
		"the beginning of the path", "a status: 503, or 5xx", "a header of the request: name, or \"name: value\"", "only those that took as long: 100ms"} {
		f.StringVar(&filter[i], names[i], "", help)
	}
	f.IntVarP(&n, "number", "n", 0, "end after as many (default: go on)")
	f.DurationVar(&length, "for", 0, "end after this time (default: go on)")
	f.IntVar(&rate, "rate", tap.DefaultRate, "the most that are shown in a second")
	f.BoolVar(&heads, "heads", false, "show the headers too, but for secrets")
	f.IntVar(&body, "body", 0, "show as many bytes of each content, if admin.tap_bodies permits it")
	return c
}

// follow calls each for every line of an endless answer, until that returns false.
func (a *adminClient) follow(ctx context.Context, path string, each func(line []byte) bool) error {
	address, token, err := a.find()
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		return &usageError{fmt.Errorf("--admin %s is no address; write it as in 127.0.0.1:15000", address)}
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return fmt.Errorf("ask the sidecar at %s: %w; is it running, or has it another --admin address?", address, errors.Unwrap(err))
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	if resp.StatusCode != http.StatusOK {
		lines.Scan()
		if resp.StatusCode == http.StatusUnauthorized {
			return fmt.Errorf("the sidecar at %s wants a token; put that of its admin section into %s", address, tokenEnv)
		}
		return fmt.Errorf("the sidecar at %s answered %d: %s", address, resp.StatusCode, lines.Text())
	}
	for lines.Scan() {
		if len(lines.Bytes()) > 0 && !each(lines.Bytes()) {
			return nil
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return fmt.Errorf("the sidecar at %s has stopped", address)
}

func printEvent(p *printer, e *tap.Event) {
	if e.Missed > 0 {
		fmt.Fprintf(p.w, "(%d more were not shown)\n", e.Missed)
	}
	status, colour := strconv.Itoa(e.Status), green
	switch {
	case e.Status == 0:
		status, colour = "---", yellow
	case e.Status >= 500 || e.Code != "":
		colour = red
	case e.Status >= 400:
		colour = yellow
	}
	way := map[string]string{"outbound": "->", "inbound": "<-"}[e.Direction]
	to := e.Service
	if e.Direction == "inbound" {
		to = e.Peer
	}
	fmt.Fprintf(p.w, "%s %s %s %-20s %s %s%s  %s", e.Time.Format("15:04:05.000"), way, p.paint(colour, status), visible(orDash(to)), visible(e.Method), visible(e.Authority), visible(e.Path),
		e.Duration.Round(time.Microsecond))
	for _, more := range []struct{ name, value string }{
		{"", e.Code}, {"", map[bool]string{true: e.What + " " + e.Shape}[e.Shape != "exchange"]}, {"at ", e.Endpoint}, {"id ", e.ID},
		{"", map[bool]string{true: strings.ReplaceAll(e.End, "_", " ")}[e.End != "" && e.End != "complete"]},
	} {
		if more.value != "" {
			fmt.Fprint(p.w, "  ", more.name, visible(more.value))
		}
	}
	if e.GRPC != nil {
		fmt.Fprint(p.w, "  grpc ", *e.GRPC)
	}
	fmt.Fprintf(p.w, "  %d/%d bytes", e.BytesIn, e.BytesOut)
	if parts := e.Parts.String(); parts != "" {
		fmt.Fprintf(p.w, "  (to the head: %s)", parts)
	}
	fmt.Fprintln(p.w)
	for _, h := range e.Request {
		fmt.Fprintf(p.w, "    > %s: %s\n", visible(h[0]), visible(h[1]))
	}
	for _, h := range e.Response {
		fmt.Fprintf(p.w, "    < %s: %s\n", visible(h[0]), visible(h[1]))
	}
	for _, b := range [][]byte{e.In, e.Out} {
		if len(b) > 0 {
			fmt.Fprintf(p.w, "    %q\n", b)
		}
	}
}
