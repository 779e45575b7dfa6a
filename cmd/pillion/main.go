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
	"syscall"

	"github.com/spf13/cobra"

	"github.com/pillion-proxy/pillion/cmd/internal/config"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := execute(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// execute runs one command line and returns the exit code.
func execute(ctx context.Context, args []string, in io.Reader, out, errs io.Writer) int {
	ran := false
	root := newRoot(&ran)
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errs)
	err := root.ExecuteContext(ctx)
	if err != nil && !ran { // cobra's own: an unknown command or flag, a wrong number of arguments
		err = &usageError{err}
	}
	return report(errs, err)
}

// newRoot is the command line. ran is set once a command has begun, so that what failed before is known to be usage.
func newRoot(ran *bool) *cobra.Command {
	root := &cobra.Command{
		Use:   "pillion",
		Short: "A sidecar proxy for traffic between services",
		Long: `pillion runs beside a service and carries its traffic to and from its peers over multiplexed, mutually authenticated links.

Start with:
  pillion demo                                                       see it work, with nothing to install
  pillion run --service web --app 127.0.0.1:8080 --to api=10.0.0.7   run it without a file
  pillion init                                                       write a first pillion.yaml`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		PersistentPreRun:  func(*cobra.Command, []string) { *ran = true },
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: false},
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

// exitError ends pillion with a code and without a word: everything has been said.
type exitError struct{ code int }

func (e *exitError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// report prints err and returns the exit code that it stands for.
func report(w io.Writer, err error) int {
	var (
		exit     *exitError
		usage    *usageError
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
		fmt.Fprintf(w, "pillion: %v; see \"pillion help\"\n", err)
		return 2
	default:
		fmt.Fprintf(w, "pillion: %v\n", err)
		return 1
	}
}
