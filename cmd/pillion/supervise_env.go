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

// appEnv returns env with what an app needs to call peers. listeners say where those are whose port was left to the system.
// HTTPS_PROXY is left alone: calls that the app encrypts itself are its own affair, and what is no service would be refused.
func appEnv(env []string, cfg *config.Config, listeners map[string]net.Addr) []string {
	env = slices.Clone(env)
	set := func(key, value string) {
		env = slices.DeleteFunc(env, func(kv string) bool { return strings.HasPrefix(kv, key+"=") })
		if value != "" {
			env = append(env, key+"="+value)
		}
	}
	set("PILLION_SERVICE", cfg.Service)
	set("PILLION_DNS", reachable(cfg.Outbound.DNS, listeners["dns"]))
	set("PILLION_ADMIN", reachable(cfg.Admin.Listen, listeners["admin"]))
	for _, s := range cfg.Services {
		set("PILLION_SERVICE_"+envName(s.Name), reachable(s.Listen, listeners["services."+s.Name]))
	}
	addr := reachable(cfg.Outbound.Listen, listeners["outbound"])
	set("PILLION_OUTBOUND", addr)
	if addr == "" || strings.HasPrefix(addr, "unix:") {
		return env
	}
	set("HTTP_PROXY", "http://"+addr)
	set("http_proxy", "http://"+addr) // the only form that curl reads
	noProxy := joinLists(lookup(env, "NO_PROXY"), lookup(env, "no_proxy"), localNames)
	set("NO_PROXY", noProxy)
	set("no_proxy", noProxy)
	return env
}

// reachable is where this machine finds l, which really listens at real, if that is known; "" if nowhere.
func reachable(l config.Listen, real net.Addr) string {
	if real != nil && l.Unix == "" {
		if ap, err := netip.ParseAddrPort(real.String()); err == nil {
			l.Port = ap.Port()
		}
	}
	if !l.On || l.Unix == "" && l.Port == 0 {
		return ""
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
