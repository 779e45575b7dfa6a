package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"

	"github.com/pillion-proxy/pillion/bench/peers"
)

// install gets the packages of the peers whose programs are missing, as far as this machine and this user allow. What is
// still missing then is found, and reported, when the peer is to be started.
func install(ctx context.Context, chosen []peers.Peer, progress io.Writer) error {
	var packages []string
	for _, p := range chosen {
		for _, name := range p.Package {
			if !slices.Contains(packages, name) && !installed(ctx, name) {
				packages = append(packages, name)
			}
		}
	}
	if len(packages) == 0 {
		return nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil || os.Geteuid() != 0 {
		return fmt.Errorf("not installed, and only root can with apt-get: %v", packages)
	}
	fmt.Fprintln(progress, "apt-get install", packages)
	steps := [][]string{
		{"update", "-q"},
		append([]string{"install", "-q", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300"}, packages...),
	}
	for _, args := range steps {
		cmd := exec.CommandContext(ctx, "apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("apt-get %s: %w\n%s", args[0], err, out)
		}
	}
	return nil
}

// installed asks dpkg; where there is none, the search for the program decides.
func installed(ctx context.Context, name string) bool {
	if _, err := exec.LookPath("dpkg-query"); err != nil {
		return true
	}
	out, err := exec.CommandContext(ctx, "dpkg-query", "-W", "-f", "${db:Status-Status}", name).Output()
	return err == nil && string(out) == "installed"
}
