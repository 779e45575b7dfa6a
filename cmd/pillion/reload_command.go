package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pillion-proxy/pillion/cmd/internal/config"
	"github.com/pillion-proxy/pillion/listeners/admin"
)

// reloadCommand has a running sidecar read its configuration again.
func reloadCommand() *cobra.Command {
	var (
		client adminClient
		out    format
		diff   bool
	)
	c := &cobra.Command{
		Use:   "reload",
		Short: "Have the running sidecar take over its changed configuration",
		Long: `Has the running sidecar read its configuration again and put it into force, whole or not at all: a file with a mistake changes nothing. Listeners that stay the
same stay open, and what runs goes on. SIGHUP does the same, and so does a change of the file, unless reload.watch is false.

What cannot be changed while the sidecar runs is said: who it is and where (service, zone, identity, register and registration), what peers connect to (peer), the
sockets of admin, outbound.dns and outbound.http3, limits, cache.disk, log.format, and the registry in which it is registered itself. With --diff it shows what would change, and changes nothing. From another machine it wants admin.write_token, in ` + tokenEnv + `.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			method := http.MethodPost
			if diff {
				method = http.MethodGet
			}
			address, token, err := client.find()
			if err != nil {
				return err
			}
			code, body, err := client.ask(cmd.Context(), method, address, token, "/reload")
			switch {
			case err != nil:
				return fmt.Errorf("ask the sidecar at %s: %w; is it running, or has it another --admin address?", address, err)
			case code != http.StatusOK && code != http.StatusUnprocessableEntity:
				return fmt.Errorf("the sidecar at %s answered %d: %s", address, code, strings.TrimSpace(string(body)))
			}
			var res admin.Reload
			if err := json.Unmarshal(body, &res); err != nil {
				return fmt.Errorf("%s does not answer as a pillion does: %w; check the --admin address", address, err)
			}
			if out.json() {
				if _, err := cmd.OutOrStdout().Write(body); err != nil {
					return err
				}
			} else {
				printReload(cmd.OutOrStdout(), cmd.ErrOrStderr(), &res)
			}
			if !res.OK {
				return &exitError{reloadExit(&res)}
			}
			return nil
		},
	}
	client.add(c)
	out.add(c)
	c.Flags().BoolVar(&diff, "diff", false, "show what would change, and change nothing")
	return c
}

// reloadExit is 2 for a mistake in the configuration, and 1 for anything else.
func reloadExit(res *admin.Reload) int {
	for _, p := range res.Problems {
		if p.File != "" {
			return 2
		}
	}
	return 1
}

func printReload(out, errs io.Writer, res *admin.Reload) {
	for _, c := range res.Changes {
		line := ""
		switch {
		case c.Old == "":
			line = fmt.Sprintf("+ %s: %s", c.Key, c.New)
		case c.New == "":
			line = fmt.Sprintf("- %s: %s", c.Key, c.Old)
		default:
			line = fmt.Sprintf("~ %s: %s -> %s", c.Key, c.Old, c.New)
		}
		if c.Restart {
			line += " (needs a restart)"
		}
		fmt.Fprintln(out, visible(line))
	}
	for _, p := range res.Problems {
		text := p.Text
		if p.File != "" {
			text = config.Problem(p).String()
		}
		fmt.Fprintln(errs, visible(text))
	}
	switch {
	case !res.OK:
		fmt.Fprintln(errs, "nothing has changed: what was in force stays in force")
	case len(res.Changes) == 0:
		fmt.Fprintln(out, "nothing differs from what is in force")
	case res.Applied:
		fmt.Fprintf(out, "in force now, as number %d\n", res.Generation)
	}
}
