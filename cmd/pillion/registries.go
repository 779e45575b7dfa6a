package main

import (
	"fmt"

	"github.com/pillion-proxy/pillion/cmd/internal/config"
	"github.com/pillion-proxy/pillion/discovery"
	"github.com/pillion-proxy/pillion/discovery/kubernetes"
)

// registries are the ways to sources that services share. Each is made when the first service needs it, costs nothing before, and stays until its
// configuration changes.
type registries struct {
	agents
	cluster     *kubernetes.Cluster
	clusterConf config.Kubernetes
}

// registryOf is the configuration of the registry that the service is in, as text; "" if it is in none.
func registryOf(svc config.Service, cfg *config.Config) string {
	if svc.Endpoints.Kubernetes.Name != "" {
		return fmt.Sprintf("%+v", cfg.Kubernetes)
	}
	if svc.Endpoints.Consul.Name != "" {
		return fmt.Sprintf("%+v", cfg.Consul)
	}
	if svc.Endpoints.Etcd != "" {
		return fmt.Sprintf("%+v", cfg.Etcd)
	}
	return ""
}

// kubernetes follows a Service of the cluster.
func (r *registries) kubernetes(svc config.Service, k config.Kubernetes) (discovery.Resolver, error) {
	if r.cluster == nil || r.clusterConf != k {
		cluster, err := kubernetes.New(kubernetes.Config{Address: k.Address, Kubeconfig: k.Kubeconfig, Context: k.Context, TokenFile: k.TokenFile, Roots: k.Roots,
			Namespace: k.Namespace, Zone: k.Zone, IPv6: k.Family == config.IPv6})
		if err != nil {
			return nil, fmt.Errorf("kubernetes: %w", err)
		}
		r.cluster, r.clusterConf = cluster, k
	}
	to := svc.Endpoints.Kubernetes
	return r.cluster.Resolver(kubernetes.Target{Name: to.Name, Namespace: to.Namespace, Port: to.Port, Defaults: defaultsOf(svc)})
}
