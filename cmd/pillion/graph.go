package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/pillion-proxy/pillion/cmd/internal/config"
	"github.com/pillion-proxy/pillion/listeners/admin"
)

// serve runs the admin listener and the app until ctx ends or the app does.
func serve(ctx context.Context, cfg *config.Config, log *slog.Logger, app *supervisor) error {
	if !cfg.Admin.Listen.On {
		return errors.New("admin.listen is none: there is nothing to run")
	}
	ln, err := net.Listen(cfg.Admin.Listen.Network(), cfg.Admin.Listen.Address())
	if err != nil {
		return err
	}
	started := time.Now()
	server, err := admin.New(admin.Config{Listener: ln, Pprof: cfg.Admin.Pprof, Token: cfg.Admin.Token, Logger: log,
		Status: func() admin.Status {
			return admin.Status{Service: cfg.Service, State: admin.Ready, PID: os.Getpid(), Version: version().Version,
				Started: started, Uptime: time.Since(started).Seconds(), Config: cfg.File,
				Identity:  admin.Identity{ID: string(cfg.ID()), TrustDomain: cfg.Identity.TrustDomain},
				Listeners: []admin.Listener{{Name: "admin", Address: ln.Addr().String()}}}
		}})
	if err != nil {
		return err
	}
	serving, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- server.Run(serving) }()
	if err := app.Start(); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
	case <-app.Done():
	}
	drain, stop := context.WithTimeout(context.Background(), cfg.Drain)
	defer stop()
	app.Stop(drain)
	cancel()
	return <-ended
}
