package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

// topCommand shows the busiest services, routes and peers.
func topCommand() *cobra.Command {
	var (
		client adminClient
		out    format
		every  time.Duration
		by     string
		sortBy string
		n      int
	)
	c := &cobra.Command{
		Use:   "top",
		Short: "Show the busiest services, routes and peers, live",
		Long: `Prints, again and again, how many requests a second each service, route or peer has, how many of them fail, and how long they take. Not on a
terminal it prints each row on a line, with tabs. P50 and P99 are since
the sidecar started, of the slowest kind of request in the row.`,
		Example: "  pillion top\n  pillion top --by peer --sort p99\n  pillion top -n 1 -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !slices.Contains(topKinds, by) || !slices.Contains(topColumns, sortBy) {
				return &usageError{fmt.Errorf("--by is one of %v, --sort one of %v", topKinds, topColumns)}
			}
			p := newPrinter(cmd.OutOrStdout())
			before, err := client.requests(cmd.Context())
			if err != nil {
				return err
			}
			at := time.Now()
			for i := 0; n == 0 || i < n; i++ {
				if err := pause(cmd.Context(), every); err != nil {
					return nil // it was told to end
				}
				now, err := client.requests(cmd.Context())
				if err != nil {
					return err
				}
				rows := topRows(before, now, time.Since(at), by, sortBy)
				before, at = now, time.Now()
				if out.json() {
					if err := printJSON(p.w, rows); err != nil {
						return err
					}
					continue
				}
				if p.tables {
					fmt.Fprint(p.w, "\x1b[H\x1b[2J")
				}
				printTop(p, by, rows)
			}
			return nil
		},
	}
	client.add(c)
	out.add(c)
	f := c.Flags()
	f.DurationVar(&every, "every", time.Second, "the time between two looks")
	f.StringVar(&by, "by", "service", "service, route or peer")
	f.StringVar(&sortBy, "sort", "rate", "rate, failed, p50, p99, bytes or name")
	f.IntVarP(&n, "number", "n", 0, "end after as many looks (default: go on)")
	return c
}

// The values of --by and --sort; the columns are compared by lessTop.
const (
	byRoute = "route"
	byPeer  = "peer"
)

var (
	topKinds   = []string{"service", byRoute, byPeer}
	topColumns = []string{"rate", "failed", "p50", "p99", "bytes", "name"}
)

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return errors.New("ended")
	case <-t.C:
		return nil
	}
}

func (a *adminClient) requests(ctx context.Context) ([]requestRow, error) {
	var got struct {
		Requests []requestRow `json:"requests"`
	}
	err := a.fetchJSON(ctx, "/requests", &got)
	return got.Requests, err
}

// topRow is one row.
type topRow struct {
	Direction string  `json:"direction"`
	Name      string  `json:"name"`
	Rate      float64 `json:"requests_per_second"`
	Failed    float64 `json:"failed_per_second"`
	Open      int64   `json:"open,omitempty"`
	P50       float64 `json:"p50_seconds"`
	P99       float64 `json:"p99_seconds"`
	In        float64 `json:"bytes_in_per_second"`
	Out       float64 `json:"bytes_out_per_second"`
}

// topRows sums rows of one name, and makes rates of the difference between two looks.
func topRows(before, now []requestRow, took time.Duration, by, sortBy string) []topRow {
	type key struct{ direction, name string }
	sums := make(map[key]*topRow)
	add := func(r requestRow, sign float64) {
		k := key{r.Direction.String(), topName(r, by)}
		t := sums[k]
		if t == nil {
			t = &topRow{Direction: k.direction, Name: k.name}
			sums[k] = t
		}
		t.Rate += sign * float64(r.Requests)
		t.Failed += sign * float64(r.Failed)
		t.In += sign * float64(r.BytesIn)
		t.Out += sign * float64(r.BytesOut)
		if sign < 0 {
			return
		}
		t.Open += r.Open
		// The slowest part of what is summed is what a reader looks for.
		t.P50, t.P99 = max(t.P50, r.P50), max(t.P99, r.P99)
	}
	for _, r := range now {
		add(r, 1)
	}
	for _, r := range before {
		add(r, -1)
	}
	rows := make([]topRow, 0, len(sums))
	for _, t := range sums {
		for _, v := range []*float64{&t.Rate, &t.Failed, &t.In, &t.Out} {
			*v /= took.Seconds()
		}
		rows = append(rows, *t)
	}
	slices.SortFunc(rows, func(a, b topRow) int {
		return cmp.Or(lessTop(a, b, sortBy), cmp.Compare(a.Direction, b.Direction), cmp.Compare(a.Name, b.Name))
	})
	return rows
}

func lessTop(a, b topRow, column string) int {
	switch column {
	case "rate":
		return cmp.Compare(b.Rate, a.Rate)
	case "failed":
		return cmp.Compare(b.Failed, a.Failed)
	case "p50":
		return cmp.Compare(b.P50, a.P50)
	case "p99":
		return cmp.Compare(b.P99, a.P99)
	case "bytes":
		return cmp.Compare(b.In+b.Out, a.In+a.Out)
	}
	return 0
}

func topName(r requestRow, by string) string {
	name := r.Service
	if r.Port != 0 {
		name += ":" + strconv.Itoa(int(r.Port))
	}
	switch by {
	case byPeer:
		return orDash(string(r.Peer))
	case byRoute:
		if r.Route > 0 {
			return name + " route " + strconv.Itoa(r.Route)
		}
	}
	return orDash(name)
}

func printTop(p *printer, by string, rows []topRow) {
	var cells [][]cell
	for _, r := range rows {
		failed := plain(fmt.Sprintf("%.1f", r.Failed))
		if r.Failed > 0 {
			failed.colour = red
		}
		cells = append(cells, []cell{plain(r.Direction), plain(r.Name), plain(fmt.Sprintf("%.1f", r.Rate)), failed, plain(strconv.FormatInt(r.Open, 10)),
			plain(precise(r.P50)), plain(precise(r.P99)), plain(fmt.Sprintf("%.0f", r.In)), plain(fmt.Sprintf("%.0f", r.Out))})
	}
	heading := map[string]string{"service": "SERVICE", byRoute: "ROUTE", byPeer: "PEER"}[by]
	p.table("top", []string{"DIRECTION", heading, "REQUESTS/S", "FAILED/S", "OPEN", "P50", "P99", "BYTES IN/S", "OUT/S"}, cells)
}

// precise writes seconds with three digits.
func precise(s float64) string {
	d := time.Duration(s * float64(time.Second))
	for unit := time.Second; unit >= time.Microsecond; unit /= 10 {
		if d >= 100*unit {
			return d.Round(unit).String()
		}
	}
	return d.Round(100 * time.Nanosecond).String()
}
