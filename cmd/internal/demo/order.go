package demo

import (
	"strings"

	"github.com/pillion-proxy/pillion/cmd/internal/child"
)

// apps are the apps in the order in which they start.
var apps = []string{web, orders, billing}

// sidecarOf names the sidecar of an app in logs.
func sidecarOf(app string) string { return app + "'s sidecar" }

func isSidecar(c *child.Child) bool { return strings.HasSuffix(c.Name, "sidecar") }

// stopInOrder ends the sidecars and then the apps, and returns the names of those that had to be killed.
func stopInOrder(procs *child.Set) (killed []string) {
	killed = procs.Stop(isSidecar)
	return append(killed, procs.Stop(child.Everyone)...)
}

// outputs returns the last lines of every process, sidecars first.
func outputs(procs *child.Set) string {
	var b strings.Builder
	for _, sidecars := range []bool{true, false} {
		for _, ch := range procs.All() {
			if isSidecar(ch) == sidecars {
				b.WriteString("  the last lines of " + ch.Name + ":\n" + ch.Last(tailLines))
			}
		}
	}
	return b.String()
}
