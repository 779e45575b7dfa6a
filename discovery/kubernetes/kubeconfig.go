package kubernetes

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"go.yaml.in/yaml/v3"
)

// kubeconfig is the part of such a file that we read.
// https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/
type kubeconfig struct {
	Current  string `yaml:"current-context"`
	Contexts []struct {
		Name    string `yaml:"name"`
		Context struct {
			Cluster   string `yaml:"cluster"`
			User      string `yaml:"user"`
			Namespace string `yaml:"namespace"`
		} `yaml:"context"`
	} `yaml:"contexts"`
	Clusters []struct {
		Name    string `yaml:"name"`
		Cluster struct {
			Server    string `yaml:"server"`
			Name      string `yaml:"tls-server-name"`
			Insecure  bool   `yaml:"insecure-skip-tls-verify"`
			RootsFile string `yaml:"certificate-authority"`
			Roots     string `yaml:"certificate-authority-data"`
			Proxy     string `yaml:"proxy-url"`
		} `yaml:"cluster"`
	} `yaml:"clusters"`
	Users []struct {
		Name string `yaml:"name"`
		User struct {
			Token     string `yaml:"token"`
			TokenFile string `yaml:"tokenFile"`
			CertFile  string `yaml:"client-certificate"`
			Cert      string `yaml:"client-certificate-data"`
			KeyFile   string `yaml:"client-key"`
			Key       string `yaml:"client-key-data"`
			Exec      any    `yaml:"exec"`
			Provider  any    `yaml:"auth-provider"`
			Username  string `yaml:"username"`
			As        string `yaml:"as"`
		} `yaml:"user"`
	} `yaml:"users"`
}

func (c *Cluster) fromKubeconfig() error {
	data, err := os.ReadFile(c.conf.Kubeconfig)
	if err != nil {
		return fmt.Errorf("kubeconfig: %w", err)
	}
	var k kubeconfig
	if err := yaml.Unmarshal(data, &k); err != nil {
		return fmt.Errorf("kubeconfig %s: %w", c.conf.Kubeconfig, err)
	}
	want := c.conf.Context
	if want == "" {
		want = k.Current
	}
	for _, x := range k.Contexts {
		if x.Name != want {
			continue
		}
		if c.conf.Namespace == "" {
			c.conf.Namespace = x.Context.Namespace
		}
		err := errors.Join(c.takeCluster(&k, x.Context.Cluster), c.takeUser(&k, x.Context.User))
		if err != nil {
			return fmt.Errorf("kubeconfig %s: %w", c.conf.Kubeconfig, err)
		}
		return nil
	}
	return fmt.Errorf("kubeconfig %s: there is no context %q", c.conf.Kubeconfig, want)
}

func (c *Cluster) takeCluster(k *kubeconfig, name string) error {
	for _, x := range k.Clusters {
		if x.Name != name {
			continue
		}
		if x.Cluster.Proxy != "" {
			return fmt.Errorf("cluster %q is reached through a proxy, which pillion does not do", name)
		}
		c.auth.address, c.auth.name, c.auth.insecure = x.Cluster.Server, x.Cluster.Name, x.Cluster.Insecure
		var err error
		c.auth.roots, c.auth.rootsFile, err = c.data(x.Cluster.Roots, x.Cluster.RootsFile)
		return err
	}
	return fmt.Errorf("there is no cluster %q", name)
}

func (c *Cluster) takeUser(k *kubeconfig, name string) error {
	for _, x := range k.Users {
		if x.Name != name {
			continue
		}
		u := x.User
		switch {
		case u.Exec != nil || u.Provider != nil:
			return fmt.Errorf("user %q gets its credentials from another program, which pillion does not start; use a token or a certificate", name)
		case u.Username != "" || u.As != "":
			return fmt.Errorf("user %q has a password or acts as another; use a token or a certificate", name)
		}
		c.auth.token, c.auth.tokenFile = u.Token, c.path(u.TokenFile)
		var err, kerr error
		c.auth.cert, c.auth.certFile, err = c.data(u.Cert, u.CertFile)
		c.auth.key, c.auth.keyFile, kerr = c.data(u.Key, u.KeyFile)
		return errors.Join(err, kerr)
	}
	if name == "" {
		return nil
	}
	return fmt.Errorf("there is no user %q", name)
}

// data is what stands in the kubeconfig itself, which counts, or else where it is.
func (c *Cluster) data(encoded, path string) ([]byte, string, error) {
	if encoded == "" {
		return nil, c.path(path), nil
	}
	b, err := base64.StdEncoding.DecodeString(encoded)
	return b, "", err
}

// path is relative to the kubeconfig.
func (c *Cluster) path(p string) string {
	if p == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(filepath.Dir(c.conf.Kubeconfig), p)
}
