package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/pillion-proxy/pillion/cmd/internal/child"
	"github.com/pillion-proxy/pillion/cmd/internal/demo"
)

// demoCommand shows pillion with nothing installed and nothing configured.
func demoCommand() *cobra.Command {
	var length time.Duration
	var logs bool
	c := &cobra.Command{
		Use:   "demo",
		Short: "Show three services, three sidecars and live traffic between them",
		Long: `Starts three small apps (web, orders, billing), a sidecar beside each, and a trickle of HTTP, gRPC, server-sent events, WebSocket,
TCP and UDP between them, with some faults in it, and checks every answer. All of it are processes of this machine, on loopback, with a throw-away
certificate authority in a temporary folder; when the demo ends, all of it is gone.

It ends with status 0 only if every kind of traffic flowed and was answered correctly.`,
		Example: "  pillion demo\n  pillion demo --for 10s",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			executable, err := os.Executable()
			if err != nil {
				return err
			}
			cfg := demo.Config{Executable: executable, For: length, Out: cmd.OutOrStdout()}
			if logs {
				cfg.Logs = cmd.ErrOrStderr()
			}
			return demo.Run(cmd.Context(), cfg)
		},
	}
	c.Flags().DurationVar(&length, "for", 0, "end by itself after this time, as in 10s (0: at Ctrl-C)")
	c.Flags().BoolVar(&logs, "logs", false, "show what the processes log, on standard error")
	return c
}

// demoAppCommand is one app of the demo. Its sockets are inherited.
func demoAppCommand() *cobra.Command {
	var fds map[string]string
	var datagrams string
	cfg := demo.AppConfig{Listeners: make(map[string]net.Listener)}
	c := &cobra.Command{
		Use:    "demo-app NAME",
		Short:  "Run one app of the demo; started by it",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg.Name = args[0]
			for use, fd := range fds {
				l, err := inherited(fd)
				if err != nil {
					return fmt.Errorf("socket %s: %w", use, err)
				}
				cfg.Listeners[use] = l
			}
			if datagrams != "" {
				c, err := inheritedUDP(datagrams)
				if err != nil {
					return fmt.Errorf("socket datagrams: %w", err)
				}
				cfg.Datagrams = c
			}
			ctx, cancel := context.WithCancel(cmd.Context())
			defer cancel()
			go child.EndWithInput(cmd.InOrStdin(), cancel)
			return demo.RunApp(ctx, cfg)
		},
	}
	c.Flags().StringToStringVar(&fds, "socket", nil, "descriptor of each socket by use, as in http=3")
	c.Flags().StringVar(&datagrams, "datagrams", "", "descriptor of the UDP socket")
	c.Flags().StringVar(&cfg.Next, "next", "", "URL at which the next app is called")
	c.Flags().StringVar(&cfg.NextHost, "next-host", "", "Host to call it by, if not that of the URL")
	return c
}

// inherited returns the listener that the parent left in descriptor fd.
func inherited(fd string) (net.Listener, error) {
	f, err := descriptor(fd)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return net.FileListener(f)
}

// inheritedUDP is inherited for a UDP socket.
func inheritedUDP(fd string) (net.PacketConn, error) {
	f, err := descriptor(fd)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return net.FilePacketConn(f)
}

func descriptor(fd string) (*os.File, error) {
	n, err := strconv.ParseUint(fd, 10, 16)
	if err != nil || n < 3 {
		return nil, fmt.Errorf("no descriptor: %q", fd)
	}
	return os.NewFile(uintptr(n), "socket"), nil
}
