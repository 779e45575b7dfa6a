package main

import (
	"fmt"
	"html"
	"io"
	"math"
	"strings"
	"text/tabwriter"
)

// bySeries groups points that belong together, in order.
func bySeries(points []point) [][]point {
	var groups [][]point
	for i, p := range points {
		if i == 0 || p.Series != points[i-1].Series {
			groups = append(groups, nil)
		}
		groups[len(groups)-1] = append(groups[len(groups)-1], p)
	}
	return groups
}

// table prints the points for people.
func table(w io.Writer, points []point) error {
	var out strings.Builder
	for _, group := range bySeries(points) {
		fmt.Fprintf(&out, "\n%s: %s\n", group[0].Series, group[0].Title)
		tw := tabwriter.NewWriter(&out, 0, 8, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintln(tw, "value\tstart ms\tidle MiB\tCPU µs/request\tns/byte\tp50 µs\tp99 µs\trequests/s\tloaded MiB\t")
		for _, p := range group {
			if p.Error != "" {
				fmt.Fprintf(tw, "%d\tfailed\t\n", p.Value)
				continue
			}
			fmt.Fprintf(tw, "%d\t%.0f\t%.1f\t%.1f\t%.2f\t%.0f\t%.0f\t%.0f\t%.1f\t\n", p.Value, p.Start, p.Idle, p.CPU, p.PerByte, p.P50, p.P99, p.PerS, p.Loaded)
		}
		_ = tw.Flush() // a strings.Builder takes everything
		for _, p := range group {
			if p.Error != "" {
				fmt.Fprintf(&out, "%d: %s\n", p.Value, p.Error)
			}
		}
	}
	_, err := io.WriteString(w, out.String())
	return err
}

// The measures of the drawing, in its units.
const (
	panelWidth  = 380
	panelHeight = 220
	margin      = 60
	columns     = 3
)

// figures are what is drawn of each series.
func figures() []struct {
	name string
	of   func(point) float64
} {
	return []struct {
		name string
		of   func(point) float64
	}{
		{"CPU per request, µs", func(p point) float64 { return p.CPU }},
		{"RSS loaded, MiB", func(p point) float64 { return p.Loaded }},
		{"start, ms", func(p point) float64 { return p.Start }},
	}
}

// plot draws a line of panels for each series: the figures over the logarithm of the value.
func plot(points []point) string {
	groups := bySeries(points)
	var out strings.Builder
	width, height := columns*(panelWidth+margin)+margin, len(groups)*(panelHeight+margin)+margin
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="sans-serif" font-size="11" fill="#222"><rect width="100%%" height="100%%" fill="#fff"/>`+"\n",
		width, height, width, height)
	for row, group := range groups {
		for column, f := range figures() {
			fmt.Fprintf(&out, `<g transform="translate(%d,%d)">%s</g>`+"\n",
				margin+column*(panelWidth+margin), margin+row*(panelHeight+margin), panel(group, f.name, f.of))
		}
	}
	return out.String() + "</svg>\n"
}

// panel draws one figure of one series.
func panel(group []point, name string, of func(point) float64) string {
	var most float64
	for _, p := range group {
		most = max(most, of(p))
	}
	most = max(most*1.1, 1e-9)
	low, high := math.Log10(float64(max(group[0].Value, 1))), math.Log10(float64(max(group[len(group)-1].Value, 2)))
	var line, marks strings.Builder
	for _, p := range group {
		x := (math.Log10(float64(max(p.Value, 1))) - low) / (high - low) * (panelWidth - 80)
		fmt.Fprintf(&marks, `<text x="%.1f" y="%d" text-anchor="middle" fill="#666">%d</text>`, x, panelHeight-14, p.Value)
		if p.Error != "" {
			continue
		}
		y := (panelHeight - 50) * (1 - of(p)/most)
		fmt.Fprintf(&line, "%.1f,%.1f ", x, y+20)
		fmt.Fprintf(&marks, `<circle cx="%.1f" cy="%.1f" r="3" fill="#2a7"/><text x="%.1f" y="%.1f">%.4g</text>`, x, y+20, x+6, y+16, of(p))
	}
	return fmt.Sprintf(`<text y="0" font-weight="bold">%s: %s</text><line x1="0" x2="%d" y1="%d" y2="%d" stroke="#999"/><polyline points="%s" fill="none" stroke="#2a7" stroke-width="2"/>%s`,
		html.EscapeString(group[0].Series), html.EscapeString(name), panelWidth-80, panelHeight-30, panelHeight-30, line.String(), marks.String())
}
