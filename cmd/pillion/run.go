package main

import (
	"bytes"
	"context"
	"fmt"
	stdlog "log"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/pillion-proxy/pillion/cmd/internal/child"
)

// runCommand is the sidecar itself.
func runCommand() *cobra.Command {
	var (
		s        settings
		lifeline bool
	)
	c := &cobra.Command{
		Use:   "run [flags] [-- command args...]",
		Short: "Run the sidecar, and the app with it if a command is given",
		Long: `Runs the sidecar until it is told to stop (SIGTERM, Ctrl-C) and what runs has ended, or the drain time is over. A second signal ends it at once. SIGHUP
has it take over a changed configuration, and so does a change of the file; "pillion reload --help" says what can be changed.

With a command, pillion starts it once everything is ready, with HTTP_PROXY and http_proxy set, and NO_PROXY and no_proxy for this machine, passes SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 on, and ends
when it ends, with its exit code (128 and the signal's number if it was killed by one). Told to stop, pillion first lets peers' calls end, then
tells the command with SIGTERM, and goes only when the command is gone. On a terminal Ctrl-C is the command's. The command finds the sidecar by PILLION_OUTBOUND, PILLION_DNS, PILLION_ADMIN, and
PILLION_SERVICE_<NAME> for each service with a port of its own.`,
		Example: `  pillion run --service web --app 127.0.0.1:8080 --to api=10.0.0.7
  pillion run -c pillion.yaml
  pillion run -c pillion.yaml -- python3 app.py`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && cmd.ArgsLenAtDash() != 0 {
				return fmt.Errorf("%q is not expected here; put the app's command after --", args[0])
			}
			return nil
		},
		Annotations: map[string]string{ownSignals: "a second one ends at once, and some are the app's"},
		RunE: func(cmd *cobra.Command, args []string) error {
			if lifeline {
				ctx, cancel := context.WithCancel(cmd.Context())
				defer cancel()
				cmd.SetContext(ctx)
				go child.EndWithInput(cmd.InOrStdin(), cancel)
			}
			return run(cmd, &s, args)
		},
	}
	s.addPath(c)
	s.addFlags(c)
	c.Flags().BoolVar(&lifeline, "until-input-ends", false, "stop when standard input ends, as it does with the process that holds its other end")
	_ = c.Flags().MarkHidden("until-input-ends") // it exists
	return c
}

func run(cmd *cobra.Command, s *settings, args []string) error {
	cfg, err := s.load()
	if err != nil {
		return err
	}
	limitMemory()
	level := new(slog.LevelVar)
	level.Set(levelOf(cfg.Log))
	log := newLogger(cfg.Log, level, cmd.ErrOrStderr())
	stdlog.SetFlags(0)
	stdlog.SetOutput(libraries{log})
	for _, w := range cfg.Warnings {
		log.Warn(w.String())
	}
	var app *supervisor
	if len(args) > 0 {
		if app, err = newSupervisor(cfg, args, os.Environ(), log); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	ended, passed, reload := make(chan struct{}), make(chan struct{}), make(chan struct{}, 1)
	signals := takeSignals(app) // before the app can be up, and somebody stop us
	go signals.pass(ended, passed, cancel, reload, log)
	err = serve(ctx, cfg, log, app, reloading{load: s.load, asked: reload, level: level})
	app.Kill()
	close(ended)
	<-passed
	if err != nil {
		return err
	}
	if code := app.Code(); code != 0 {
		return &exitError{code}
	}
	return nil
}

// libraries is where package log writes to, which some libraries use for what pillion says itself, or nobody needs to know.
type libraries struct{ log *slog.Logger }

// Write logs one line.
func (l libraries) Write(p []byte) (int, error) {
	l.log.Debug("a library says", "what", string(bytes.TrimSpace(p)))
	return len(p), nil
}

// hasControllingTerminal reports whether the process has a terminal that is there: SIGHUP says either that it has gone, or, as to any daemon, that the
// configuration is to be read again.
func hasControllingTerminal() bool {
	f, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return false
	}
	f.Close()
	return true
}

// A signal so soon after the first is the same one: timeout(1) and others signal the process and then its group.
const sameSignal = 100 * time.Millisecond

// signals are those that pillion takes in place of what they do by themselves.
type signals struct {
	app      *supervisor
	all      chan os.Signal
	terminal bool // there was a controlling one
	ignored  bool // SIGHUP was, from the beginning, as by nohup: then the terminal may go, and SIGHUP says what it says to daemons
}

func takeSignals(app *supervisor) *signals {
	s := &signals{app: app, all: make(chan os.Signal, 8), terminal: hasControllingTerminal(), ignored: signal.Ignored(syscall.SIGHUP)}
	signal.Notify(s.all, syscall.SIGTERM, syscall.SIGINT)
	if !s.ignored || app == nil { // an app inherits that it is ignored, which it would not if we took it
		signal.Notify(s.all, syscall.SIGHUP)
	}
	if app != nil {
		signal.Notify(s.all, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGQUIT)
	}
	return s
}

// pass stops the sidecar at the first SIGTERM or SIGINT and the process at the second, and passes the others on to the app.
// SIGHUP reloads the configuration, unless the terminal has gone. It returns when ended is closed, and then closes passed.
func (s *signals) pass(ended <-chan struct{}, passed chan<- struct{}, stop func(), reload chan<- struct{}, log *slog.Logger) {
	defer close(passed)
	defer signal.Stop(s.all)
	app := s.app
	told, at := false, time.Time{}
	for {
		var sig os.Signal
		select {
		case <-ended:
			return
		case sig = <-s.all:
		}
		if sig == syscall.SIGHUP && (s.ignored || !s.terminal || hasControllingTerminal()) {
			select {
			case reload <- struct{}{}:
			default: // one is asked for already, and will read what there is now
			}
			if app != nil {
				app.Signal(sig)
			}
			continue
		}
		switch {
		case sig == syscall.SIGQUIT && app.hasTerminal():
			// Ctrl-\ went to the app as well.
		case app != nil && sig != syscall.SIGTERM && sig != syscall.SIGINT:
			app.Signal(sig)
		case sig == syscall.SIGINT && !told && app.hasTerminal():
			// Ctrl-C went to the app as well, which knows what it means: many tidy up for a while, a shell only clears its line.
			// When the app ends, so does pillion.
		case sig == syscall.SIGINT && !told && app.hadTerminal():
			told = true // the app has ended, perhaps by this very Ctrl-C, and pillion is stopping: only another one is in a hurry
		case !told && !app.ended():
			told, at = true, time.Now()
			log.Info("stopping; the same signal again ends at once", "signal", sig.String())
			stop()
		case time.Since(at) < sameSignal:
		default:
			log.Warn("ended at once by a second signal", "signal", sig.String())
			app.Kill()
			resetOnClose()
			os.Exit(128 + int(sig.(syscall.Signal)))
		}
	}
}
