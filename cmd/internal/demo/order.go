package demo

import "strings"

// apps are the apps in the order in which they start.
var apps = []string{web, orders, billing}

// sidecarOf names the sidecar of an app in logs.
func sidecarOf(app string) string { return app + "'s sidecar" }

func isSidecar(c *child) bool { return strings.HasSuffix(c.name, "sidecar") }

func everyone(*child) bool { return true }

// stopInOrder ends the sidecars and then the apps, and returns the names of those that had to be killed.
func (c *children) stopInOrder() (killed []string) {
	killed = c.stop(isSidecar)
	return append(killed, c.stop(everyone)...)
}

// outputs returns the last lines of every process, sidecars first.
func (c *children) outputs() string {
	var b strings.Builder
	for _, sidecars := range []bool{true, false} {
		for _, ch := range c.all {
			if isSidecar(ch) == sidecars {
				b.WriteString("  the last lines of " + ch.name + ":\n" + ch.output.last(tailLines))
			}
		}
	}
	return b.String()
}
