package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pillion-proxy/pillion/listeners/admin"
)

// explainCommand says what would become of a request.
func explainCommand() *cobra.Command {
	var (
		client  adminClient
		out     format
		headers []string
	)
	c := &cobra.Command{
		Use:   "explain METHOD URL",
		Short: "Say what would become of a request, and why, without sending it",
		Long: `Says which service and which route a request of the app's would take, with which timeout, retries and cache, which endpoints there are and in what state, and whom
they must prove to be; and which key of the configuration decides each. Nothing is sent.

Asks the running sidecar. With -c it reads that file instead, and needs none: what only a running one knows, such as the endpoints of a name in DNS, is missing then.`,
		Example: `  pillion explain GET http://billing/v1/users/7 -H "x-team: blue"
  pillion explain POST http://billing/shop.Billing/Charge -H "content-type: application/grpc" -c pillion.yaml -o json`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			asked := admin.Asked{Method: args[0], URL: args[1], Header: headers}
			ask := askExplain
			if client.settings.path != "" && client.address == "" {
				ask = explainFile
			}
			e, err := ask(cmd, &client, asked)
			if err != nil {
				return err
			}
			if out.json() {
				return printJSON(cmd.OutOrStdout(), e)
			}
			printExplanation(cmd.OutOrStdout(), e)
			return nil
		},
	}
	client.add(c)
	out.add(c)
	c.Flags().StringArrayVarP(&headers, "header", "H", nil, "a header of the request, as in \"x-team: blue\" (repeatable)")
	return c
}

// explainFile reads the configuration, and asks nobody.
func explainFile(_ *cobra.Command, client *adminClient, asked admin.Asked) (*admin.Explanation, error) {
	cfg, err := client.settings.load()
	if err != nil {
		return nil, err
	}
	e, err := explain(cfg, asked)
	if err != nil {
		return nil, &usageError{err}
	}
	explainBackend(cfg, e)
	return e, nil
}

func askExplain(cmd *cobra.Command, client *adminClient, asked admin.Asked) (*admin.Explanation, error) {
	address, token, err := client.find()
	if err != nil {
		return nil, err
	}
	q := url.Values{"method": {asked.Method}, "url": {asked.URL}, "header": asked.Header}
	code, body, err := client.get(cmd.Context(), address, token, "/explain?"+q.Encode())
	switch {
	case err != nil:
		return nil, fmt.Errorf("ask the sidecar at %s: %w; is it running, or has it another --admin address? -c FILE asks the file alone", address, err)
	case code == http.StatusUnprocessableEntity:
		return nil, &usageError{fmt.Errorf("%s", strings.TrimSpace(string(body)))}
	case code != http.StatusOK:
		return nil, fmt.Errorf("the sidecar at %s answered %d: %s", address, code, strings.TrimSpace(string(body)))
	}
	e := new(admin.Explanation)
	if err := json.Unmarshal(body, e); err != nil {
		return nil, fmt.Errorf("%s does not answer as a pillion does: %w; check the --admin address", address, err)
	}
	return e, nil
}

func printExplanation(w io.Writer, e *admin.Explanation) {
	p := newPrinter(w)
	line := func(name, text, why string) {
		if !p.tables {
			fmt.Fprintf(w, "%s\t%s\t%s\n", visible(name), visible(text), visible(why))
			return
		}
		if why != "" {
			why = "  (" + why + ")"
		}
		fmt.Fprintf(w, "%-10s%s%s\n", visible(name), p.paint(bold, text), visible(why))
	}
	line("request", e.Method+" "+e.URL, "")
	for _, s := range e.Steps {
		line(s.Layer, s.Text, s.Why)
	}
	if s := e.Sent; s != nil {
		line("sent", strings.TrimSpace(s.Method+" "+s.Path), "host "+s.Host)
	}
	if e.Backend == nil {
		return
	}
	var rows [][]cell
	for _, ep := range e.Backend.Endpoints {
		state := standing(ep)
		if !e.Running {
			state = plain("unknown: nothing runs")
		}
		rows = append(rows, []cell{plain(ep.Address), plain(orDash(ep.Identity)), plain(fmt.Sprint(ep.Pending + ep.Streams)), plain(latency(ep.Latency)), state})
	}
	if len(rows) == 0 {
		line("endpoints", "none are known", "they come from "+e.Backend.Source)
	}
	p.table("endpoint", []string{"ENDPOINT", "IDENTITY", "LOAD", "LATENCY", "HEALTH"}, rows)
}
