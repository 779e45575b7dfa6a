package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pillion-proxy/pillion/proxy/flight"
	"github.com/pillion-proxy/pillion/proxy/observe"
)

// whyCommand tells what became of a request.
func whyCommand() *cobra.Command {
	var (
		client adminClient
		out    format
		reason string
		n      int
	)
	c := &cobra.Command{
		Use:   "why [ID]",
		Short: "Tell what was decided about a request, and why it failed or was slow",
		Long: `Prints the timeline of one request: what each part of the sidecar decided, which endpoints were tried, and who closed first. The id is in the answer, as ` +
			"Pillion-Request-Id" + `, and in the log. A sidecar remembers the last requests that failed, those slower than 99 % of their service, and those that
had the header Pillion-Why. Without an ID it lists them. Each sidecar that a request passed has its own story of it: ask them with --admin.`,
		Example: "  pillion why\n  pillion why 4f1c2a9b00d3e711\n  pillion why --reason slow",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			q := url.Values{"n": {strconv.Itoa(n)}}
			if reason != "" {
				q.Set("why", reason)
			}
			if len(args) == 1 {
				q = url.Values{"id": {args[0]}}
			}
			body, err := client.fetch(cmd.Context(), "/why?"+q.Encode())
			if err != nil {
				return err
			}
			var got struct {
				Stories []storyView `json:"stories"`
			}
			if err := json.Unmarshal(body, &got); err != nil {
				return fmt.Errorf("the sidecar does not answer as a pillion does: %w; check the --admin address", err)
			}
			if len(args) == 1 && len(got.Stories) == 0 {
				return fmt.Errorf("this sidecar remembers no request %q; it may be too long ago, or neither failed nor was slow: send it again with the header Pillion-Why: 1", args[0])
			}
			if out.json() {
				_, err := cmd.OutOrStdout().Write(body)
				return err
			}
			p := newPrinter(cmd.OutOrStdout())
			if len(args) == 0 {
				p.table("request", []string{"WHEN", "ID", "WHY", "WAY", "REQUEST", "SERVICE", "ANSWER", "TOOK"}, storyRows(got.Stories))
				return nil
			}
			for i, s := range got.Stories {
				if i > 0 {
					fmt.Fprintln(p.w)
				}
				tell(p, s)
			}
			return nil
		},
	}
	client.add(c)
	out.add(c)
	c.Flags().StringVar(&reason, "reason", "", "only those that are kept because they failed, were slow, or were asked for: failed, slow or asked")
	c.Flags().IntVarP(&n, "number", "n", 20, "how many to list")
	c.RegisterFlagCompletionFunc("reason", cobra.FixedCompletions([]string{"failed", "slow", "asked"}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

func storyRows(stories []storyView) (rows [][]cell) {
	for _, s := range stories {
		rows = append(rows, []cell{plain(s.At.Format("15:04:05.000")), plain(s.ID), plain(string(s.Why)), plain(s.Direction.String()),
			plain(s.Method + " " + orDash(s.Authority+s.Path)), plain(orDash(s.Service)), outcomeCell(s.Story), plain(s.Duration.String())})
	}
	return rows
}

// outcomeCell is how a request ended.
func outcomeCell(s *flight.Story) cell {
	text := strconv.Itoa(s.Status)
	if s.Status == 0 {
		text = "no answer"
	}
	if s.GRPC >= 0 {
		text += ", grpc " + strconv.Itoa(s.GRPC)
	}
	if s.Code != "" {
		text += " " + s.Code
	}
	if s.End != observe.Complete {
		text += ", " + strings.ReplaceAll(s.End.String(), "_", " ")
	}
	if s.Why == flight.Failed {
		return cell{text, red}
	}
	return plain(text)
}

// tell prints one story.
func tell(p *printer, s storyView) {
	fmt.Fprintf(p.w, "%s  %s\n", p.paint(bold, s.Method+" "+s.Authority+s.Path), p.paint(outcomeCell(s.Story).colour, outcomeCell(s.Story).text))
	for _, l := range [][2]string{
		{"id", s.ID}, {"trace", s.Trace}, {"kept because", keptBecause(s.Why)}, {"began", s.At.Format(time.RFC3339Nano)}, {"took", s.Duration.String()}, {"of which", s.Parts.String()},
		{"way", wayOf(s.Story)}, {"bytes", fmt.Sprintf("%d in, %d out", s.BytesIn, s.BytesOut)}, {"error", s.Err}, {"what to do", s.Advice},
	} {
		if l[1] != "" {
			fmt.Fprintf(p.w, "  %-13s %s\n", l[0], visible(l[1]))
		}
	}
	fmt.Fprintln(p.w)
	line := func(at time.Duration, who, what string) {
		fmt.Fprintf(p.w, "  %10s  %-10s %s\n", "+"+at.Round(time.Microsecond).String(), visible(who), visible(what))
	}
	timeline(s.Story, line)
	if s.Dropped > 0 {
		fmt.Fprintf(p.w, "  and %d more, which were not kept\n", s.Dropped)
	}
}

func keptBecause(r flight.Reason) string {
	switch r {
	case flight.Slow:
		return "it was slower than 99 % of its service's requests"
	case flight.Asked:
		return "the request asked for it"
	}
	return "it failed"
}

func wayOf(s *flight.Story) string {
	b := new(strings.Builder)
	b.WriteString(s.Direction.String() + " " + s.Shape.String())
	for _, part := range [][2]string{{" from ", s.Client}, {" of ", string(s.Peer)}, {" to ", s.Service}} {
		if part[1] != "" {
			io.WriteString(b, part[0]+part[1])
		}
	}
	if s.Rule > 0 {
		fmt.Fprintf(b, ", route %d", s.Rule)
	}
	return b.String()
}

// timeline calls line for all that happened, in its order.
func timeline(s *flight.Story, line func(at time.Duration, who, what string)) {
	attempts, n := s.Attempts, 0
	begin := func(until time.Duration) {
		for len(attempts) > 0 && attempts[0].Start <= until {
			n++
			line(attempts[0].Start, "attempt "+strconv.Itoa(n), attemptText(&attempts[0]))
			attempts = attempts[1:]
		}
	}
	for _, e := range s.Events {
		begin(e.After)
		text := e.Text
		if e.N != 0 {
			text += " (" + strconv.FormatInt(e.N, 10) + ")"
		}
		if e.Endpoint != "" && !strings.Contains(text, e.Endpoint) {
			text += ", at " + e.Endpoint
		}
		line(e.After, e.Layer, text)
	}
	begin(s.Duration)
	if s.Head > 0 {
		line(s.Head, "answer", "the head of the answer: "+outcomeCell(s).text)
	}
	line(s.Duration, "end", endText(s))
}

func attemptText(a *flight.Attempt) string {
	text := "sent to " + orDash(a.Endpoint)
	switch {
	case a.End > 0:
		text += fmt.Sprintf("; failed after %v: %s", (a.End - a.Start).Round(time.Microsecond), a.Code)
	case a.Head > 0:
		text += fmt.Sprintf("; answered %d after %v", a.Status, (a.Head - a.Start).Round(time.Microsecond))
	}
	return text
}

func endText(s *flight.Story) string {
	switch s.End {
	case observe.Complete:
		return "complete, to the last byte"
	case observe.ClientGone:
		return "the client left first, or did not read to the end"
	case observe.Withdrawn:
		return "withdrawn: the client wants something else than was asked for ahead of it"
	}
	return "cut short: " + orDash(s.Err)
}
