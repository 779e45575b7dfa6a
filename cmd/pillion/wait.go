package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// pollEvery is how often wait asks.
const pollEvery = 100 * time.Millisecond

// waitCommand is for scripts and start-up hooks: it ends once the sidecar is ready.
func waitCommand() *cobra.Command {
	var (
		client  adminClient
		timeout time.Duration
		out     format
	)
	c := &cobra.Command{
		Use:     "wait",
		Short:   "Wait until the sidecar is ready",
		Long:    "Waits until the sidecar is ready to carry traffic. The exit code is 1 if it is not in time.",
		Example: "  pillion wait && exec my-app\n  pillion wait --admin 127.0.0.1:15000 --timeout 10s",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			address, token, err := client.find()
			if err != nil {
				return err
			}
			began := time.Now()
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			err = client.await(ctx, address, token)
			if out.json() {
				answer := map[string]any{"ready": err == nil, "admin": address, "waited_seconds": time.Since(began).Seconds()}
				if err != nil {
					answer["error"] = err.Error()
					err = &exitError{1}
				}
				return errors.Join(printJSON(cmd.OutOrStdout(), answer), err)
			}
			return err
		},
	}
	client.add(c)
	out.add(c)
	c.Flags().DurationVar(&timeout, "timeout", time.Minute, "give up after this time")
	return c
}

// await asks until the answer is yes or ctx ends.
func (a *adminClient) await(ctx context.Context, address, token string) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	last := "it was not asked"
	for {
		status, body, err := a.get(ctx, address, token, "/readyz")
		var usage *usageError
		switch {
		case errors.As(err, &usage):
			return err
		case err == nil && status == http.StatusOK:
			return nil
		case err == nil:
			last = strings.TrimSpace(string(body))
		case ctx.Err() == nil: // else the error only says that the time is over
			last = err.Error()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the sidecar at %s is not ready (%s); see its log, or wait longer with --timeout", address, last)
		case <-tick.C:
		}
	}
}
