package kubernetes

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/pillion-proxy/pillion/discovery"
)

// Config says where the API server is and who asks. Its zero value is for a pod: the address from the environment and the files of its service account.
type Config struct {
	// Address is the server's URL. If empty, that in Kubeconfig, or, without one, that in the environment of a pod.
	Address string
	// Kubeconfig is a file with the address, the authorities and the credentials. If empty, there is none.
	Kubeconfig string
	// Context is which one of Kubeconfig. If empty, its current one.
	Context string
	// TokenFile holds the bearer token; it is read for each request. If empty, that of Kubeconfig, or of the pod.
	TokenFile string
	// Roots is a PEM file of the authorities that sign the server's certificate, read again when it changes. If empty, that of Kubeconfig, or of
	// the pod, or those of the system.
	Roots string
	// Namespace is that of Services which name none. If empty, that of Kubeconfig, or of the pod, or "default".
	Namespace string
	// Zone is where this sidecar runs. If empty, hints are not looked at.
	Zone string
	// IPv6 prefers the IPv6 address of a pod that has one of each family.
	IPv6 bool
	// Getenv reads the environment. If nil, os.Getenv.
	Getenv func(string) string
	// Account is the folder of the pod's service account. If empty, /var/run/secrets/kubernetes.io/serviceaccount.
	Account string
	// Retry is the pause after a first failure; it doubles. If zero, 100 ms.
	Retry time.Duration
	// Settle is how long changes are collected before a set is made of them. If zero, 20 ms.
	Settle time.Duration
	// Grace is how long after a failure nothing is believed to have become empty. If zero, 30 s.
	Grace time.Duration
	// Page is how many slices are listed at a time. If zero, 100.
	Page int
}

// Target is one Service of a cluster.
type Target struct {
	Name      string
	Namespace string // if empty, Config.Namespace
	// Port is the name of a port of the Service, or a number. If empty, it is the sidecars' port or, where there are none, the only one.
	Port string
	// Defaults complete the endpoints. Defaults.Port is the sidecars' where slices do not name it.
	Defaults discovery.Defaults
}

// Cluster is the way to one API server. It is safe for concurrent use, and starts nothing.
type Cluster struct {
	conf Config
	base *url.URL
	auth credentials

	mu     sync.Mutex
	client *client // as of the last request
}

const (
	accountDir = "/var/run/secrets/kubernetes.io/serviceaccount"
	sliceName  = "kubernetes.io/service-name" // the label that says whose slice it is
)

// New reads the kubeconfig, if there is one. The files that it names, and those of the pod, are read when they are needed.
func New(c Config) (*Cluster, error) {
	if c.Getenv == nil {
		c.Getenv = os.Getenv
	}
	if c.Account == "" {
		c.Account = accountDir
	}
	if c.Retry <= 0 {
		c.Retry = 100 * time.Millisecond
	}
	if c.Settle <= 0 {
		c.Settle = 20 * time.Millisecond
	}
	if c.Grace <= 0 {
		c.Grace = 30 * time.Second
	}
	if c.Page <= 0 {
		c.Page = 100
	}
	cl := &Cluster{conf: c}
	var err error
	switch {
	case c.Kubeconfig != "":
		err = cl.fromKubeconfig()
	case c.Address == "":
		err = cl.fromPod()
	}
	if err != nil {
		return nil, err
	}
	if c.Address != "" {
		cl.auth.address = c.Address
	}
	if c.TokenFile != "" {
		cl.auth.tokenFile, cl.auth.token = c.TokenFile, ""
	}
	if c.Roots != "" {
		cl.auth.rootsFile, cl.auth.roots = c.Roots, nil
	}
	if cl.conf.Namespace == "" {
		cl.conf.Namespace = "default"
	}
	cl.base, err = parseAddress(cl.auth.address)
	return cl, err
}

func parseAddress(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil {
		return nil, fmt.Errorf("address of the API server: %w", err)
	}
	if u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return nil, fmt.Errorf("address of the API server: %q is not of the form https://host:port", s)
	}
	return u, nil
}

// fromPod is what a pod knows: https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/#directly-accessing-the-rest-api
func (c *Cluster) fromPod() error {
	host, port := c.conf.Getenv("KUBERNETES_SERVICE_HOST"), c.conf.Getenv("KUBERNETES_SERVICE_PORT")
	if host == "" || port == "" {
		return errors.New("this is no pod (KUBERNETES_SERVICE_HOST is not set), and there is neither an address nor a kubeconfig")
	}
	c.auth.address = "https://" + net.JoinHostPort(host, port)
	c.auth.tokenFile = c.conf.Account + "/token"
	c.auth.rootsFile = c.conf.Account + "/ca.crt"
	if c.conf.Namespace == "" {
		if b, err := os.ReadFile(c.conf.Account + "/namespace"); err == nil {
			c.conf.Namespace = strings.TrimSpace(string(b))
		}
	}
	return nil
}

// Resolver returns what follows t.
func (c *Cluster) Resolver(t Target) (*Resolver, error) {
	if t.Namespace == "" {
		t.Namespace = c.conf.Namespace
	}
	if t.Name == "" {
		return nil, errors.New("watch EndpointSlices: the Service has no name")
	}
	return &Resolver{cluster: c, target: t}, nil
}

// Resolver follows the slices of one Service. It implements discovery.Resolver.
type Resolver struct {
	cluster *Cluster
	target  Target
}
