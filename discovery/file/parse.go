package file

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/pillion-proxy/pillion/discovery"
	"github.com/pillion-proxy/pillion/proxy"
)

// maxMistakes is how many are told of one file.
const maxMistakes = 10

// parser collects the endpoints and the mistakes of one file.
type parser struct {
	path     string
	defaults discovery.Defaults
	set      []proxy.Endpoint
	where    map[string]*yaml.Node // address → the item that has it
	mistakes []error
}

// parse reads the list. The error, if any, names every mistake (up to maxMistakes), one per line.
func parse(path string, data []byte, d discovery.Defaults) ([]proxy.Endpoint, error) {
	p := &parser{path: path, defaults: d, where: make(map[string]*yaml.Node)}
	if root := p.document(data); root != nil {
		p.list(root)
	}
	if n := len(p.mistakes); n > 0 {
		if n > maxMistakes {
			p.mistakes = append(p.mistakes[:maxMistakes], fmt.Errorf("%s: and %d more mistakes", path, n-maxMistakes))
		}
		return nil, errors.Join(p.mistakes...)
	}
	return p.set, nil
}

func (p *parser) report(n *yaml.Node, format string, args ...any) {
	p.mistakes = append(p.mistakes, fmt.Errorf("%s:%d:%d: %s", p.path, max(n.Line, 1), max(n.Column, 1), fmt.Sprintf(format, args...)))
}

func (p *parser) document(data []byte) *yaml.Node {
	top := &yaml.Node{Line: 1, Column: 1}
	if len(bytes.TrimSpace(data)) == 0 {
		p.report(top, "the file is empty; write [] if there are no endpoints")
		return nil
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	err := dec.Decode(&doc)
	if errors.Is(err, io.EOF) {
		p.report(top, "the file holds only comments; write [] if there are no endpoints")
		return nil
	}
	if err == nil {
		err = dec.Decode(&second)
		if err == nil {
			p.report(&second, "a second document begins here; keep one in a file")
			return nil
		}
	}
	if !errors.Is(err, io.EOF) {
		p.syntax(err)
		return nil
	}
	return doc.Content[0]
}

// syntax turns what the YAML parser says, "yaml: line 3: …", into a mistake.
func (p *parser) syntax(err error) {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	at := &yaml.Node{Line: 1, Column: 1}
	if m := regexp.MustCompile(`^line (\d+): (.*)`).FindStringSubmatch(text); m != nil {
		at.Line, _ = strconv.Atoi(m[1])
		text = m[2]
	}
	p.report(at, "%s", text)
}

func (p *parser) list(root *yaml.Node) {
	if root.Kind != yaml.SequenceNode {
		p.report(root, "a list of addresses was expected, as in \"- 10.0.0.7:15008\"")
		return
	}
	for _, n := range root.Content {
		e, ok := p.item(n)
		if !ok {
			continue
		}
		if first, double := p.where[e.String()]; double {
			p.report(n, "%v stands in line %d already", &e, first.Line)
			continue
		}
		p.where[e.String()] = n
		p.set = append(p.set, e)
	}
}

func (p *parser) item(n *yaml.Node) (proxy.Endpoint, bool) {
	switch n.Kind {
	case yaml.ScalarNode:
		return p.finish(n, n, p.defaults.Endpoint(netip.AddrPort{}))
	case yaml.MappingNode:
		return p.object(n)
	case yaml.AliasNode:
		p.report(n, "aliases are not understood here; write the address out")
	default:
		p.report(n, "an address or an object was expected, as in 10.0.0.7:15008 or {address: 10.0.0.7, weight: 2}")
	}
	return proxy.Endpoint{}, false
}

func (p *parser) object(n *yaml.Node) (proxy.Endpoint, bool) {
	before := len(p.mistakes)
	e := p.defaults.Endpoint(netip.AddrPort{})
	e.Identity = p.defaults.Identity
	var address *yaml.Node
	had := make(map[string]bool)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		switch {
		case had[key.Value]:
			p.report(key, "%s stands here twice", clip(key.Value))
		case key.Value == "labels":
			p.labels(&e, value)
		case value.Kind != yaml.ScalarNode:
			p.report(value, "%s: one value was expected", clip(key.Value))
		case key.Value == "address":
			address = value
		default:
			p.member(&e, key, value)
		}
		had[key.Value] = true
	}
	if address == nil && len(p.mistakes) == before {
		p.report(n, "the address is missing")
	}
	if len(p.mistakes) > before {
		return e, false
	}
	if !e.Mesh {
		e.Identity, e.Transport = "", ""
	}
	return p.finish(n, address, e)
}

