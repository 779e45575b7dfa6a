package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pillion-proxy/pillion/cmd/internal/config"
)

// initCommand writes a first configuration.
func initCommand() *cobra.Command {
	var (
		service string
		out     format
	)
	c := &cobra.Command{
		Use:     "init [flags] [file]",
		Short:   "Write a first " + configFile + ", with comments",
		Long:    "Writes a first configuration, with comments, to " + configFile + " or the file named. It never overwrites one.",
		Example: "  pillion init --service orders",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			file := configFile
			if len(args) > 0 {
				file = args[0]
			}
			if service == "" {
				service = folderName(file)
			}
			if err := writeStarter(file, service); err != nil {
				return err
			}
			if out.json() {
				return printJSON(cmd.OutOrStdout(), map[string]string{"file": file, "service": service})
			}
			fmt.Fprintf(cmd.OutOrStdout(), "wrote %s for the service %s; edit it, then: pillion check -c %s\n", file, service, file)
			return nil
		},
	}
	c.Flags().StringVar(&service, "service", "", "the name of the workload (default: that of the folder)")
	out.add(c)
	return c
}

// folderName makes a service's name of the name of the folder that file is to be in.
func folderName(file string) string {
	abs, err := filepath.Abs(file)
	if err != nil {
		return "my-service"
	}
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(filepath.Base(filepath.Dir(abs))))
	name = strings.Trim(name, "-")
	if config.CheckServiceName(name) != nil {
		return "my-service"
	}
	return name
}

func writeStarter(file, service string) error {
	if err := config.CheckServiceName(service); err != nil {
		return &usageError{fmt.Errorf("--service %s: %w", service, err)}
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists and is left as it is; name another file, as in: pillion init other.yaml", file)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, starter, service)
	return errors.Join(err, f.Close())
}

const starter = `# The configuration of one pillion. Only "service" is needed. Every key: pillion help config
# Check it: pillion check     All of it with its defaults: pillion check --print-defaults

# The name of the workload beside this sidecar. Its identity is spiffe://<trust domain>/<service>.
service: %s

# What peers may reach here: the app's port, or a list of {port, to, protocol, allow}.
app: 8080

# The services that the app calls, and where they run: an address, a list of them, dns:name, or file:path.
# The app reaches billing as http://billing/ with HTTP_PROXY=http://127.0.0.1:15001, which
# "pillion run -c pillion.yaml -- your-app" sets by itself.
services: {}
#  billing: 10.0.0.7
#  ledger:
#    endpoints: dns:ledger.internal
#    listen: 127.0.0.1:9001            # for apps that only know host:port
#    timeout: 2s
#  legacy-db: {endpoints: 10.1.2.3:5432, listen: 127.0.0.1:5432, protocol: tcp, mesh: false}   # no sidecar there

# Certificates. Without this section a development CA is made on first use, for this machine and this user.
# identity:
#   cert: /etc/pillion/tls.crt
#   key: /etc/pillion/tls.key
#   roots: /etc/pillion/roots.pem
`
