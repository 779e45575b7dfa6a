package xds

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	kinds "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/pillion-proxy/pillion/discovery/discoverytest"
)

// plane is a control plane: go-control-plane's server over grpc-go.
type plane struct {
	t    *testing.T
	addr string

	mu        sync.Mutex
	cache     cache.SnapshotCache
	version   int
	clusters  map[string]types.Resource
	endpoints map[string]types.Resource
	stop      func()

	// What was heard.
	nodes   []*corev3.Node
	tokens  []string
	nacks   []string
	acks    []string                             // versions, in state of the world
	deltas  []*discoveryv3.DeltaDiscoveryRequest // the first of each stream and type
	states  []*discoveryv3.DiscoveryRequest      // the first of each stream and type
	streams int
}

func newPlane(t *testing.T, options ...grpc.ServerOption) *plane {
	t.Helper()
	p := &plane{t: t, addr: "127.0.0.1:0", cache: cache.NewSnapshotCache(false, cache.IDHash{}, nil), clusters: make(map[string]types.Resource), endpoints: make(map[string]types.Resource)}
	p.start(options...)
	t.Cleanup(func() { p.stop() })
	return p
}

// start serves at the address that it had before.
func (p *plane) start(options ...grpc.ServerOption) {
	p.t.Helper()
	var ln net.Listener
	discoverytest.Eventually(p.t, p.addr+" is free", func() bool {
		var err error
		ln, err = net.Listen("tcp", p.addr)
		return err == nil
	})
	p.addr = ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	g := grpc.NewServer(options...)
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, server.NewServer(ctx, p.cache, p.callbacks()))
	done := make(chan struct{})
	go func() { defer close(done); _ = g.Serve(ln) }()
	p.stop = sync.OnceFunc(func() { cancel(); g.Stop(); <-done })
}

func (p *plane) callbacks() server.Callbacks {
	opened := func(ctx context.Context, _ int64, _ string) error {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.streams++
		md, _ := metadata.FromIncomingContext(ctx)
		p.tokens = append(p.tokens, md.Get("authorization")...)
		return nil
	}
	return server.CallbackFuncs{
		StreamOpenFunc:      opened,
		DeltaStreamOpenFunc: opened,
		StreamRequestFunc: func(_ int64, r *discoveryv3.DiscoveryRequest) error {
			p.mu.Lock()
			defer p.mu.Unlock()
			if r.Node != nil {
				p.nodes = append(p.nodes, proto.Clone(r.Node).(*corev3.Node))
			}
			switch {
			case r.ErrorDetail != nil:
				p.nacks = append(p.nacks, r.ErrorDetail.Message)
			case r.ResponseNonce == "":
				p.states = append(p.states, proto.Clone(r).(*discoveryv3.DiscoveryRequest))
			default:
				p.acks = append(p.acks, r.VersionInfo)
			}
			return nil
		},
		StreamDeltaRequestFunc: func(_ int64, r *discoveryv3.DeltaDiscoveryRequest) error {
			p.mu.Lock()
			defer p.mu.Unlock()
			if r.Node != nil {
				p.nodes = append(p.nodes, proto.Clone(r.Node).(*corev3.Node))
				p.deltas = append(p.deltas, proto.Clone(r).(*discoveryv3.DeltaDiscoveryRequest))
			}
			if r.ErrorDetail != nil {
				p.nacks = append(p.nacks, r.ErrorDetail.Message)
			}
			return nil
		},
	}
}

// publish makes what is there the truth.
func (p *plane) publish() {
	p.t.Helper()
	p.mu.Lock()
	p.version++
	snapshot, err := cache.NewSnapshot(fmt.Sprint(p.version), map[kinds.Type][]types.Resource{
		kinds.ClusterType:  slices.Collect(maps.Values(p.clusters)),
		kinds.EndpointType: slices.Collect(maps.Values(p.endpoints)),
	})
	p.mu.Unlock()
	if err == nil {
		err = p.cache.SetSnapshot(context.Background(), "web-1", snapshot)
	}
	if err != nil {
		p.t.Error(err)
	}
}

// put makes name a cluster with these endpoints.
func (p *plane) put(name string, localities ...*endpointv3.LocalityLbEndpoints) {
	p.t.Helper()
	p.clusters[name] = edsCluster(name, "")
	p.endpoints[name] = assign(name, localities...)
	p.publish()
}

// remove ends the cluster.
func (p *plane) remove(name string) {
	p.t.Helper()
	delete(p.clusters, name)
	delete(p.endpoints, name)
	p.publish()
}

func (p *plane) heard(f func() bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return f()
}

func edsCluster(name, of string) *clusterv3.Cluster {
	return &clusterv3.Cluster{Name: name, ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig: &clusterv3.Cluster_EdsClusterConfig{ServiceName: of, EdsConfig: &corev3.ConfigSource{ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}}}}}
}

func assign(name string, localities ...*endpointv3.LocalityLbEndpoints) *endpointv3.ClusterLoadAssignment {
	return &endpointv3.ClusterLoadAssignment{ClusterName: name, Endpoints: localities}
}

// in is a locality.
func in(zone string, ends ...*endpointv3.LbEndpoint) *endpointv3.LocalityLbEndpoints {
	return &endpointv3.LocalityLbEndpoints{Locality: &corev3.Locality{Region: "r", Zone: zone}, LbEndpoints: ends}
}

func at(host string, port uint32) *endpointv3.LbEndpoint {
	return &endpointv3.LbEndpoint{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: &corev3.Address{
		Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{Address: host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port}}}}}}}
}

func weighing(e *endpointv3.LbEndpoint, weight uint32) *endpointv3.LbEndpoint {
	e.LoadBalancingWeight = wrapperspb.UInt32(weight)
	return e
}

func health(e *endpointv3.LbEndpoint, h corev3.HealthStatus) *endpointv3.LbEndpoint {
	e.HealthStatus = h
	return e
}

func saying(e *endpointv3.LbEndpoint, say map[string]any) *endpointv3.LbEndpoint {
	s, err := structpb.NewStruct(say)
	if err != nil {
		panic(err)
	}
	e.Metadata = &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{"envoy.lb": {}, "pillion": s}}
	return e
}
