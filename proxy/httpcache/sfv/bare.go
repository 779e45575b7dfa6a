package sfv

import (
	"encoding/base64"
	"strconv"
	"strings"
	"unicode/utf8"
)

// bare takes one bare item.
func (p *parser) bare() (Value, error) {
	if p.rest == "" {
		return Value{}, errSyntax
	}
	switch c := p.rest[0]; {
	case c == '-' || digit(c):
		return p.number()
	case c == '"':
		return p.quoted()
	case c == '*' || alpha(c):
		return p.token()
	case c == ':':
		return p.bytes()
	case c == '?':
		return p.boolean()
	case c == '@':
		return p.date()
	case c == '%':
		return p.display()
	}
	return Value{}, errSyntax
}

// number: at most 15 digits, or 12 before the point and 1 to 3 behind it.
func (p *parser) number() (Value, error) {
	n, point := 0, -1
	if p.rest[0] == '-' {
		n++
	}
	first := n
	for ; n < len(p.rest); n++ {
		c := p.rest[n]
		if c == '.' && point < 0 && n > first {
			point = n
			continue
		}
		if !digit(c) {
			break
		}
	}
	text := p.rest[:n]
	p.rest = p.rest[n:]
	if n == first {
		return Value{}, errSyntax
	}
	if point < 0 {
		if n-first > 15 {
			return Value{}, errSyntax
		}
		i, err := strconv.ParseInt(text, 10, 64)
		return Value{Kind: Integer, Int: i}, err
	}
	if behind := n - point - 1; point-first > 12 || behind < 1 || behind > 3 {
		return Value{}, errSyntax
	}
	d, err := strconv.ParseFloat(text, 64)
	return Value{Kind: Decimal, Dec: d}, err
}

func (p *parser) quoted() (Value, error) {
	var b strings.Builder
	for i := 1; i < len(p.rest); i++ {
		switch c := p.rest[i]; {
		case c == '\\':
			i++
			if i == len(p.rest) || p.rest[i] != '"' && p.rest[i] != '\\' {
				return Value{}, errSyntax
			}
			b.WriteByte(p.rest[i])
		case c == '"':
			p.rest = p.rest[i+1:]
			return Value{Kind: String, Str: b.String()}, nil
		case c < ' ' || c > '~':
			return Value{}, errSyntax
		default:
			b.WriteByte(c)
		}
	}
	return Value{}, errSyntax
}

func (p *parser) token() (Value, error) {
	n := 1
	for n < len(p.rest) {
		c := p.rest[n]
		if !alpha(c) && !digit(c) && strings.IndexByte("!#$%&'*+-.^_`|~:/", c) < 0 {
			break
		}
		n++
	}
	v := Value{Kind: Token, Str: p.rest[:n]}
	p.rest = p.rest[n:]
	return v, nil
}

func (p *parser) bytes() (Value, error) {
	end := strings.IndexByte(p.rest[1:], ':')
	if end < 0 {
		return Value{}, errSyntax
	}
	text := strings.TrimRight(p.rest[1:1+end], "=")
	p.rest = p.rest[end+2:]
	if strings.ContainsAny(text, "\r\n") {
		return Value{}, errSyntax
	}
	b, err := base64.RawStdEncoding.DecodeString(text)
	return Value{Kind: Bytes, Str: string(b)}, err
}

func (p *parser) boolean() (Value, error) {
	if len(p.rest) < 2 || p.rest[1] != '0' && p.rest[1] != '1' {
		return Value{}, errSyntax
	}
	v := Value{Kind: Boolean, Bool: p.rest[1] == '1'}
	p.rest = p.rest[2:]
	return v, nil
}

func (p *parser) date() (Value, error) {
	p.rest = p.rest[1:]
	if p.rest == "" || p.rest[0] != '-' && !digit(p.rest[0]) {
		return Value{}, errSyntax
	}
	v, err := p.number()
	if err != nil || v.Kind != Integer {
		return Value{}, errSyntax
	}
	v.Kind = Date
	return v, nil
}

// display: %"…" with lower-case percent encoding of UTF-8.
func (p *parser) display() (Value, error) {
	if !strings.HasPrefix(p.rest, `%"`) {
		return Value{}, errSyntax
	}
	var b strings.Builder
	for i := 2; i < len(p.rest); i++ {
		switch c := p.rest[i]; {
		case c == '"':
			p.rest = p.rest[i+1:]
			if !utf8.ValidString(b.String()) {
				return Value{}, errSyntax
			}
			return Value{Kind: DisplayString, Str: b.String()}, nil
		case c == '%':
			if i+2 >= len(p.rest) || !hex(p.rest[i+1]) || !hex(p.rest[i+2]) {
				return Value{}, errSyntax
			}
			n, _ := strconv.ParseUint(p.rest[i+1:i+3], 16, 8)
			b.WriteByte(byte(n))
			i += 2
		case c < ' ' || c > '~':
			return Value{}, errSyntax
		default:
			b.WriteByte(c)
		}
	}
	return Value{}, errSyntax
}

func hex(c byte) bool { return digit(c) || c >= 'a' && c <= 'f' }
