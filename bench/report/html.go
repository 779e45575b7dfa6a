package report

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"strings"
)

// page is the HTML with marks, between two braces each, for what HTML fills in. (Not html/template, which would keep the linker from leaving out what nobody calls.)
//
//go:embed page.html
var page string

// unbroken keeps numbers and their units on one line.
var unbroken = strings.NewReplacer(" µs", "&nbsp;µs", " ms", "&nbsp;ms", " %", "&nbsp;%", " MiB", "&nbsp;MiB")

// HTML writes one self-contained file: no network, no other file. Charts are drawn by its script from the JSON document in it; the rest is
// readable without.
func HTML(w io.Writer, r *Report) error {
	data, err := json.Marshal(r) // which escapes what could end the script element
	if err != nil {
		return err
	}
	_, err = strings.NewReplacer(
		"{{summary}}", unbroken.Replace(html.EscapeString(r.Summary)),
		"{{title}}", html.EscapeString(r.Title()),
		"{{direct}}", html.EscapeString(r.Direct.Target),
		"{{via}}", html.EscapeString(r.Via.Target),
		"{{made}}", html.EscapeString(fmt.Sprintf("pillion %s, %s, %s", r.Pillion, r.Machine, r.Time.Format("2006-01-02 15:04 MST"))),
		"{{cards}}", cards(r),
		"{{table}}", table(r),
		"{{rounds}}", roundsTable(r),
		"{{notes}}", list(r.Notes),
		"{{data}}", string(data),
	).WriteString(w, page)
	return err
}

// cards are the figures for a person in a hurry.
func cards(r *Report) string {
	var b strings.Builder
	for _, figure := range []string{"p50", "p99", "throughput"} {
		d := r.find(figure)
		if d == nil || figure == "throughput" && r.Load.Rate > 0 {
			continue
		}
		name := "added at " + figure
		if figure == "throughput" {
			name = "throughput"
		}
		under := "no interval"
		if d.Low != nil {
			under = signed(*d.Low, d.Unit) + " … " + signed(*d.High, d.Unit)
		}
		card(&b, name, signed(d.Mean, d.Unit), under)
	}
	all := r.Via.All
	switch {
	case all.CPUPerGiB != nil:
		card(&b, "proxies' CPU", number(*all.CPUPerGiB)+" s", "per GiB")
	case all.CPUPerRequest != nil:
		card(&b, "proxies' CPU", latency(*all.CPUPerRequest), "per request")
	}
	if all.Memory != nil {
		card(&b, "proxies' memory", number(float64(*all.Memory)/(1<<20))+" MiB", "resident, together")
	}
	if n := all.Errors + all.Unfinished; n > 0 {
		card(&b, "errors", thousands(int64(n)), "through the proxy")
	}
	return b.String()
}

func card(b *strings.Builder, name, value, under string) {
	fmt.Fprintf(b, `<div class="card"><span>%s</span><b>%s</b><small>%s</small></div>`, html.EscapeString(name), html.EscapeString(value), html.EscapeString(under))
}

// table is the same as on the terminal, with the interval under the difference: that fits a phone.
func table(r *Report) string {
	var rows [][]string
	for _, row := range r.Rows() {
		difference := row.Difference
		if len(row.Interval) > 1 {
			difference += "\n" + row.Interval
		}
		rows = append(rows, []string{row.Name, row.Direct, row.Via, difference})
	}
	return htmlTable(Headings()[:4], rows)
}

// roundsTable shows how much the rounds differ.
func roundsTable(r *Report) string {
	var rows [][]string
	for i := range r.Rounds {
		d, v := r.Direct.Rounds[i], r.Via.Rounds[i]
		row := []string{fmt.Sprint(i + 1)}
		if r.Load.Bulk() {
			row = append(row, number(d.MiBPerSecond), number(v.MiBPerSecond))
		} else {
			row = append(row, micro(d.Latency.P50), micro(v.Latency.P50), micro(d.Latency.P99), micro(v.Latency.P99), number(d.RequestsPerSecond), number(v.RequestsPerSecond))
		}
		rows = append(rows, row)
	}
	headings := []string{"round", "p50 direct", "p50 via", "p99 direct", "p99 via", "requests/s direct", "requests/s via"}
	if r.Load.Bulk() {
		headings = []string{"round", "MiB/s direct", "MiB/s via"}
	}
	return htmlTable(headings, rows)
}

func htmlTable(headings []string, rows [][]string) string {
	var b strings.Builder
	b.WriteString("<table><thead><tr>")
	for _, h := range headings {
		fmt.Fprintf(&b, "<th>%s</th>", html.EscapeString(h))
	}
	b.WriteString("</tr></thead><tbody>\n")
	for _, row := range rows {
		b.WriteString("<tr>")
		for i, text := range row {
			if i == 0 {
				fmt.Fprintf(&b, "<th>%s</th>", html.EscapeString(text))
				continue
			}
			first, second, two := strings.Cut(text, "\n")
			b.WriteString("<td>" + html.EscapeString(first))
			if two {
				b.WriteString("<small>" + html.EscapeString(second) + "</small>")
			}
			b.WriteString("</td>")
		}
		b.WriteString("</tr>\n")
	}
	b.WriteString("</tbody></table>")
	return b.String()
}

// list is one item for each note.
func list(notes []string) string {
	if len(notes) == 0 {
		return "<p>Nothing: the load generator kept its schedule, and there were enough samples.</p>"
	}
	var b strings.Builder
	b.WriteString("<ul>")
	for _, note := range notes {
		note = strings.ReplaceAll(html.EscapeString(note), "--duration", "<code>--duration</code>") // else it breaks after its dashes
		fmt.Fprintf(&b, "<li>%s</li>", note)
	}
	b.WriteString("</ul>")
	return b.String()
}
