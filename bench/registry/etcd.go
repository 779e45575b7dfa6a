package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// etcd is the registry.
type etcd struct {
	started
	addr string
}

func startEtcd(ctx context.Context, dir string) (*etcd, error) {
	ports, err := freePorts(2)
	if err != nil {
		return nil, err
	}
	client, peer := "http://"+ports[0], "http://"+ports[1]
	e := &etcd{addr: ports[0], started: started{exec.CommandContext(ctx, "etcd", "--data-dir", dir, "--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer, "--log-level", "error")}}
	if err := e.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start etcd: %w; apt-get install etcd-server etcd-client", err)
	}
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		err := e.ctl(ctx, "", "endpoint", "health")
		if err == nil {
			return e, nil
		}
		if time.Since(began) > 30*time.Second {
			e.stop()
			return nil, err
		}
	}
}

// put writes keys and values, which come in turns.
func (e *etcd) put(ctx context.Context, pairs []string) error {
	const most = 128 // operations of a transaction
	for len(pairs) > 0 {
		n := min(len(pairs), 2*most)
		var script strings.Builder
		script.WriteString("\n")
		for i := 0; i < n; i += 2 {
			fmt.Fprintf(&script, "put %s %q\n", pairs[i], pairs[i+1])
		}
		script.WriteString("\n\n")
		if err := e.ctl(ctx, script.String(), "txn"); err != nil {
			return err
		}
		pairs = pairs[n:]
	}
	return nil
}

func (e *etcd) ctl(ctx context.Context, input string, args ...string) error {
	cmd := exec.CommandContext(ctx, "etcdctl", append([]string{"--endpoints", e.addr}, args...)...)
	cmd.Env = append(os.Environ(), "ETCDCTL_API=3")
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("etcdctl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
