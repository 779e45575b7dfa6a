package main

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// drawing is a scenario with its results.
type drawing struct {
	scenario scenario
	results  []*result
}

// The measures of the plots, in their units.
const (
	plotWidth  = 420
	plotHeight = 170
	plotGap    = 70
	headHeight = 60
	columns    = 3
)

// colours are of the settings of a scenario, in order.
func colours() []string { return []string{"#2a7", "#27c", "#c52", "#999"} }

// plot draws a row for each scenario, with a panel for each figure over the time.
func plot(all []drawing) string {
	var out strings.Builder
	height := len(all)*(plotHeight+plotGap+headHeight) + plotGap
	width := columns*(plotWidth+plotGap) + plotGap
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="sans-serif" font-size="11" fill="#222"><rect width="100%%" height="100%%" fill="#fff"/>`+"\n",
		width, height, width, height)
	for row, d := range all {
		y := plotGap/2 + row*(plotHeight+plotGap+headHeight)
		fmt.Fprintf(&out, `<text x="%d" y="%d" font-size="14" font-weight="bold">%s: %s</text>`+"\n", plotGap, y, html.EscapeString(d.scenario.name), html.EscapeString(d.scenario.title))
		for i, r := range d.results {
			fmt.Fprintf(&out, `<text x="%d" y="%d" fill="%s">■ %s</text>`+"\n", plotGap+i*260, y+20, colours()[i], html.EscapeString(r.name))
		}
		for column, f := range d.scenario.figures {
			fmt.Fprintf(&out, `<g transform="translate(%d,%d)">%s</g>`+"\n", plotGap+column*(plotWidth+plotGap), y+headHeight-10, panel(d, f))
		}
	}
	return out.String() + "</svg>\n"
}

// panel draws one figure.
func panel(d drawing, f figure) string {
	low, high := math.Inf(1), math.Inf(-1)
	for _, r := range d.results {
		for _, v := range r.series(f.of) {
			low, high = min(low, v), max(high, v)
		}
	}
	if low > 0 && low < high/2 || high == low {
		low = 0
	}
	high = max(high, low+1e-9)
	var out strings.Builder
	fmt.Fprintf(&out, `<text y="0" font-weight="bold">%s</text><rect y="10" width="%d" height="%d" fill="none" stroke="#ccc"/>`, html.EscapeString(f.name), plotWidth, plotHeight)
	fmt.Fprintf(&out, `<text x="-6" y="18" text-anchor="end" fill="#666">%.4g</text><text x="-6" y="%d" text-anchor="end" fill="#666">%.4g</text>`, high, plotHeight+10, low)
	for i, r := range d.results {
		series := r.series(f.of)
		var line strings.Builder
		for j, v := range series {
			fmt.Fprintf(&line, "%.1f,%.1f ", (float64(j)+0.5)/float64(len(series))*plotWidth, 10+plotHeight*(1-(v-low)/(high-low)))
		}
		fmt.Fprintf(&out, `<polyline points="%s" fill="none" stroke="%s" stroke-width="1.5"/>`, strings.TrimSpace(line.String()), colours()[i])
	}
	seconds := float64(len(d.results[0].buckets)) * step.Seconds()
	for s := 0.0; s <= seconds; s += 5 {
		fmt.Fprintf(&out, `<text x="%.1f" y="%d" text-anchor="middle" fill="#666">%.0f s</text>`, s/seconds*plotWidth, plotHeight+24, s)
	}
	return out.String()
}
