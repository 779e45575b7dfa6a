package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"

	"github.com/pillion-proxy/pillion/cmd/internal/config"
	"github.com/pillion-proxy/pillion/discovery"
	"github.com/pillion-proxy/pillion/discovery/consul"
	"github.com/pillion-proxy/pillion/discovery/etcd"
)

// agents are the clients of Consul and etcd, which services and the registration of this sidecar share. Each is made when it is first needed.
type agents struct {
	consul     *consul.Client
	consulConf config.Consul
	etcd       *etcd.Client
	etcdConf   string
}

// consulClient returns the client for k.
func (a *agents) consulClient(k config.Consul) (*consul.Client, error) {
	if a.consul != nil && a.consulConf == k {
		return a.consul, nil
	}
	t, err := clientTLS(k.Roots, k.Cert, k.Key)
	if err != nil {
		return nil, fmt.Errorf("consul: %w", err)
	}
	c, err := consul.New(consul.Config{Address: k.Address, Token: k.Token, TokenFile: k.TokenFile, Datacenter: k.Datacenter, TLS: t})
	if err != nil {
		return nil, err
	}
	a.consul, a.consulConf = c, k
	return c, nil
}

// consulService follows a service in Consul.
func (a *agents) consulService(svc config.Service, k config.Consul) (discovery.Resolver, error) {
	c, err := a.consulClient(k)
	if err != nil {
		return nil, err
	}
	of := svc.Endpoints.Consul
	return c.Resolver(consul.Query{Service: of.Name, Tags: of.Tags, Datacenter: of.Datacenter, Port: of.Port, Defaults: registeredDefaults(svc)})
}

// etcdClient returns the client for k.
func (a *agents) etcdClient(k config.Etcd) (*etcd.Client, error) {
	conf := fmt.Sprintf("%+v", k)
	if a.etcd != nil && a.etcdConf == conf {
		return a.etcd, nil
	}
	c := etcd.Config{Endpoints: k.Endpoints, Prefix: k.Prefix, User: k.User}
	if k.PasswordFile != "" {
		password, err := os.ReadFile(k.PasswordFile)
		if err != nil {
			return nil, fmt.Errorf("etcd: %w", err)
		}
		c.Password = strings.TrimRight(string(password), "\r\n")
	}
	if k.TLS {
		var err error
		if c.TLS, err = clientTLS(k.Roots, k.Cert, k.Key); err != nil {
			return nil, fmt.Errorf("etcd: %w", err)
		}
	}
	client, err := etcd.New(c)
	if err != nil {
		return nil, err
	}
	a.etcd, a.etcdConf = client, conf
	return client, nil
}

// etcdService follows a service in etcd.
func (a *agents) etcdService(svc config.Service, k config.Etcd) (discovery.Resolver, error) {
	c, err := a.etcdClient(k)
	if err != nil {
		return nil, err
	}
	return c.Resolver(svc.Endpoints.Etcd, registeredDefaults(svc))
}

// registeredDefaults are those of endpoints that have a port of their own where no sidecar is.
func registeredDefaults(svc config.Service) discovery.Defaults {
	d := defaultsOf(svc)
	if !svc.Mesh {
		d.Port = 0
	}
	return d
}

// clientTLS reads what a client of a registry needs, as often as one is made.
func clientTLS(roots, cert, key string) (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if roots != "" {
		data, err := os.ReadFile(roots)
		if err != nil {
			return nil, err
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(data) {
			return nil, fmt.Errorf("%s holds no certificate", roots)
		}
	}
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, err
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return t, nil
}
