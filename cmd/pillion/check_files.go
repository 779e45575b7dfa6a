package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pillion-proxy/pillion/cmd/internal/config"
	"github.com/pillion-proxy/pillion/discovery/file"
	"github.com/pillion-proxy/pillion/tls/mtls"
)

// inspectFiles judges the files that cfg names as run would: with mistakes it does not start, of the others it warns.
func inspectFiles(cfg *config.Config) (mistakes config.Problems, warnings []config.Problem) {
	if id := cfg.Identity; id.Cert != "" {
		src, err := mtls.New(mtls.Config{Cert: id.Cert, Key: id.Key, Roots: id.Roots, TrustDomain: id.TrustDomain, Now: time.Now})
		switch {
		case err != nil:
			mistakes = append(mistakes, identityProblem(cfg, err))
		case src.Status().Warning != "":
			warnings = append(warnings, cfg.Problem("identity.cert", "%s", src.Status().Warning))
		}
	}
	mistakes = append(mistakes, inspectSockets(cfg)...)
	for _, s := range cfg.Services {
		if s.Endpoints.File == "" {
			continue
		}
		key := "services." + s.Name + ".endpoints"
		set, err := file.Read(s.Endpoints.File, defaultsOf(s))
		switch {
		case err != nil: // run waits for a better one
			for _, line := range strings.Split(err.Error(), "\n") {
				warnings = append(warnings, cfg.Problem(key, "%s", line))
			}
		case len(set) == 0:
			warnings = append(warnings, cfg.Problem(key, "%s lists no endpoints: calls are answered 503", s.Endpoints.File))
		}
	}
	return mistakes, warnings
}

// inspectSockets finds Unix sockets to listen on for which there is no folder, no user or no group.
func inspectSockets(cfg *config.Config) (mistakes config.Problems) {
	inspect := func(key string, l config.Listen, c config.Socket) {
		if l.Unix == "" {
			return
		}
		if dir := filepath.Dir(l.Unix); !isFolder(dir) {
			mistakes = append(mistakes, cfg.Problem(key+".listen", "there is no folder %s for the socket; make it, or write another path", dir))
		}
		if _, err := userID(c); err != nil {
			mistakes = append(mistakes, cfg.Problem(key+".socket.owner", "%v on this machine; write the name, or the number, of a user", err))
		}
		if _, err := groupID(c); err != nil {
			mistakes = append(mistakes, cfg.Problem(key+".socket.group", "%v on this machine; write the name, or the number, of a group", err))
		}
	}
	inspect("outbound", cfg.Outbound.Listen, cfg.Outbound.Socket)
	for _, s := range cfg.Services {
		if s.Protocol.TCP() {
			inspect("services."+s.Name, s.Listen, s.Socket)
		}
	}
	return mistakes
}

func isFolder(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}

// identityProblem says which of the three files err is about.
func identityProblem(cfg *config.Config, err error) config.Problem {
	if inner := errors.Unwrap(err); inner != nil {
		err = inner // the paths are known from the place
	}
	key, text := "identity.cert", err.Error()
	switch {
	case strings.HasPrefix(text, "roots: "):
		key, text = "identity.roots", text[len("roots: "):]
	case strings.HasPrefix(text, "certificate and key: "):
		key, text = "identity.key", text[len("certificate and key: "):]
	case strings.HasPrefix(text, "certificate: "):
		text = text[len("certificate: "):]
	}
	return cfg.Problem(key, "%s", text)
}
