package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pillion-proxy/pillion/listeners/admin"
)

// logCommand is about the log of a running sidecar.
func logCommand() *cobra.Command {
	c := &cobra.Command{Use: "log", Short: "Show or change what the running sidecar logs", Args: cobra.NoArgs}
	c.AddCommand(logLevelCommand())
	return c
}

func logLevelCommand() *cobra.Command {
	var (
		client adminClient
		out    format
		length time.Duration
	)
	c := &cobra.Command{
		Use:   "level [debug | info | warn | error]",
		Short: "Show the level of the log, or change it for a while",
		Long: `Without a level it shows which one is in force. With one it puts that into force for a while, after which the configured one is in force again by itself.
For longer, write log.level into the configuration. From another machine it wants admin.write_token, in ` + tokenEnv + `.`,
		Example:   "  pillion log level\n  pillion log level debug --for 5m",
		Args:      cobra.MaximumNArgs(1),
		ValidArgs: []string{"debug", "info", "warn", "error"},
		RunE: func(cmd *cobra.Command, args []string) error {
			method, path := http.MethodGet, "/log/level"
			if len(args) == 1 {
				method = http.MethodPost
				path += "?" + url.Values{"level": {args[0]}, "for": {length.String()}}.Encode()
			}
			address, token, err := client.find()
			if err != nil {
				return err
			}
			code, body, err := client.ask(cmd.Context(), method, address, token, path)
			switch {
			case err != nil:
				return fmt.Errorf("ask the sidecar at %s: %w; is it running, or has it another --admin address?", address, err)
			case code == http.StatusBadRequest:
				return &usageError{fmt.Errorf("%s", strings.TrimSpace(string(body)))}
			case code != http.StatusOK:
				return fmt.Errorf("the sidecar at %s answered %d: %s", address, code, strings.TrimSpace(string(body)))
			}
			var st admin.LogLevel
			if err := json.Unmarshal(body, &st); err != nil {
				return fmt.Errorf("%s does not answer as a pillion does: %w; check the --admin address", address, err)
			}
			if out.json() {
				_, err := cmd.OutOrStdout().Write(body)
				return err
			}
			fmt.Fprint(cmd.OutOrStdout(), st.Level)
			if st.Left > 0 {
				fmt.Fprintf(cmd.OutOrStdout(), " for another %s, then %s", seconds(st.Left), st.Configured)
			}
			fmt.Fprintln(cmd.OutOrStdout())
			return nil
		},
	}
	client.add(c)
	out.add(c)
	c.Flags().DurationVar(&length, "for", 5*time.Minute, "how long it stays in force, 24h at most")
	return c
}
