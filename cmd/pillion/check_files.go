package main

import (
	"errors"
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
