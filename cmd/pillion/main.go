// Command pillion is a sidecar proxy: it runs beside a service and carries its traffic to and from its peers over
// multiplexed, mutually authenticated links. "pillion help" lists what it does.
//
// Each command is one file; graph.go joins the rooms of a sidecar. Exit codes: 0 done, 1 failed, 2 usage or
// configuration; "run -- command" ends with the command's own code.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/pillion-proxy/pillion/cmd/internal/config"
)

func main() {
	os.Exit(execute(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// execute runs one command line and returns the exit code.
func execute(ctx context.Context, args []string, in io.Reader, out, errs io.Writer) int {
	var began beginning
	defer began.end()
	root := newRoot(&began)
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errs)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && !began.ran { // cobra's own: an unknown command or flag, a wrong number of arguments
		err = &usageError{errors.New(oneLine(err, cmd.CommandPath()))}
	}
	return report(errs, err)
}

// ownSignals is the annotation of a command that handles signals itself. The context of all others ends at SIGINT and SIGTERM.
const ownSignals = "own-signals"

// beginning is what happens before a command runs.
type beginning struct {
	ran  bool // what fails before is a mistake in the command line
	stop func()
}

func (b *beginning) begin(cmd *cobra.Command, _ []string) {
	b.ran = true
	if cmd.Annotations[ownSignals] == "" {
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
		cmd.SetContext(ctx)
		b.stop = stop
	}
}

func (b *beginning) end() {
	if b.stop != nil {
		b.stop()
	}
}

// newRoot is the command line.
func newRoot(b *beginning) *cobra.Command {
	root := &cobra.Command{
		Use:   "pillion",
		Short: "A sidecar proxy for traffic between services",
		Long: `pillion runs beside a service and carries its traffic to and from its peers over multiplexed, mutually authenticated links.

Start with:
  pillion demo                                                       see it work, with nothing to install
  pillion run --service web --app 127.0.0.1:8080 --to api=10.0.0.7   run it without a file
  pillion init                                                       write a first pillion.yaml`,
		SilenceErrors:    true,
		SilenceUsage:     true,
		PersistentPreRun: b.begin,
	}
	root.AddCommand(
		runCommand(),
		demoCommand(),
		demoAppCommand(),
		checkCommand(),
		initCommand(),
		caCommand(),
		waitCommand(),
		statusCommand(),
		reloadCommand(),
		logCommand(),
		topCommand(),
		tapCommand(),
		whyCommand(),
		explainCommand(),
		cacheCommand(),
		benchCommand(),
		versionCommand(),
		helpConfig(),
	)
	return root
}

// helpConfig is no command but a help topic: "pillion help config".
func helpConfig() *cobra.Command {
	return &cobra.Command{
		Use:   "config",
		Short: "Every key of pillion.yaml",
		Long:  config.Reference(),
	}
}

// usageError is a mistake in the command line or the configuration: exit code 2.
type usageError struct{ error }

func (e *usageError) Unwrap() error { return e.error }

// oneLine makes cobra's message, whose suggestion spans lines, one sentence that says what to do next.
func oneLine(err error, command string) string {
	what, suggestions, found := strings.Cut(err.Error(), "\n\nDid you mean this?\n")
	if found {
		return what + "; did you mean " + strings.Join(strings.Fields(suggestions), " or ") + "?"
	}
	return what + "; see \"" + command + " --help\""
}

// exitError ends pillion with a code and without a word: everything has been said.
type exitError struct{ code int }

func (e *exitError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// report prints err and returns the exit code that it stands for.
func report(w io.Writer, err error) int {
	var (
		exit     *exitError
		usage    *usageError
		start    *startError
		problems config.Problems
	)
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.code
	case errors.As(err, &problems):
		fmt.Fprintln(w, problems)
		return 2
	case errors.As(err, &usage):
		fmt.Fprintf(w, "pillion: %v\n", err)
		return 2
	case errors.As(err, &start):
		fmt.Fprintf(w, "pillion: %v\n", err)
		return start.code()
	default:
		fmt.Fprintf(w, "pillion: %v\n", err)
		return 1
	}
}
