package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/pillion-proxy/pillion/cmd/internal/config"
)

// configFile is what is read when -c is not given.
const configFile = "pillion.yaml"

// settings are the flags that choose a configuration.
type settings struct {
	path  string
	flags config.Flags
}

// addPath adds -c.
func (s *settings) addPath(c *cobra.Command) {
	c.Flags().StringVarP(&s.path, "config", "c", "", "the configuration file (default "+configFile+", if there is one)")
	c.MarkFlagFilename("config", "yaml", "yml")
}

// addFlags adds the flags that stand for keys.
func (s *settings) addFlags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&s.flags.Service, "service", "", "the name of the workload beside this sidecar; without -c, no file is read then")
	f.StringArrayVar(&s.flags.App, "app", nil, "where the app listens, as in 127.0.0.1:8080 or 80=127.0.0.1:8080 (repeatable)")
	f.StringArrayVar(&s.flags.To, "to", nil, "a service and where it runs, as in billing=10.0.0.7 or billing=dns:billing.internal (repeatable)")
	f.StringVar(&s.flags.Listen, "listen", "", "where the app sends calls (default 127.0.0.1:15001)")
	f.StringVar(&s.flags.PeerListen, "peer-listen", "", "where peers connect (default :15008)")
	f.StringVar(&s.flags.AdminListen, "admin", "", "where health and status are served (default 127.0.0.1:15000)")
	f.StringVar(&s.flags.TrustDomain, "trust-domain", "", "the trust domain of every identity")
	f.StringVar(&s.flags.Cert, "cert", "", "the certificate chain, PEM")
	f.StringVar(&s.flags.Key, "key", "", "the private key, PEM")
	f.StringVar(&s.flags.Roots, "roots", "", "the authorities that peers must be signed by, PEM")
	f.StringVar(&s.flags.DevCA, "dev-ca", "", "the folder of the development CA, used without --cert")
	f.StringVar(&s.flags.Drain, "drain", "", "how long a stop may take (default 30s)")
	f.StringVar(&s.flags.LogLevel, "log-level", "", "debug, info, warn or error (default info)")
	f.StringVar(&s.flags.LogFormat, "log-format", "", "text or json (default text)")
}

// file returns the path to read, or "" when the flags are all there is.
func (s *settings) file() string {
	if s.path != "" {
		return s.path
	}
	if s.flags.Service != "" {
		return ""
	}
	if _, err := os.Stat(configFile); err == nil {
		return configFile
	}
	return ""
}

// load returns the configuration that the flags choose.
func (s *settings) load() (*config.Config, error) {
	path := s.file()
	if path != "" {
		cfg, err := config.LoadWith(path, s.flags)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, &usageError{fmt.Errorf("there is no file %s; write one with \"pillion init %s\"", path, path)}
		}
		var problems config.Problems
		if err != nil && !errors.As(err, &problems) {
			return nil, &usageError{fmt.Errorf("%w; name a configuration file", err)}
		}
		return cfg, err
	}
	if s.flags.Empty() {
		return nil, &usageError{errors.New(`there is no configuration; write one with "pillion init", or say --service, --app and --to`)}
	}
	return config.FromFlags(s.flags)
}

// levelOf is the least severity that is logged.
func levelOf(cfg config.Log) slog.Level {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.Level)); err != nil {
		level = slog.LevelInfo // cannot happen: the words are checked
	}
	return level
}

// newLogger makes the log that cfg asks for.
func newLogger(cfg config.Log, level *slog.LevelVar, w io.Writer) *slog.Logger {
	o := &slog.HandlerOptions{Level: level}
	if cfg.Format == config.JSON {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}
