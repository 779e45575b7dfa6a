package config

import (
	"fmt"
	"strings"

	"github.com/pillion-proxy/pillion/proxy"
)

const kubernetesKind = "kubernetes"

// parseKubernetes reads name, name.namespace or the Service's DNS name, and perhaps a port.
func parseKubernetes(s string, e *Endpoints) error {
	const example = "write the Service and its namespace, as in kubernetes:billing.shop or kubernetes:billing.shop:http"
	host, port, hasPort := strings.Cut(s, ":")
	name, rest, _ := strings.Cut(host, ".")
	namespace, domain, _ := strings.Cut(rest, ".")
	switch {
	case !isLabel(name) || rest != "" && !isLabel(namespace) || rest == "" && strings.HasSuffix(host, "."):
		return fmt.Errorf("%q is no Service of Kubernetes; %s", clip(host), example)
	case domain != "" && domain != "svc" && !strings.HasPrefix(domain, "svc."):
		return fmt.Errorf("%q is no Service of Kubernetes: after the namespace there is nothing, or svc; %s", clip(host), example)
	}
	if hasPort {
		if n, err := parsePort(port); err == nil {
			port = fmt.Sprint(n)
		} else if !isLabel(port) || isDigits(port) {
			return fmt.Errorf("%q is neither a port nor the name of one; %s", clip(port), example)
		}
	}
	e.Kubernetes = KubernetesService{Name: name, Namespace: namespace, Port: port}
	return nil
}

// isLabel: "contain only lowercase alphanumeric characters or '-', start with [and] end with an alphanumeric character" (RFC 1123 labels).
func isLabel(s string) bool {
	return s != "" && len(s) <= maxLabel && strings.Trim(s, "-") == s && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// checkKubernetes finds what is wrong with the cluster, and makes paths absolute.
func (d *decoder) checkKubernetes(c *Config) {
	const at = "kubernetes"
	k := &c.Kubernetes
	for key, path := range map[string]*string{"kubernetes.kubeconfig": &k.Kubeconfig, "kubernetes.token_file": &k.TokenFile, "kubernetes.roots": &k.Roots} {
		d.plainFile(key, path)
	}
	if key := "kubernetes.address"; d.places[key] != nil && !d.bad[key] && !isURL(k.Address) {
		d.report(d.places[key], key, "%q is no address of an API server; write one, as in https://10.0.0.1:6443", clip(k.Address))
	}
	if key := "kubernetes.namespace"; d.places[key] != nil && !d.bad[key] && !isLabel(k.Namespace) {
		d.report(d.places[key], key, "%q is no namespace; it may hold lower-case letters, digits and dashes", clip(k.Namespace))
	}
	if key := "kubernetes.context"; d.places[key] != nil && d.places["kubernetes.kubeconfig"] == nil {
		d.report(d.places[key], key, "there is no kubeconfig in which it could be; add kubeconfig, or remove this line")
	}
	if key := "kubernetes.identity"; d.places[key] != nil && !d.bad[key] {
		_, err := proxy.ParseIdentity(expandIdentity(k.Identity, "example.org", "a", "b"))
		if err != nil || strings.ContainsAny(expandIdentity(k.Identity, "", "", ""), "{}") {
			d.report(d.places[key], key, "%q is no SPIFFE ID with {trust_domain}, {namespace} and {service}; write one, as in spiffe://{trust_domain}/ns/{namespace}/sa/{service}", clip(k.Identity))
			d.bad[key] = true
		}
	}
	for i := range c.Services {
		if c.Services[i].Endpoints.Kubernetes.Name != "" {
			return
		}
	}
	if d.says(at) {
		d.warn(c, at, "has no effect: no service has endpoints: kubernetes:name.namespace")
	}
}

func isURL(s string) bool {
	host, secure := strings.CutPrefix(s, "https://")
	if !secure {
		var plain bool
		if host, plain = strings.CutPrefix(s, "http://"); !plain {
			return false
		}
	}
	return host != "" && !strings.ContainsAny(host, " ?#@")
}

// plainFile makes a path absolute, and wants a file there.
func (d *decoder) plainFile(key string, path *string) {
	n := d.places[key]
	if n == nil || d.bad[key] {
		return
	}
	if *path == "" {
		d.report(n, key, "has no value; write the path of a file or remove the line")
		return
	}
	*path = join(d.dir, *path)
	if err := readable(*path); err != nil {
		d.report(n, key, "%v; write the path of a file", err)
	}
}

func expandIdentity(template, domain, namespace, service string) string {
	return strings.NewReplacer("{trust_domain}", domain, "{namespace}", namespace, "{service}", service).Replace(template)
}

// kubernetesIdentity is whom to expect at s, which says nothing of it; "" if the cluster has no rule.
func (d *decoder) kubernetesIdentity(c *Config, s *Service) proxy.Identity {
	const key = "kubernetes.identity"
	k := s.Endpoints.Kubernetes
	if k.Name == "" || c.Kubernetes.Identity == "" || d.bad[key] {
		return ""
	}
	if k.Namespace == "" {
		k.Namespace = c.Kubernetes.Namespace
	}
	if k.Namespace == "" && strings.Contains(c.Kubernetes.Identity, "{namespace}") {
		at := sub(sub("services", s.Name), "endpoints")
		d.report(d.places[at], at, "kubernetes.identity needs the namespace; write kubernetes:%s.<namespace>", k.Name)
		return ""
	}
	return proxy.Identity(expandIdentity(c.Kubernetes.Identity, c.Identity.TrustDomain, k.Namespace, k.Name))
}
