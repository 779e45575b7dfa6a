package config

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// The configuration in the example for Kubernetes, with certificates that are there.
func TestKubernetesExample(t *testing.T) {
	f, err := os.Open("../../../examples/kubernetes/orders.yaml")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	dir := t.TempDir()
	writeCert(t, dir, "spiffe://example.com/orders")
	for dec := yaml.NewDecoder(f); ; {
		var m struct {
			Kind string
			Data map[string]string
		}
		if err := dec.Decode(&m); errors.Is(err, io.EOF) {
			t.Fatal("there is no ConfigMap with a pillion.yaml")
		} else if err != nil {
			t.Fatal(err)
		}
		if m.Kind != "ConfigMap" {
			continue
		}
		text := strings.NewReplacer("/certs/tls.crt", "orders.crt", "/certs/tls.key", "orders.key", "/certs/ca.crt", "roots.pem").Replace(m.Data["pillion.yaml"])
		c, err := read("pillion.yaml", dir, []byte(text), Flags{})
		if err != nil {
			t.Fatal(err)
		}
		if len(c.Warnings) > 0 {
			t.Errorf("warnings %v", c.Warnings)
		}
		if got := c.Services[0].Endpoints.Kubernetes; got != (KubernetesService{Name: "billing", Namespace: "shop"}) {
			t.Errorf("billing is at %v", got)
		}
		return
	}
}
