//go:build e2e && !servers

package e2e

import "testing"

// registries are those whose servers are installed. Those that have to be built come with the tag servers.
func registries() map[string]func(*testing.T) string {
	return map[string]func(*testing.T) string{"etcd": startEtcd}
}
