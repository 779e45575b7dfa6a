package config

import (
	"fmt"
	"strings"
)

// Problem is one mistake in a configuration.
type Problem struct {
	// File is the file, or the flag ("--to") that the value came from.
	File string
	// Line and Column count from 1; 0 means that there is none.
	Line, Column int
	// Key is the path of the key, as in "services.billing.listen"; may be "".
	Key string
	// Text says what is wrong and what to write instead.
	Text string
}

// String returns "file:line:column: key: text".
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", p.Line, max(p.Column, 1))
	}
	b.WriteString(": ")
	if p.Key != "" {
		b.WriteString(p.Key + ": ")
	}
	b.WriteString(p.Text)
	return b.String()
}

// Problem makes one of key, a path such as "identity.cert" whose value names a file. Load looks at what is written in the
// configuration; what is in such files is for others to judge.
func (c *Config) Problem(key, format string, args ...any) Problem {
	p := c.at[key]
	p.Key, p.Text = key, fmt.Sprintf(format, args...)
	return p
}

// noteFiles keeps the places that Config.Problem may be asked for.
func (d *decoder) noteFiles(c *Config) {
	c.at = make(map[string]Problem)
	keys := []string{"identity.cert", "identity.key", "identity.roots"}
	ways := []string{"outbound"}
	for _, s := range c.Services {
		at := "services." + s.Name
		keys = append(keys, at+".endpoints")
		ways = append(ways, at)
		for i := range s.Routes {
			keys = append(keys, fmt.Sprintf("%s.routes[%d]", at, i))
		}
	}
	for _, at := range ways {
		for _, key := range []string{at + ".listen", at + ".socket.owner", at + ".socket.group"} {
			if d.places[key] != nil {
				keys = append(keys, key)
			}
		}
	}
	for _, key := range keys {
		n := d.places[key]
		if n == nil {
			n = d.places[strings.TrimSuffix(key, ".endpoints")] // the short form
		}
		c.at[key] = d.problem(n, key, "")
	}
}

// Problems is every mistake that was found, in the order of the file. It is the error of Load and FromFlags.
type Problems []Problem

// Error returns one line per mistake.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}
