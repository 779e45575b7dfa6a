// Package sfv parses structured field values (RFC 9651, which replaced RFC 8941): items, lists and dictionaries, strictly. What does
// not parse is an error as a whole, as the RFC wants it: a field that is half understood is not understood. It only reads.
package sfv

import (
	"errors"
	"strings"
)

// Kind is the type of a Value.
type Kind uint8

// The kinds.
const (
	Integer Kind = iota + 1
	Decimal
	String
	Token
	Bytes
	Boolean
	Date
	DisplayString
	InnerList
)

// Value is one bare item, or an inner list.
type Value struct {
	Kind Kind
	Int  int64   // of Integer and Date (seconds)
	Dec  float64 // of Decimal
	Str  string  // of String, Token, Bytes (decoded), DisplayString
	Bool bool
	List []Item // of InnerList
}

// Item is a Value with its parameters.
type Item struct {
	Value
	Params []Param
}

// Param is one parameter. The last of its key counts, in the first one's place.
type Param struct {
	Key   string
	Value Value
}

// Member is one entry of a dictionary.
type Member struct {
	Key string
	Item
}

// errSyntax is all that is said of what does not parse: nobody is told more.
var errSyntax = errors.New("no structured field")

// ParseItem parses one item.
func ParseItem(s string) (Item, error) {
	p := parser{rest: strings.Trim(s, " ")}
	i, err := p.item()
	if err == nil && p.rest != "" {
		err = errSyntax
	}
	return i, err
}

// ParseList parses a list. An empty one is no error.
func ParseList(s string) ([]Item, error) {
	p := parser{rest: strings.Trim(s, " ")}
	var all []Item
	for p.rest != "" {
		i, err := p.itemOrList()
		if err != nil {
			return nil, err
		}
		all = append(all, i)
		if err := p.comma(); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// ParseDictionary parses a dictionary; its members come in the order of their first mention, with the value of the last. An empty one is no error.
func ParseDictionary(s string) ([]Member, error) {
	p := parser{rest: strings.Trim(s, " ")}
	var all []Member
	for p.rest != "" {
		m, err := p.member()
		if err != nil {
			return nil, err
		}
		all = put(all, m)
		if err := p.comma(); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func put(all []Member, m Member) []Member {
	for i := range all {
		if all[i].Key == m.Key {
			all[i] = m
			return all
		}
	}
	return append(all, m)
}

// parser takes values off the front of rest. Members, items of inner lists and parameters are linear in the text, and a value nests one list deep at most.
type parser struct{ rest string }

// comma takes what is between two members: after it there must be another.
func (p *parser) comma() error {
	p.skip(" \t")
	if p.rest == "" {
		return nil
	}
	if p.rest[0] != ',' {
		return errSyntax
	}
	p.rest = p.rest[1:]
	p.skip(" \t")
	if p.rest == "" {
		return errSyntax // RFC 9651 section 4.2.2: a trailing comma fails
	}
	return nil
}

func (p *parser) skip(set string) { p.rest = strings.TrimLeft(p.rest, set) }

// next reports whether the next byte is c, and takes it if so.
func (p *parser) next(c byte) bool {
	if p.rest == "" || p.rest[0] != c {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

func (p *parser) member() (Member, error) {
	key, err := p.key()
	if err != nil {
		return Member{}, err
	}
	m := Member{Key: key}
	if p.next('=') {
		m.Item, err = p.itemOrList()
		return m, err
	}
	m.Value = Value{Kind: Boolean, Bool: true}
	m.Params, err = p.params()
	return m, err
}

func (p *parser) itemOrList() (Item, error) {
	if p.next('(') {
		return p.innerList()
	}
	return p.item()
}

func (p *parser) innerList() (Item, error) {
	list := Item{Value: Value{Kind: InnerList}}
	for {
		p.skip(" ")
		if p.next(')') {
			var err error
			list.Params, err = p.params()
			return list, err
		}
		i, err := p.item()
		if err != nil {
			return Item{}, err
		}
		list.List = append(list.List, i)
		if p.rest == "" || p.rest[0] != ' ' && p.rest[0] != ')' {
			return Item{}, errSyntax
		}
	}
}

func (p *parser) item() (Item, error) {
	v, err := p.bare()
	if err != nil {
		return Item{}, err
	}
	params, err := p.params()
	return Item{v, params}, err
}

func (p *parser) params() ([]Param, error) {
	var all []Param
next:
	for p.next(';') {
		p.skip(" ")
		key, err := p.key()
		if err != nil {
			return nil, err
		}
		v := Value{Kind: Boolean, Bool: true}
		if p.next('=') {
			if v, err = p.bare(); err != nil {
				return nil, err
			}
		}
		for i := range all {
			if all[i].Key == key {
				all[i].Value = v
				continue next
			}
		}
		all = append(all, Param{key, v})
	}
	return all, nil
}

// key: ( lcalpha / "*" ) *( lcalpha / DIGIT / "_" / "-" / "." / "*" )
func (p *parser) key() (string, error) {
	n := 0
	for ; n < len(p.rest); n++ {
		c := p.rest[n]
		if lower(c) || c == '*' || n > 0 && (digit(c) || c == '_' || c == '-' || c == '.') {
			continue
		}
		break
	}
	if n == 0 {
		return "", errSyntax
	}
	key := p.rest[:n]
	p.rest = p.rest[n:]
	return key, nil
}

func lower(c byte) bool { return c >= 'a' && c <= 'z' }
func digit(c byte) bool { return c >= '0' && c <= '9' }
func alpha(c byte) bool { return lower(c | 0x20) }
