package config

import (
	"strings"

	"go.yaml.in/yaml/v3"
)

// Flags are settings from the command line, as text. Empty ones say nothing.
type Flags struct {
	Service     string   // --service
	App         []string // --app, "127.0.0.1:8080" or "8080=127.0.0.1:9090"
	To          []string // --to, "billing=10.0.0.7" or "billing=10.0.0.7,10.0.0.8"
	Listen      string   // --listen: outbound.listen
	PeerListen  string   // --peer-listen: peer.listen
	AdminListen string   // --admin: admin.listen
	TrustDomain string   // --trust-domain: identity.trust_domain
	Cert        string   // --cert: identity.cert
	Key         string   // --key: identity.key
	Roots       string   // --roots: identity.roots
	DevCA       string   // --dev-ca: identity.dev_ca
	Drain       string   // --drain: drain
	LogLevel    string   // --log-level: log.level
	LogFormat   string   // --log-format: log.format
}

// Empty reports whether no flag is given.
func (f Flags) Empty() bool {
	for _, s := range f.settings() {
		if s.value != "" {
			return false
		}
	}
	return len(f.App) == 0 && len(f.To) == 0
}

// setting is a flag that stands for one key.
type setting struct{ flag, path, value string }

func (f Flags) settings() []setting {
	return []setting{
		{"--service", "service", f.Service},
		{"--listen", "outbound.listen", f.Listen},
		{"--peer-listen", "peer.listen", f.PeerListen},
		{"--admin", "admin.listen", f.AdminListen},
		{"--trust-domain", "identity.trust_domain", f.TrustDomain},
		{"--cert", "identity.cert", f.Cert},
		{"--key", "identity.key", f.Key},
		{"--roots", "identity.roots", f.Roots},
		{"--dev-ca", "identity.dev_ca", f.DevCA},
		{"--drain", "drain", f.Drain},
		{"--log-level", "log.level", f.LogLevel},
		{"--log-format", "log.format", f.LogFormat},
	}
}

// overlay writes the flags into the document, over what stands there.
func (d *decoder) overlay(root *yaml.Node, f Flags) {
	for _, s := range f.settings() {
		if s.value == "" {
			continue
		}
		at := root
		keys := strings.Split(s.path, ".")
		for _, key := range keys[:len(keys)-1] {
			at = child(at, key)
		}
		set(at, keys[len(keys)-1], d.flagValue(s.flag+" "+s.value, s.value))
	}
	if len(f.App) > 0 {
		list := &yaml.Node{Kind: yaml.SequenceNode}
		for _, a := range f.App {
			list.Content = append(list.Content, d.flagApp(a))
		}
		set(root, "app", list)
	}
	for _, to := range f.To {
		d.flagTo(root, to)
	}
}

// flagApp reads "127.0.0.1:8080" or "8080=127.0.0.1:9090".
func (d *decoder) flagApp(a string) *yaml.Node {
	flag := "--app " + a
	port, to, found := strings.Cut(a, "=")
	if !found {
		return d.flagValue(flag, a)
	}
	entry := d.flagNode(flag, &yaml.Node{Kind: yaml.MappingNode})
	set(entry, "port", d.flagValue(flag, port))
	set(entry, "to", d.flagValue(flag, to))
	return entry
}

// flagTo reads "billing=10.0.0.7,10.0.0.8". A service that the file has keeps its other keys.
func (d *decoder) flagTo(root *yaml.Node, to string) {
	flag := "--to " + to
	name, addrs, found := strings.Cut(to, "=")
	if !found {
		n := d.flagValue(flag, to)
		d.report(n, "", "write a name and an address, as in --to billing=10.0.0.7")
		return
	}
	value := d.flagNode(flag, &yaml.Node{Kind: yaml.SequenceNode})
	for _, a := range strings.Split(addrs, ",") {
		value.Content = append(value.Content, d.flagValue(flag, strings.TrimSpace(a)))
	}
	if len(value.Content) == 1 {
		value = value.Content[0]
	}
	services := child(root, "services")
	if have := get(services, name); have != nil && have.Kind == yaml.MappingNode {
		set(have, "endpoints", value)
		return
	}
	d.flagNode(flag, set(services, name, value))
}

func (d *decoder) flagValue(flag, value string) *yaml.Node {
	return d.flagNode(flag, &yaml.Node{Kind: yaml.ScalarNode, Value: value, Tag: "!!str"})
}

func (d *decoder) flagNode(flag string, n *yaml.Node) *yaml.Node {
	d.flags[n] = flag
	return n
}

// child returns the mapping under key, making it if there is none.
func child(m *yaml.Node, key string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode}
	switch have := get(m, key); {
	case have == nil || isNull(have):
	case have.Kind == yaml.MappingNode:
		return have
	case have.Kind == yaml.AliasNode && have.Alias.Kind == yaml.MappingNode:
		*n = *have.Alias // a copy: the flag is not for the others that stand for the same
		n.Content = append([]*yaml.Node(nil), n.Content...)
		n.Anchor = ""
	default:
		return n // the file's mistake is reported; the flag has nowhere to go
	}
	set(m, key, n)
	return n
}

func get(m *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == key {
			return m.Content[i+1]
		}
	}
	return nil
}

// set writes the value of key, and returns the node of the key.
func set(m *yaml.Node, key string, value *yaml.Node) *yaml.Node {
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == key {
			m.Content[i+1] = value
			return m.Content[i]
		}
	}
	k := &yaml.Node{Kind: yaml.ScalarNode, Value: key, Tag: "!!str"}
	m.Content = append(m.Content, k, value)
	return k
}
