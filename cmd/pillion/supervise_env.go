package main

import (
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/pillion-proxy/pillion/cmd/internal/config"
)

// localNames are what an app never calls through the proxy: itself and its neighbours on this machine. Clients read
// different subsets of these forms.
const localNames = "localhost,127.0.0.1,127.0.0.0/8,::1"

// appEnv returns env with what an app needs to call peers. HTTPS_PROXY is left alone: calls that the app encrypts itself are its own
// affair, and what is no service would be refused.
func appEnv(env []string, cfg *config.Config, outbound net.Addr) []string {
	set := func(key, value string) {
		env = slices.DeleteFunc(env, func(kv string) bool { return strings.HasPrefix(kv, key+"=") })
		env = append(env, key+"="+value)
	}
	env = slices.Clone(env)
	set("PILLION_SERVICE", cfg.Service)
	if addr := outboundAddress(cfg.Outbound.Listen, outbound); addr != "" {
		set("PILLION_OUTBOUND", addr)
		if !strings.HasPrefix(addr, "unix:") {
			set("HTTP_PROXY", "http://"+addr)
			set("http_proxy", "http://"+addr) // the only form that curl reads
			noProxy := joinLists(lookup(env, "NO_PROXY"), lookup(env, "no_proxy"), localNames)
			set("NO_PROXY", noProxy)
			set("no_proxy", noProxy)
		}
	}
	if l := cfg.Admin.Listen; l.On {
		set("PILLION_ADMIN", dialable(l))
	}
	for _, s := range cfg.Services {
		if s.Listen.On && (s.Listen.Port != 0 || s.Listen.Unix != "") {
			set("PILLION_SERVICE_"+envName(s.Name), dialable(s.Listen))
		}
	}
	return env
}

// outboundAddress is where the app finds the outbound listener, "" if there is none.
func outboundAddress(l config.Listen, real net.Addr) string {
	if !l.On {
		return ""
	}
	if real != nil && l.Unix == "" {
		if ap, err := netip.ParseAddrPort(real.String()); err == nil {
			l.Port = ap.Port()
		}
	}
	return dialable(l)
}

// dialable is where l can be reached from this machine: loopback if it listens on every address.
func dialable(l config.Listen) string {
	if l.Unix != "" {
		return "unix:" + l.Unix
	}
	host := "127.0.0.1"
	switch {
	case l.IP.IsValid() && !l.IP.IsUnspecified():
		host = l.IP.String()
	case l.IP.Is6():
		host = "::1"
	}
	return net.JoinHostPort(host, strconv.Itoa(int(l.Port)))
}

func lookup(env []string, key string) string {
	for _, kv := range slices.Backward(env) {
		if value, ok := strings.CutPrefix(kv, key+"="); ok {
			return value
		}
	}
	return ""
}

// joinLists joins lists with commas between their words, each word once.
func joinLists(lists ...string) string {
	var words []string
	for _, list := range lists {
		for word := range strings.SplitSeq(list, ",") {
			if word = strings.TrimSpace(word); word != "" && !slices.Contains(words, word) {
				words = append(words, word)
			}
		}
	}
	return strings.Join(words, ",")
}

// envName makes "legacy-db" LEGACY_DB.
func envName(service string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToUpper(service))
}
