package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// format is the flag -o of every command that prints facts.
type format string

func (f *format) add(c *cobra.Command) {
	c.Flags().VarP(f, "output", "o", "text or json")
	c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp))
}

func (f *format) String() string {
	if *f == "" {
		return "text"
	}
	return string(*f)
}

func (f *format) Set(s string) error {
	if s != "text" && s != "json" {
		return fmt.Errorf("%q is none of text, json", s)
	}
	*f = format(s)
	return nil
}

func (f *format) Type() string { return "format" }

func (f *format) json() bool { return *f == "json" }

// printJSON writes v, indented.
func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// printer writes tables: aligned, with headings, on a terminal; else one line a row, fields separated by tabs, after the
// name of the table, which suits cut and grep.
type printer struct {
	w      io.Writer
	tables bool
	colour bool
}

func newPrinter(w io.Writer) *printer {
	tty := isTerminal(w)
	return &printer{w: w, tables: tty, colour: tty && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

// The colours, as terminals know them (ECMA-48 SGR).
const (
	bold   = "1"
	red    = "31"
	yellow = "33"
	green  = "32"
)

// paint returns s in a colour, where there is colour. Control characters, which could come from a peer and steer the terminal, are replaced.
func (p *printer) paint(colour, s string) string {
	s = visible(s)
	if !p.colour || colour == "" || s == "" {
		return s
	}
	return "\x1b[" + colour + "m" + s + "\x1b[0m"
}

// visible replaces what is no visible character.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// cell is one field of a table.
type cell struct{ text, colour string }

func plain(s string) cell { return cell{text: s} }

// table writes rows under headings. It writes nothing without rows.
func (p *printer) table(name string, headings []string, rows [][]cell) {
	if !p.tables {
		for _, row := range rows {
			fields := []string{name}
			for _, c := range row {
				fields = append(fields, visible(c.text))
			}
			fmt.Fprintln(p.w, strings.Join(fields, "\t"))
		}
		return
	}
	if len(rows) == 0 {
		return
	}
	head := make([]cell, len(headings))
	widths := make([]int, len(headings))
	for i, h := range headings {
		head[i] = cell{h, bold}
		widths[i] = utf8.RuneCountInString(h)
	}
	for _, row := range rows {
		for i := range len(row) - 1 {
			row[i].text = shorten(row[i].text)
		}
		for i, c := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(c.text))
		}
	}
	fmt.Fprintln(p.w)
	p.row(head, widths)
	for _, row := range rows {
		p.row(row, widths)
	}
}

// widest is how many characters a cell of a table may have, unless it is the last of its row. The whole text is in -o json.
const widest = 72

func shorten(s string) string {
	if utf8.RuneCountInString(s) <= widest {
		return s
	}
	return string([]rune(s)[:widest-1]) + "…"
}

func (p *printer) row(cells []cell, widths []int) {
	var b strings.Builder
	for i, c := range cells {
		b.WriteString(p.paint(c.colour, c.text))
		if i < len(cells)-1 {
			b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c.text)+2))
		}
	}
	fmt.Fprintln(p.w, strings.TrimRight(b.String(), " "))
}