// labels reads a mapping from names to values.
func (p *parser) labels(e *proxy.Endpoint, n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		p.report(n, "labels: names and values were expected, as in {version: v2}")
		return
	}
	labels := make(map[string]string, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		switch _, double := labels[key.Value]; {
		case key.Kind != yaml.ScalarNode || value.Kind != yaml.ScalarNode:
			p.report(value, "labels: one value was expected")
		case key.Value == "" || strings.ContainsAny(key.Value, ",=") || strings.Contains(value.Value, ","):
			p.report(key, "labels: a name has no comma and no equals sign, and a value no comma")
		case double:
			p.report(key, "labels: %s stands here twice", clip(key.Value))
		}
		labels[key.Value] = value.Value
	}
	e.Labels = proxy.Labels(labels)
}

func (p *parser) member(e *proxy.Endpoint, key, value *yaml.Node) {
	switch key.Value {
	case "identity":
		id, err := proxy.ParseIdentity(value.Value)
		if err != nil {
			p.report(value, "identity: %s", clip(err.Error()))
		}
		e.Identity = id
	case "weight":
		w, err := strconv.Atoi(value.Value)
		if err != nil || w < 1 || w > 1<<20 {
			p.report(value, "weight: %q is not a whole number from 1 to %d", clip(value.Value), 1<<20)
		}
		e.Weight = w
	case "zone":
		e.Zone = value.Value
	case "transport":
		switch t := proxy.Transport(value.Value); t {
		case proxy.Auto, proxy.TCP, proxy.QUIC:
			e.Transport = t
		default:
			p.report(value, "transport: %q is neither auto nor tcp nor quic", clip(value.Value))
		}
	case "mesh":
		if value.Value != "true" && value.Value != "false" {
			p.report(value, "mesh: %q is neither true nor false", clip(value.Value))
		}
		e.Mesh = value.Value == "true"
	default:
		p.report(key, "unknown key %q; there are address, identity, weight, zone, labels, mesh and transport", clip(key.Value))
	}
}

// finish puts the address into e and checks the whole.
func (p *parser) finish(n, address *yaml.Node, e proxy.Endpoint) (proxy.Endpoint, bool) {
	if path, ok := strings.CutPrefix(address.Value, "unix:"); ok && path != "" {
		e.Unix, e.Addr = path, netip.AddrPort{}
	} else {
		addr, err := parseAddress(address.Value)
		if err != nil {
			p.report(address, "%v", err)
			return e, false
		}
		e.Addr = p.defaults.Endpoint(addr).Addr
	}
	if err := discovery.Check(&e); err != nil {
		p.report(n, "%s", clip(err.Error()))
		return e, false
	}
	return e, true
}

// parseAddress reads an IP with or without a port; without, the port is 0.
func parseAddress(s string) (netip.AddrPort, error) {
	if ip, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")); err == nil {
		return netip.AddrPortFrom(ip, 0), nil
	}
	addr, err := netip.ParseAddrPort(s)
	if err != nil {
		return addr, fmt.Errorf("%q is no address; write an IP, or an IP and a port, as in 10.0.0.7:15008", clip(s))
	}
	return addr, nil
}

// clip bounds text of the file in a message.
func clip(s string) string {
	const most = 200 // bytes
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
