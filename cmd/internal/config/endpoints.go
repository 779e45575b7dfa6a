package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// parseEndpoint reads one entry of endpoints into e. An address without a port gets port 0 until it is known whether a sidecar is there.
func parseEndpoint(s, dir string, e *Endpoints) error {
	kind, rest, found := strings.Cut(s, ":")
	switch {
	case found && kind == "file":
		if rest == "" {
			return fmt.Errorf("file: has no path; write file:endpoints.txt")
		}
		e.File = join(dir, rest)
		return nil
	case found && kind == kubernetesKind:
		return parseKubernetes(rest, e)
	case found && kind == consulKind:
		return parseConsul(rest, e)
	case found && kind == etcdKind:
		return parseEtcd(rest, e)
	case found && kind == xdsKind:
		return parseXDS(rest, e)
	case found && isDNS(kind):
		return parseDNS(DNSKind(kind), rest, e)
	case strings.Contains(s, ","):
		return fmt.Errorf("%q is several addresses; write them as a list: [%s]", clip(s), clip(s))
	}
	t, err := parseTarget(s, dir, false)
	if err == nil && isDigits(s) {
		return fmt.Errorf("%s is a port; write an address, as in 10.0.0.7:%s", s, s)
	}
	if err == nil {
		e.Static = append(e.Static, t)
		return nil
	}
	return endpointError(s, kind, found, err)
}

// kinds are the sources of endpoints with a word before the colon.
var kinds = []string{"file", "dns", "srv", "svcb", kubernetesKind, consulKind, etcdKind, xdsKind}

const kindsInWords = "file:path, dns:name, srv:name, svcb:name, consul:name, etcd:name, kubernetes:name.namespace and xds:cluster"

// endpointError says what was probably meant.
func endpointError(s, kind string, found bool, err error) error {
	if strings.Contains(s, "://") {
		return err
	}
	if !found && looksLikeIP(s) {
		return err
	}
	if !found && checkHostName(s) == nil {
		return fmt.Errorf("%q is a name; write dns:%s", clip(s), s)
	}
	if found {
		if port, perr := parsePort(s[len(kind)+1:]); perr == nil && !looksLikeIP(kind) && checkHostName(kind) == nil {
			return fmt.Errorf("%q is a name; write dns:%s:%d", clip(s), kind, port)
		}
		if near := nearest(kind, append(slices.Clone(kinds), "unix")); near != "" && !looksLikeIP(kind) {
			return fmt.Errorf("%q is no source of endpoints; did you mean %s:? There are addresses, %s", clip(kind+":"), near, kindsInWords)
		}
		if !looksLikeIP(kind) && isWord(kind) {
			return fmt.Errorf("%q is no source of endpoints; there are addresses, %s", clip(kind+":"), kindsInWords)
		}
	}
	return err
}

func isWord(s string) bool { return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz") == "" }

func isDNS(kind string) bool {
	switch DNSKind(kind) {
	case DNSHosts, DNSSRV, DNSSVCB:
		return true
	}
	return false
}

func parseDNS(kind DNSKind, s string, e *Endpoints) error {
	name, port, found := strings.Cut(s, ":")
	for _, host := range []string{name, strings.Trim(s, "[]")} {
		if _, err := netip.ParseAddr(host); err == nil {
			return fmt.Errorf("%s is an address, which needs no DNS; write it alone, without the %s", clip(s), kind)
		}
	}
	if err := checkHostName(name); err != nil {
		return err
	}
	if kind == DNSSRV && !strings.HasPrefix(name, "_") {
		return fmt.Errorf("%q does not say which service; write one like srv:_http._tcp.%s", clip(name), clip(name))
	}
	e.DNS, e.Kind = strings.ToLower(name), kind
	if !found {
		return nil
	}
	var err error
	e.Port, err = parsePort(port)
	return err
}

// String returns the value as it is written in YAML; a list in brackets.
func (e Endpoints) String() string {
	switch {
	case e.File != "":
		return "file:" + e.File
	case e.XDS != "":
		return xdsKind + ":" + e.XDS
	case e.Kubernetes.Name != "":
		return kubernetesKind + ":" + e.Kubernetes.String()
	case e.Consul.Name != "":
		return consulKind + ":" + e.Consul.String()
	case e.Etcd != "":
		return etcdKind + ":" + e.Etcd
	case e.DNS != "" && e.Port != 0:
		return fmt.Sprintf("%s:%s:%d", e.Kind, e.DNS, e.Port)
	case e.DNS != "":
		return string(e.Kind) + ":" + e.DNS
	}
	parts := make([]string, len(e.Static))
	for i, t := range e.Static {
		parts[i] = t.String()
	}
	return "[" + strings.Join(parts, ", ") + "]"
}
