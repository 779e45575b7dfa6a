package config

import (
	"fmt"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/routing"
)

// scalar returns the text of a scalar, or reports that n is none.
func (d *decoder) scalar(path string, n *yaml.Node, f field) (string, bool) {
	switch {
	case isNull(n):
		d.report(n, path, "has no value; write one%s, or remove the line", hint(f))
		return "", false
	case n.Kind != yaml.ScalarNode:
		d.report(n, path, "wrong type: %s; write one value%s", describe(n), hint(f))
		return "", false
	case strings.HasPrefix(n.Tag, "!") && !strings.HasPrefix(n.Tag, "!!"):
		d.report(n, path, "the tag %s means nothing here; write the value itself", clip(n.Tag))
		return "", false
	}
	return n.Value, true
}

// hint is an example of a value.
func hint(f field) string {
	switch {
	case len(f.enum) > 0:
		return " of " + strings.Join(f.enum, ", ")
	case f.deflt != "":
		return ", as in " + f.key + ": " + f.deflt
	default:
		return ""
	}
}

// parse reads the text of a scalar into v.
func (d *decoder) parse(s string, v reflect.Value, f field) (err error) {
	none := f.none && s == "none"
	switch p := v.Addr().Interface().(type) {
	case *time.Duration:
		if none {
			*p = 0
			return nil
		}
		if *p, err = parseDuration(s); err == nil {
			err = within(*p, f, parseDuration)
		}
	case *int64:
		if *p, err = parseSize(s); err == nil {
			err = within(*p, f, parseSize)
		}
	case *int:
		if none {
			*p = 0
			return nil
		}
		if *p, err = strconv.Atoi(s); err != nil {
			return fmt.Errorf("%q is no whole number", clip(s))
		}
		err = within(*p, f, strconv.Atoi)
	case *Percent:
		if none {
			*p = 0
			return nil
		}
		if *p, err = parsePercent(s); err == nil {
			err = within(*p, f, parsePercent)
		}
	case *uint16:
		*p, err = parsePort(s)
	case *Listen:
		*p, err = parseListen(s, d.dir, f)
	case *Target:
		*p, err = parseTarget(s, d.dir, true)
	case *netip.Prefix:
		*p, err = parseRange(s)
	case *proxy.Identity:
		*p, err = parseIdentity(s)
	case *FileMode:
		*p, err = parseMode(s)
	case *routing.Path:
		*p, err = routing.ParsePath(s)
	case *routing.GRPC:
		*p, err = routing.ParseGRPC(s)
	case *RouteTo:
		*p, err = parseRouteTo(s)
	case *bool:
		*p, err = parseBool(s)
	default: // string, and the words
		if len(f.enum) > 0 {
			err = oneOf(s, f.enum)
		}
		if none {
			s = ""
		}
		v.SetString(s)
	}
	return err
}

// parseRange reads a part of 127.0.0.0/8.
func parseRange(s string) (netip.Prefix, error) {
	const least = 28 // bits: fourteen addresses
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return p, fmt.Errorf("%q is no range of addresses; write one like 127.80.0.0/16", clip(s))
	case p != p.Masked():
		return p, fmt.Errorf("%s begins within a range; write %s", p, p.Masked())
	case !p.Addr().Is4() || !p.Addr().IsLoopback() || p.Bits() < 8:
		return p, fmt.Errorf("%s is no part of 127.0.0.0/8, the addresses of this machine alone; write one like 127.80.0.0/16", p)
	case p.Bits() > least:
		return p, fmt.Errorf("%s is too small; write /%d or larger", p, least)
	}
	return p, nil
}

func parseBool(s string) (bool, error) {
	switch strings.ToLower(s) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	case "yes", "on", "1":
		return false, fmt.Errorf("%q is neither true nor false; did you mean true?", s)
	case "no", "off", "0":
		return false, fmt.Errorf("%q is neither true nor false; did you mean false?", s)
	}
	return false, fmt.Errorf("%q is neither true nor false", clip(s))
}

func oneOf(s string, words []string) error {
	for _, w := range words {
		if s == w {
			return nil
		}
	}
	list := strings.Join(words, ", ")
	if near := nearest(s, words); near != "" {
		return fmt.Errorf("%q is none of %s; did you mean %s?", clip(s), list, near)
	}
	return fmt.Errorf("%q is none of %s", clip(s), list)
}

// within checks v against the bounds of f, which read reads.
func within[T int | int64 | Percent | time.Duration](v T, f field, read func(string) (T, error)) error {
	bound := func(s string) T {
		b, err := read(s)
		if err != nil {
			panic(fmt.Sprintf("config: bound of %s: %v", f.key, err))
		}
		return b
	}
	if f.min != "" && v < bound(f.min) {
		return fmt.Errorf("too small; write %s at least%s", f.min, orNone(f))
	}
	if f.max != "" && v > bound(f.max) {
		return fmt.Errorf("too large; write %s at most%s", f.max, orNone(f))
	}
	return nil
}

func orNone(f field) string {
	if f.none {
		return ", or none"
	}
	return ""
}
