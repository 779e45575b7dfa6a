package config

// Kubernetes is the cluster that endpoints: kubernetes:name ask. The pod needs the right to get, list and watch endpointslices of discovery.k8s.io.
type Kubernetes struct {
	// The URL of its API server.
	Address string `yaml:"address" note:"that of kubeconfig; without one, that of the cluster in which this is a pod"`
	// A kubeconfig file, with a token or a certificate: other programs are not started for credentials.
	Kubeconfig string `yaml:"kubeconfig" note:"none"`
	// Which context of kubeconfig.
	Context string `yaml:"context" note:"its current one"`
	// A file with the token to show, read again for each request.
	TokenFile string `yaml:"token_file" note:"that of kubeconfig, or of the pod's service account"`
	// The certificates of the authorities that the API server's must be signed by, PEM; read again when it changes.
	Roots string `yaml:"roots" note:"those of kubeconfig, or of the pod's service account"`
	// The namespace of a kubernetes:name that says none.
	Namespace string `yaml:"namespace" note:"that of kubeconfig, or of the pod"`
	// Whom to expect at a service from Kubernetes that has no identity of its own, as in spiffe://{trust_domain}/ns/{namespace}/sa/{service}: the placeholders
	// are replaced by those of the service, {service} by its name in Kubernetes.
	Identity string `yaml:"identity" note:"spiffe://<trust domain>/<the service's own name>, as for other services"`
	// Which address of a pod is used that has one of each family.
	Family Family `yaml:"family" default:"ipv4" enum:"ipv4,ipv6"`
}

// Family is a kind of IP address.
type Family string

// The families.
const (
	IPv4 Family = "ipv4"
	IPv6 Family = "ipv6"
)

// KubernetesService is one Service of a cluster.
type KubernetesService struct {
	Name      string
	Namespace string // "" is that of Kubernetes
	Port      string // a name or a number; "" if none is given
}

// String returns it as it is written in YAML.
func (k KubernetesService) String() string {
	s := k.Name
	if k.Namespace != "" {
		s += "." + k.Namespace
	}
	if k.Port != "" {
		s += ":" + k.Port
	}
	return s
}
