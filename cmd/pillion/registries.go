package main

import (
	"fmt"
	"os"

	"github.com/pillion-proxy/pillion/cmd/internal/config"
	"github.com/pillion-proxy/pillion/discovery"
	"github.com/pillion-proxy/pillion/discovery/kubernetes"
	"github.com/pillion-proxy/pillion/discovery/xds"
)

// registries are the ways to sources that services share. Each is made when the first service needs it, costs nothing before, and stays until its
// configuration changes.
type registries struct {
	agents
	cluster     *kubernetes.Cluster
	clusterConf string
	plane       *xds.Client
	planeConf   string
}

// registryOf is the configuration of the registry that the service is in, as text; "" if it is in none.
func registryOf(svc config.Service, cfg *config.Config) string {
	switch {
	case svc.Endpoints.Kubernetes.Name != "":
		return fmt.Sprintf("%+v %s", cfg.Kubernetes, cfg.Zone)
	case svc.Endpoints.XDS != "":
		return fmt.Sprintf("%+v %s %s", cfg.XDS, cfg.Zone, cfg.Service)
	case svc.Endpoints.Consul.Name != "":
		return fmt.Sprintf("%+v", cfg.Consul)
	case svc.Endpoints.Etcd != "":
		return fmt.Sprintf("%+v", cfg.Etcd)
	}
	return ""
}

// kubernetes follows a Service of the cluster.
func (r *registries) kubernetes(svc config.Service, cfg *config.Config) (discovery.Resolver, error) {
	k := cfg.Kubernetes
	if now := registryOf(svc, cfg); r.cluster == nil || r.clusterConf != now {
		cluster, err := kubernetes.New(kubernetes.Config{Address: k.Address, Kubeconfig: k.Kubeconfig, Context: k.Context, TokenFile: k.TokenFile, Roots: k.Roots,
			Namespace: k.Namespace, Zone: cfg.Zone, IPv6: k.Family == config.IPv6})
		if err != nil {
			return nil, fmt.Errorf("kubernetes: %w", err)
		}
		r.cluster, r.clusterConf = cluster, now
	}
	to := svc.Endpoints.Kubernetes
	return r.cluster.Resolver(kubernetes.Target{Name: to.Name, Namespace: to.Namespace, Port: to.Port, Defaults: defaultsOf(svc)})
}

// xds follows a cluster of the control plane.
func (r *registries) xds(svc config.Service, cfg *config.Config) (discovery.Resolver, error) {
	if now := registryOf(svc, cfg); r.plane == nil || r.planeConf != now {
		plane, err := newPlane(cfg)
		if err != nil {
			return nil, fmt.Errorf("xds: %w", err)
		}
		r.plane, r.planeConf = plane, now
	}
	return r.plane.Resolver(svc.Endpoints.XDS, defaultsOf(svc))
}

func newPlane(cfg *config.Config) (*xds.Client, error) {
	x := cfg.XDS
	node := xds.Node{ID: x.Node.ID, Cluster: x.Node.Cluster, Region: x.Node.Region, Zone: cfg.Zone}
	if node.ID == "" {
		host, err := os.Hostname()
		if err != nil {
			return nil, fmt.Errorf("node.id: %w", err)
		}
		node.ID = cfg.Service + "." + host
	}
	if node.Cluster == "" {
		node.Cluster = cfg.Service
	}
	mode := map[config.XDSMode]xds.Mode{config.XDSAuto: xds.Auto, config.XDSDelta: xds.Delta, config.XDSState: xds.State}[x.Mode]
	address, secure := x.Address()
	c := xds.Config{Server: address, TokenFile: x.TokenFile, Node: node, Mode: mode}
	if secure {
		var err error
		if c.TLS, err = clientTLS(x.Roots, x.Cert, x.Key); err != nil {
			return nil, err
		}
	}
	return xds.New(c)
}
