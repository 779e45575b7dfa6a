package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pillion-proxy/pillion/listeners/admin"
)

// statusCommand shows what a running sidecar does.
func statusCommand() *cobra.Command {
	var (
		client adminClient
		out    format
		all    bool
	)
	c := &cobra.Command{
		Use:   "status",
		Short: "Show what the sidecar is doing: listeners, services, links, certificate",
		Long: `Asks the running sidecar and prints its listeners, services with their endpoints, links to peers and certificate. On a terminal it prints tables, else
lines of fields with tabs between them. LOAD is requests in flight and open streams, LATENCY what
an endpoint takes to the head of an answer. HEALTH says whether requests go there: "-" is none yet; "spare" is an endpoint that discovery knows and that
is not needed now (of many each sidecar uses a part: see aperture in pillion help config); "lost" is an endpoint to which no connection can be
made, "ejected" one that failed too often, "sick" one whose checks fail. PROTOCOL is that of the configuration and, if
that is auto, what was found out. If the sidecar wants a token it is taken from the configuration or from ` + tokenEnv + `.

With --all it also asks the sidecars that this one calls, over its links to them. Each answers if its configuration names this one in admin.share.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if all {
				return statusOfAll(cmd, &client, &out)
			}
			body, err := client.fetch(cmd.Context(), "/status")
			if err != nil {
				return err
			}
			var st admin.Status
			if err := json.Unmarshal(body, &st); err != nil {
				return fmt.Errorf("the sidecar does not answer as a pillion does: %w; check the --admin address", err)
			}
			if out.json() {
				_, err := cmd.OutOrStdout().Write(body) // as it came: a newer sidecar may say more
				return err
			}
			printStatus(newPrinter(cmd.OutOrStdout()), &st, time.Now())
			return nil
		},
	}
	client.add(c)
	out.add(c)
	c.Flags().BoolVar(&all, "all", false, "ask the sidecars that this one calls, too")
	return c
}

func printStatus(p *printer, st *admin.Status, now time.Time) {
	printHead(p, st, now)
	var rows [][]cell
	for _, l := range st.Listeners {
		rows = append(rows, []cell{plain(l.Name), plain(l.Address), plain(strconv.Itoa(l.Connections))})
	}
	p.table("listener", []string{"LISTENER", "ADDRESS", "CONNECTIONS"}, rows)
	rows = nil
	for _, a := range st.Apps {
		rows = append(rows, []cell{plain(strconv.Itoa(int(a.Port))), plain(a.To), plain(spoken(a.Protocol, a.Speaks)), plain(orDash(strings.Join(a.Allow, ","))), condition(a.Tried, a.Error == "", a.Error)})
	}
	p.table("app", []string{"APP PORT", "TO", "PROTOCOL", "ALLOW", "HEALTH"}, rows)
	p.table("service", []string{"SERVICE", "SOURCE", "LISTEN", "PROTOCOL", "AGE", "ENDPOINT", "IDENTITY", "LOAD", "LATENCY", "HEALTH"}, serviceRows(st))
	p.table("retry", []string{"RETRIES OF", "TOTAL", "RECOVERED", "EXHAUSTED", "OVER BUDGET", "BODY OUTGROWN"}, retryRows(st))
	p.table("hedge", []string{"HEDGES OF", "TOTAL", "WON", "OVER BUDGET"}, hedgeRows(st))
	p.table("load", []string{"LOAD OF", "RUNNING", "LIMIT", "WAITING", "SHED", "RATE LIMITED"}, loadRows(st))
	p.table("connection", []string{"CONNECTIONS OF", "OPEN", "LIMIT", "WAITING", "REFUSED"}, connectionRows(st))
	p.table("dns", []string{"DNS", "SUFFIX", "OWN", "FORWARDED", "FAILED", "OTHER NAMES GO TO"}, dnsRows(st))
	p.table("flow", []string{"FLOWS OF", "OPEN", "TOTAL", "DATAGRAMS IN", "OUT", "DROPPED"}, flowRows(st))
	p.table("link", []string{"LINK", "PEER", "IDENTITY", "OVER", "PILLION", "RTT", "STREAMS", "IN", "OUT", "AGE"}, linkRows(st))
	p.table("path", []string{"PATH TO", "FROM", "TCP", "QUIC"}, pathRows(st))
}

// pathRows has what was learnt of the ways to peers.
func pathRows(st *admin.Status) [][]cell {
	var rows [][]cell
	for _, p := range st.Paths {
		row := []cell{plain(p.Peer), plain(orDash(p.Network))}
		for _, w := range p.Ways {
			c := plain(w.State)
			switch w.State {
			case "works":
				c = cell{"works", green}
			case "fails":
				c = cell{"fails (" + w.Error + ")", yellow}
				if w.Again > 0 {
					c.text += ", again in " + seconds(w.Again)
				}
			}
			row = append(row, c)
		}
		rows = append(rows, row)
	}
	return rows
}

func printHead(p *printer, st *admin.Status, now time.Time) {
	state := cell{string(st.State), green}
	if st.State != admin.Ready {
		state.colour = yellow
	}
	if st.NotReady != "" && st.NotReady != string(st.State) {
		state.text += ": " + st.NotReady
	}
	lines := [][2]cell{
		{plain("service"), {st.Service, bold}},
		{plain("state"), state},
		{plain("up"), plain(seconds(st.Uptime))},
		{plain("version"), plain(st.Version)},
		{plain("pid"), plain(strconv.Itoa(st.PID))},
		{plain("identity"), plain(st.Identity.ID)},
	}
	if !st.Identity.NotAfter.IsZero() {
		left := st.Identity.NotAfter.Sub(now).Truncate(time.Second)
		c := plain(st.Identity.NotAfter.UTC().Format(time.RFC3339) + ", in " + left.String())
		if left <= 0 {
			c = cell{"EXPIRED " + st.Identity.NotAfter.UTC().Format(time.RFC3339), red}
		}
		lines = append(lines, [2]cell{plain("expires"), c})
	}
	if c := st.Configuration; c != nil {
		text := fmt.Sprintf("number %d, in force for %s", c.Generation, seconds(c.Age))
		lines = append(lines, [2]cell{plain("config"), plain(text)})
		if c.Error != "" {
			lines = append(lines, [2]cell{plain("reload"), {"FAILED " + seconds(c.ErrorAge) + " ago: " + c.Error, red}})
		}
	}
	if r := st.Registration; r != nil {
		lines = append(lines, [2]cell{plain("registered"), registered(r)})
	}
	for _, w := range []string{st.Identity.Warning, st.Identity.Error} {
		if w != "" {
			lines = append(lines, [2]cell{plain("warning"), {w, yellow}})
		}
	}
	if d := st.Drain; d != nil {
		lines = append(lines, [2]cell{plain("draining"), plain(d.Step + ", " + seconds(d.Left) + " left")})
	}
	for _, l := range lines {
		if p.tables {
			fmt.Fprintf(p.w, "%-10s%s\n", l[0].text, p.paint(l[1].colour, l[1].text))
		} else {
			fmt.Fprintf(p.w, "%s\t%s\n", l[0].text, visible(l[1].text))
		}
	}
}

// registered tells of this sidecar's own entry.
func registered(r *admin.Registration) cell {
	switch {
	case r.Error != "":
		return cell{"in " + r.In + " FAILS: " + r.Error, red}
	case r.Unfit != "":
		return cell{"in " + r.In + " as " + r.ID + ", unfit: " + r.Unfit, yellow}
	case !r.Entered:
		return cell{"in " + r.In + ": not yet", yellow}
	}
	return plain("in " + r.In + " as " + r.ID + " at " + r.Address + ", renewed " + seconds(r.Age) + " ago")
}

// serviceRows has one row per endpoint, and one for a service without any.
func serviceRows(st *admin.Status) [][]cell {
	var rows [][]cell
	for _, s := range st.Services {
		age := "never"
		if s.Age >= 0 {
			age = seconds(s.Age)
		}
		head := []cell{plain(s.Name), plain(s.Source), plain(orDash(s.Listen)), plain(spoken(s.Protocol, s.Speaks)), plain(age)}
		if s.Error != "" {
			head[4] = cell{age + " (stale for " + seconds(s.Stale) + ": " + s.Error + ")", yellow}
		} else if s.Flaw != "" {
			head[4] = cell{age + " (" + s.Flaw + ")", yellow}
		}
		if len(s.Endpoints) == 0 {
			rows = append(rows, append(head, plain("-"), plain("-"), plain("-"), plain("-"), cell{"no endpoints", red}))
		}
		for _, e := range s.Endpoints {
			identity := orDash(e.Identity)
			if !e.Mesh {
				identity = "no sidecar"
			}
			row := append(append([]cell(nil), head...), plain(e.Address), plain(identity),
				plain(strconv.Itoa(e.Pending+e.Streams)), plain(latency(e.Latency)), standing(e))
			rows = append(rows, row)
		}
	}
	return rows
}

// loads calls f for each service, route and app that is bounded.
func loads(st *admin.Status, f func(name string, l *admin.Load)) {
	for _, s := range st.Services {
		if s.Load != nil {
			f(s.Name, s.Load)
		}
		for i := range s.RouteLoads {
			f(fmt.Sprintf("%s route %d", s.Name, s.RouteLoads[i].Route), &s.RouteLoads[i])
		}
	}
	for _, a := range st.Apps {
		if a.Load != nil {
			f("app port "+strconv.Itoa(int(a.Port)), a.Load)
		}
	}
}

// loadRows has one row for each of them.
func loadRows(st *admin.Status) [][]cell {
	var rows [][]cell
	loads(st, func(name string, l *admin.Load) {
		limit := "-"
		if l.Limit > 0 {
			limit = strconv.Itoa(l.Limit)
		}
		rows = append(rows, []cell{plain(name), plain(strconv.Itoa(l.Running)), plain(limit), plain(strconv.Itoa(l.Waiting)),
			plain(strconv.FormatUint(l.Shed, 10)), plain(strconv.FormatUint(l.RateLimited, 10))})
	})
	return rows
}

// connectionRows has one row per service and app whose connections are bounded.
func connectionRows(st *admin.Status) [][]cell {
	var rows [][]cell
	loads(st, func(name string, l *admin.Load) {
		if l.ConnectionLimit > 0 {
			rows = append(rows, []cell{plain(name), plain(strconv.Itoa(l.Connections)), plain(strconv.Itoa(l.ConnectionLimit)),
				plain(strconv.Itoa(l.ConnectionsWaiting)), plain(strconv.FormatUint(l.ConnectionsRefused, 10))})
		}
	})
	return rows
}

// hedgeRows has one row per service of which requests are asked twice.
func hedgeRows(st *admin.Status) [][]cell {
	var rows [][]cell
	for _, s := range st.Services {
		if h := s.Hedges; h != nil {
			rows = append(rows, []cell{plain(s.Name), plain(strconv.FormatUint(h.Total, 10)), plain(strconv.FormatUint(h.Won, 10)), plain(strconv.FormatUint(h.OverBudget, 10))})
		}
	}
	return rows
}

// retryRows has one row per service of which requests were, or should have been, repeated.
func retryRows(st *admin.Status) [][]cell {
	var rows [][]cell
	for _, s := range st.Services {
		if r := s.Retries; r != nil {
			row := []cell{plain(s.Name)}
			for _, n := range []uint64{r.Total, r.Recovered, r.Exhausted, r.OverBudget, r.Outgrown} {
				row = append(row, plain(strconv.FormatUint(n, 10)))
			}
			rows = append(rows, row)
		}
	}
	return rows
}

// standing is "ok", or why requests go elsewhere and for how long.
func standing(e admin.Endpoint) cell {
	spare := ""
	if !e.InUse {
		spare = "spare"
	}
	if e.Healthy && spare != "" {
		return plain(spare)
	}
	if e.Out == "" || e.Healthy {
		return condition(e.Tried, e.Healthy, e.Error)
	}
	text := string(e.Out)
	if spare != "" {
		text = spare + ", " + text
	}
	if e.Again > 0 {
		text += " for " + seconds(e.Again)
	}
	if e.Error != "" {
		text += ": " + e.Error
	}
	return cell{text, red}
}

// latency writes what an endpoint takes, "-" if nobody knows.
func latency(s float64) string {
	if s <= 0 {
		return "-"
	}
	return time.Duration(s * float64(time.Second)).Round(time.Microsecond).String()
}

// spoken is what the configuration says, and what was found out.
func spoken(protocol, speaks string) string {
	if speaks == "" {
		return orDash(protocol)
	}
	return protocol + ": " + speaks
}

func linkRows(st *admin.Status) [][]cell {
	var rows [][]cell
	for _, l := range st.Links {
		rtt := "-"
		if l.RTT > 0 {
			rtt = time.Duration(l.RTT * float64(time.Second)).Round(time.Microsecond).String()
		}
		kind := "no"
		if l.Pillion {
			kind = "yes"
		}
		over := plain(l.Transport)
		if l.Suspect {
			over = cell{l.Transport + ", no answer", yellow}
		}
		rows = append(rows, []cell{plain(string(l.Direction)), plain(l.Peer), plain(l.Identity), over, plain(kind), plain(rtt),
			plain(strconv.Itoa(l.Streams)), plain(bytesText(l.BytesIn)), plain(bytesText(l.BytesOut)), plain(seconds(l.Age))})
	}
	return rows
}

// condition is "ok", or why not, or "-" where nobody has called yet.
func condition(tried, ok bool, why string) cell {
	switch {
	case ok && !tried:
		return plain("-")
	case ok:
		return cell{"ok", green}
	case why != "":
		return cell{why, red}
	default:
		return cell{"failing", red}
	}
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// seconds writes a time for people.
func seconds(s float64) string {
	d := time.Duration(s * float64(time.Second))
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// bytesText writes a count of bytes for people.
func bytesText(n uint64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	x, i := float64(n), 0
	for x >= 1024 && i < len(units)-1 {
		x /= 1024
		i++
	}
	if i == 0 {
		return strconv.FormatUint(n, 10) + "B"
	}
	return strconv.FormatFloat(x, 'f', 1, 64) + units[i]
}
