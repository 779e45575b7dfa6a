package main

import (
	"cmp"
	"fmt"
	"html"
	"slices"
	"strings"
)

// The measures of the drawing, in its units.
const (
	panelWidth  = 560
	panelGap    = 30
	rowHeight   = 22
	labelWidth  = 100
	valueWidth  = 110
	barWidth    = panelWidth - labelWidth - valueWidth
	titleHeight = 56
	columns     = 2
)

// plot draws a panel of bars for every figure that has a goal: one bar for each peer, shortest first, a dot for each round, a line at the goal.
func plot(r *report) string {
	var panels []string
	var heights []int
	for _, s := range r.Scenarios {
		for _, m := range s.Metrics {
			if m.Ratio == 0 && m.Limit == 0 {
				continue
			}
			if body, height := panel(s, m); height > 0 {
				panels = append(panels, body)
				heights = append(heights, height)
			}
		}
	}
	const top = 50
	var out strings.Builder
	at := [columns]int{top, top}
	for i, body := range panels {
		column := 0
		if at[1] < at[0] {
			column = 1
		}
		fmt.Fprintf(&out, `<g transform="translate(%d,%d)">%s</g>`+"\n", panelGap+column*(panelWidth+panelGap), at[column], body)
		at[column] += heights[i] + panelGap
	}
	width, height := panelGap+columns*(panelWidth+panelGap), max(at[0], at[1])
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="sans-serif" font-size="12" fill="#222">
<rect width="100%%" height="100%%" fill="#fff"/>
<text x="%d" y="28" font-size="16" font-weight="bold">Pairs of proxies, mutual TLS between: %s</text>
%s</svg>
`, width, height, width, height, panelGap, html.EscapeString(fmt.Sprintf("%s, %d CPUs, medians of %d rounds of %gs; shorter is better",
		r.Date.Format("2006-01-02"), r.Machine.CPUs, r.Rounds, r.Round)), out.String())
}

// panel draws one metric of one scenario, and returns how high that is; 0 if there is nothing to draw.
func panel(s *scenarioReport, m metric) (string, int) {
	rows := drawable(s, m)
	if len(rows) == 0 {
		return "", 0
	}
	var most float64
	for _, res := range rows {
		most = max(most, res.Median[m.Key])
	}
	scale := barWidth / most
	var out strings.Builder
	fmt.Fprintf(&out, `<text y="16" font-weight="bold">%s: %s</text><text y="34" fill="#666">%s</text>`,
		s.ID, html.EscapeString(m.Name), html.EscapeString(s.Title))
	for i, res := range rows {
		out.WriteString(bar(res, m, scale, titleHeight+i*rowHeight))
	}
	if want, ok := s.wanted(m); ok && want <= most {
		x := labelWidth + want*scale
		fmt.Fprintf(&out, `<line x1="%.1f" x2="%.1f" y1="%d" y2="%d" stroke="#c00" stroke-dasharray="4 3"/><text x="%.1f" y="%d" fill="#c00" font-size="10">goal %s</text>`,
			x, x, titleHeight-8, titleHeight+len(rows)*rowHeight, x+3, titleHeight-4, value(want, m.Unit))
	}
	return out.String(), titleHeight + len(rows)*rowHeight
}

// drawable are the proxies that have the figure, the least first.
func drawable(s *scenarioReport, m metric) []*result {
	var rows []*result
	for _, res := range s.Results {
		if res.Peer != "direct" && res.Median[m.Key] > 0 {
			rows = append(rows, res)
		}
	}
	slices.SortFunc(rows, func(a, b *result) int { return cmp.Compare(a.Median[m.Key], b.Median[m.Key]) })
	return rows
}

// wanted is the goal as a value.
func (s *scenarioReport) wanted(m metric) (float64, bool) {
	if m.Limit > 0 {
		return m.Limit, true
	}
	best := s.best(m)
	if best == nil {
		return 0, false
	}
	return m.Ratio * best.Median[m.Key], true
}

// bar draws one peer.
func bar(res *result, m metric, scale float64, y int) string {
	colour := "#9ab"
	switch {
	case res.Peer == "pillion":
		colour = "#2a7"
	case !res.field:
		colour = "#ddd"
	}
	v := res.Median[m.Key]
	var out strings.Builder
	fmt.Fprintf(&out, `<text x="%d" y="%d" text-anchor="end">%s</text><rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/><text x="%.1f" y="%d">%s</text>`,
		labelWidth-6, y+14, html.EscapeString(res.Peer), labelWidth, y+3, v*scale, rowHeight-6, colour,
		float64(labelWidth+barWidth+8), y+14, value(v, m.Unit))
	for _, x := range res.Rounds {
		if dot, ok := x[m.Key]; ok && dot > 0 && dot*scale <= barWidth {
			fmt.Fprintf(&out, `<circle cx="%.1f" cy="%d" r="2" fill="#000" fill-opacity="0.5"/>`, labelWidth+dot*scale, y+rowHeight/2)
		}
	}
	return out.String()
}
