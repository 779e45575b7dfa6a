// Package kubernetes holds the test of this example: its manifests are read. (Its configuration is checked where configurations are, and what it allows by a real API server.)
package kubernetes

import (
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

type manifest struct {
	Kind     string
	Metadata struct{ Name, Namespace string }
	Rules    []struct {
		APIGroups, Resources, Verbs []string
	}
	Spec struct {
		Template struct {
			Spec struct {
				ServiceAccountName string `yaml:"serviceAccountName"`
				InitContainers     []struct {
					Name  string
					Args  []string
					Ports []struct{ Name string }
				} `yaml:"initContainers"`
			}
		}
	}
}

func read(t *testing.T) map[string]manifest {
	t.Helper()
	f, err := os.Open("orders.yaml")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all := make(map[string]manifest)
	for dec := yaml.NewDecoder(f); ; {
		var m manifest
		err := dec.Decode(&m)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if m.Metadata.Namespace != "shop" && m.Kind != "Namespace" || all[m.Kind].Kind != "" {
			t.Errorf("%s %s in %q, or one of them twice", m.Kind, m.Metadata.Name, m.Metadata.Namespace)
		}
		all[m.Kind] = m
	}
}

func TestManifests(t *testing.T) {
	all := read(t)
	for _, kind := range []string{"Namespace", "ServiceAccount", "Role", "RoleBinding", "ConfigMap", "Deployment", "Service"} {
		if all[kind].Kind == "" {
			t.Errorf("there is no %s", kind)
		}
	}
	if r := all["Role"].Rules; len(r) != 1 || !slices.Contains(r[0].Resources, "endpointslices") || strings.Join(r[0].Verbs, " ") != "get list watch" {
		t.Errorf("the Role allows %v", r)
	}
	pod := all["Deployment"].Spec.Template.Spec
	if pod.ServiceAccountName != all["ServiceAccount"].Metadata.Name {
		t.Errorf("the pod runs as %q", pod.ServiceAccountName)
	}
	if c := pod.InitContainers; len(c) != 1 || strings.Join(c[0].Args, " ") != "run -c /etc/pillion/pillion.yaml" || c[0].Ports[0].Name != "pillion" {
		t.Errorf("the sidecar is %+v", c)
	}
}
