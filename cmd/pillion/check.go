package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/pillion-proxy/pillion/cmd/internal/config"
)

// checkCommand reads the configuration and touches nothing.
func checkCommand() *cobra.Command {
	var (
		s                settings
		out              format
		defaults, schema bool
	)
	c := &cobra.Command{
		Use:   "check [flags]",
		Short: "Check the configuration, or print it with every default",
		Long: `Reads the configuration, the certificates and the lists of endpoints that it names, and prints every mistake as file:line:column, with what to write
instead. It starts nothing and writes nothing. The exit code is 2 if there is a mistake with which run would not start.

With --print-defaults it prints the whole configuration as it would run, with every default and a comment for each key; without a
configuration, that of an example.`,
		Example: "  pillion check -c pillion.yaml\n  pillion check --print-defaults",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case out.json() && (defaults || schema):
				return &usageError{errors.New("-o json is for mistakes; --print-defaults prints YAML, --print-schema JSON")}
			case schema:
				fmt.Fprint(cmd.OutOrStdout(), config.Schema())
				return nil
			case defaults:
				return printDefaults(cmd, &s)
			default:
				return check(cmd, &s, &out)
			}
		},
	}
	s.addPath(c)
	s.addFlags(c)
	out.add(c)
	c.Flags().BoolVar(&defaults, "print-defaults", false, "print the whole configuration, with every default")
	c.Flags().BoolVar(&schema, "print-schema", false, "print the JSON Schema of the file, for editors")
	return c
}

// problemJSON is one mistake or warning in -o json.
type problemJSON struct {
	File   string `json:"file"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
	Key    string `json:"key,omitempty"`
	Text   string `json:"text"`
}

func problemsJSON(ps []config.Problem) []problemJSON {
	all := make([]problemJSON, len(ps))
	for i, p := range ps {
		all[i] = problemJSON(p)
	}
	return all
}

func check(cmd *cobra.Command, s *settings, out *format) error {
	cfg, err := s.load()
	var mistakes config.Problems
	if err != nil && (!errors.As(err, &mistakes) || !out.json()) {
		return err
	}
	var warnings []config.Problem
	if cfg != nil {
		mistakes, warnings = inspectFiles(cfg)
		warnings = append(cfg.Warnings, warnings...)
	}
	if len(mistakes) > 0 && !out.json() {
		return mistakes
	}
	if out.json() {
		err := printJSON(cmd.OutOrStdout(), map[string]any{
			"ok":       len(mistakes) == 0,
			"problems": problemsJSON(mistakes),
			"warnings": problemsJSON(warnings),
		})
		if err == nil && len(mistakes) > 0 {
			err = &exitError{2}
		}
		return err
	}
	for _, w := range warnings {
		fmt.Fprintln(cmd.ErrOrStderr(), "warning:", w)
	}
	name := s.file()
	if name == "" {
		name = "the flags"
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s: ok\n", name)
	return nil
}

func printDefaults(cmd *cobra.Command, s *settings) error {
	var (
		cfg *config.Config
		err error
	)
	if s.file() == "" && s.flags.Empty() {
		cfg, err = config.FromFlags(config.Flags{Service: "example", App: []string{"8080"}, To: []string{"billing=dns:billing.internal"}})
	} else {
		cfg, err = s.load()
	}
	if err != nil {
		return err
	}
	fmt.Fprint(cmd.OutOrStdout(), cfg.Print())
	return nil
}
