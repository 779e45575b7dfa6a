package etcd

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"unicode/utf8"

	"github.com/pillion-proxy/pillion/discovery"
	"github.com/pillion-proxy/pillion/proxy"
)

// value is what is written under a key. Order is that of the documentation.
type value struct {
	Address   string   `json:"address"`
	Identity  string   `json:"identity,omitempty"`
	Weight    int      `json:"weight,omitempty"`
	Zone      string   `json:"zone,omitempty"`
	Mesh      *bool    `json:"mesh,omitempty"`
	Transport string   `json:"transport,omitempty"`
	Labels    labels   `json:"labels,omitempty"`
	Ports     []uint16 `json:"ports,omitempty"` // of the app, for people
}

type labels map[string]string

// parseValue makes an Endpoint of what is under a key.
func parseValue(data []byte, d discovery.Defaults) (proxy.Endpoint, error) {
	var v value
	if !utf8.Valid(data) { // which JSON would take, with something else in its place
		return proxy.Endpoint{}, errors.New("the value is no text")
	}
	if text := bytes.TrimSpace(data); bytes.HasPrefix(text, []byte("{")) {
		if err := json.Unmarshal(text, &v); err != nil {
			return proxy.Endpoint{}, fmt.Errorf("the value is no JSON object as it should be: %w", err)
		}
	} else {
		v.Address = string(text)
	}
	addr, err := parseAddress(v.Address)
	if err != nil {
		return proxy.Endpoint{}, err
	}
	say := discovery.Labels{Identity: v.Identity, Transport: v.Transport, Zone: v.Zone, More: v.Labels}
	if v.Weight != 0 {
		say.Weight = strconv.Itoa(v.Weight)
	}
	if v.Mesh != nil {
		say.Mesh = strconv.FormatBool(*v.Mesh)
	}
	return d.Described(addr, say)
}

// parseAddress reads an IP with or without a port; without, the port is 0.
func parseAddress(s string) (netip.AddrPort, error) {
	if s == "" {
		return netip.AddrPort{}, errors.New("the value has no address")
	}
	if ip, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(ip, 0), nil
	}
	addr, err := netip.ParseAddrPort(s)
	if err != nil {
		return addr, fmt.Errorf("%q is no address; it should be as in 10.0.0.7:15008", clip(s))
	}
	return addr, nil
}

// clip bounds text of the server in a message.
func clip(s string) string {
	const most = 100 // bytes
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
