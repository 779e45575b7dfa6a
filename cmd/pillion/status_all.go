package main

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pillion-proxy/pillion/listeners/admin"
)

// everything is what status --all prints as JSON.
type everything struct {
	Self *admin.Status `json:"self"`
	admin.Peers
}

// statusOfAll prints the status of a sidecar, and of those that it calls.
func statusOfAll(cmd *cobra.Command, client *adminClient, out *format) error {
	var x everything
	if err := client.fetchJSON(cmd.Context(), "/status", &x.Self); err != nil {
		return err
	}
	if err := client.fetchJSON(cmd.Context(), "/peers", &x.Peers); err != nil {
		return err
	}
	if out.json() {
		return printJSON(cmd.OutOrStdout(), &x)
	}
	printAll(newPrinter(cmd.OutOrStdout()), &x, time.Now())
	return nil
}

// printAll prints this sidecar's tables, a table of its peers, and the tables of each that has answered: under a heading, or, where there are no tables, as
// lines that begin with "peer" and its address.
func printAll(p *printer, x *everything, now time.Time) {
	printStatus(p, x.Self, now)
	var rows [][]cell
	for _, one := range x.Peers.Peers {
		rows = append(rows, peerRow(&one, now))
	}
	p.table("peers", []string{"SIDECAR AT", "IDENTITY", "SERVES", "STATE", "UP", "CERTIFICATE", "VERSION", "ANSWER"}, rows)
	if x.Left > 0 {
		fmt.Fprintf(p.w, "peers\t%d more were not asked\n", x.Left)
	}
	for _, one := range x.Peers.Peers {
		if one.Status == nil {
			continue
		}
		if p.tables {
			fmt.Fprintf(p.w, "\n%s\n", p.paint(bold, "── "+one.Status.Service+" at "+one.Address+", by its own account"))
			printStatus(p, one.Status, now)
			continue
		}
		var b bytes.Buffer
		printStatus(&printer{w: &b}, one.Status, now)
		prefixed(p.w, "peer\t"+visible(one.Address)+"\t", b.String())
	}
}

// prefixed writes each line of text after prefix.
func prefixed(w io.Writer, prefix, text string) {
	for line := range strings.Lines(text) {
		fmt.Fprint(w, prefix, line)
	}
}

// peerRow is a peer in a line: what it says, or why it does not.
func peerRow(one *admin.Peer, now time.Time) []cell {
	row := []cell{plain(one.Address), plain(one.Identity), plain(strings.Join(one.Services, ","))}
	st := one.Status
	if st == nil {
		state, colour := cmp.Or(one.Code, "unknown"), red
		if one.Code == "denied" {
			colour = yellow
		}
		return append(row, cell{state, colour}, plain("-"), plain("-"), plain("-"), plain(one.Error))
	}
	state := cell{string(st.State), green}
	if st.State != admin.Ready {
		state.colour = yellow
	}
	left := cell{"-", ""}
	if !st.Identity.NotAfter.IsZero() {
		d := st.Identity.NotAfter.Sub(now).Truncate(time.Minute)
		if left = plain(d.String() + " left"); d <= 0 {
			left = cell{"EXPIRED", red}
		}
	}
	return append(row, state, plain(seconds(st.Uptime)), left, plain(st.Version), plain("in "+latency(one.Took)))
}
