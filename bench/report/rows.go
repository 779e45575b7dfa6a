package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Row is a line of the table that people read.
type Row struct {
	Name, Direct, Via, Difference, Interval string
}

// Headings are those of the table.
func Headings() []string { return []string{"", "direct", "via", "difference", "95 % interval"} }

// Rows returns the table. A figure of a side is the median of its rounds, where each of them has enough samples for it, so that one odd round moves neither
// it nor the difference; else it is that of all requests together. "-" is a figure that was not measured or is not told.
func (r *Report) Rows() []Row {
	var rows []Row
	d, v := &r.Direct.All, &r.Via.All
	for _, m := range measures(r.Load) {
		rows = append(rows, r.row(m))
		if m.name == "p99.9" {
			rows = append(rows, Row{"max", micro(d.Latency.Max), micro(v.Latency.Max), "", ""})
		}
	}
	rows = append(rows, Row{"errors", thousands(int64(d.Errors + d.Unfinished)), thousands(int64(v.Errors + v.Unfinished)), "", ""})
	if v.CPUPerGiB != nil {
		rows = append(rows, Row{"proxies' CPU per GiB", "", number(*v.CPUPerGiB) + " s", "", ""})
	} else if v.CPUPerRequest != nil {
		rows = append(rows, Row{"proxies' CPU per request", "", latency(*v.CPUPerRequest), "", ""})
	}
	if v.Memory != nil {
		rows = append(rows, Row{"proxies' memory", "", number(float64(*v.Memory)/(1<<20)) + " MiB", "", ""})
	}
	return rows
}

// typical is a figure of a side; see Rows.
func (s *Side) typical(m measure) *float64 {
	var xs []float64
	for _, f := range s.Rounds {
		if x := m.of(f); x != nil {
			xs = append(xs, *x)
		}
	}
	if len(xs) == 0 || len(xs) < len(s.Rounds) {
		return m.of(s.All)
	}
	return some(median(xs))
}

// row is one with a difference.
func (r *Report) row(m measure) Row {
	write, name := micro, m.name
	if m.percent {
		name = "requests/s"
		if r.Load.Bulk() {
			name = "MiB/s"
		}
		write = func(x *float64) string { return number(*x) }
	}
	row := Row{name, write(r.Direct.typical(m)), write(r.Via.typical(m)), "-", "-"}
	if diff := r.find(m.name); diff != nil {
		row.Difference = signed(diff.Mean, diff.Unit)
		if diff.Low != nil {
			row.Interval = signed(*diff.Low, diff.Unit) + " … " + signed(*diff.High, diff.Unit)
		}
	}
	return row
}

// Title says what was measured.
func (r *Report) Title() string {
	l := r.Load
	var b strings.Builder
	b.WriteString(l.Protocol)
	connections := plural(l.Connections, "connection")
	if l.Streams > 1 {
		connections += fmt.Sprintf(" of up to %d requests", l.Streams)
	}
	switch {
	case l.Protocol == "tcp-bulk":
		fmt.Fprintf(&b, ", %s", connections)
	case l.Rate > 0:
		fmt.Fprintf(&b, ", open loop, %s requests/s over %s", plain(l.Rate), connections)
	default:
		fmt.Fprintf(&b, ", closed loop, %s over %s", plural(l.Concurrency, "request"), connections)
	}
	if l.Size > 0 {
		fmt.Fprintf(&b, ", %s", size(l.Size))
	}
	fmt.Fprintf(&b, "; %s of %s s on each side", plural(l.Rounds, "round"), plain(l.Seconds))
	return b.String()
}

func plural(n int, word string) string {
	if n != 1 {
		word += "s"
	}
	return thousands(int64(n)) + " " + word
}

// size writes bytes.
func size(n int) string {
	switch {
	case n >= 1<<20 && n%(1<<20) == 0:
		return strconv.Itoa(n>>20) + " MiB"
	case n >= 1<<10 && n%(1<<10) == 0:
		return strconv.Itoa(n>>10) + " KiB"
	default:
		return thousands(int64(n)) + " bytes"
	}
}

// micro writes a latency that may be missing.
func micro(us *float64) string {
	if us == nil {
		return "-"
	}
	return latency(*us)
}

// latency writes microseconds with three digits.
func latency(us float64) string {
	switch a := abs(us); {
	case a < 999.5:
		return number(us) + " µs"
	case a < 999.5e3:
		return number(us/1e3) + " ms"
	default:
		return number(us/1e6) + " s"
	}
}

// signed writes a difference.
func signed(x float64, unit string) string {
	text := latency(abs(x))
	if unit == "percent" {
		text = number(abs(x)) + " %"
	}
	switch {
	case x > 0:
		return "+" + text
	case x < 0:
		return "−" + text
	default:
		return text
	}
}

// number writes x with three digits, or all those before the point.
func number(x float64) string {
	switch a := abs(x); {
	case a == 0:
		return "0"
	case a >= 99.95:
		return thousands(int64(math.Round(x)))
	case a >= 9.995:
		return strconv.FormatFloat(x, 'f', 1, 64)
	case a >= 0.0995:
		return strconv.FormatFloat(x, 'f', 2, 64)
	default:
		return strconv.FormatFloat(x, 'g', 2, 64)
	}
}

// plain writes what somebody has chosen as it was chosen.
func plain(x float64) string {
	if x == math.Trunc(x) && abs(x) < 1e15 {
		return thousands(int64(x))
	}
	return strconv.FormatFloat(x, 'f', -1, 64)
}

// thousands writes n with a comma after every three digits.
func thousands(n int64) string {
	if n < 0 {
		return "−" + thousands(-n)
	}
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
