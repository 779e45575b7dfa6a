package deptest

// room says what the packages of one folder may import of this module. In patterns "*" is one element of a path
// and a last element "..." is any number of them, none included. The first room that matches a package is its room.
type room struct {
	dir string
	may []string
	why string // why it may not import the rest
}

var codecs = []string{"proxy/http1", "proxy/http2", "proxy/http3"}

// rooms is the table of imports. Tests are free: they may play any part.
var rooms = []room{
	{"proxy", []string{"proxy/task"}, "the plain types that all share: whatever they import, all import. (task only for Shard and Instant, which a Request carries.)"},
	{"proxy/task/...", []string{"proxy/task/..."}, "the runtime runs anything, so it knows no message"},
	{"proxy/detect", []string{"proxy"}, "it looks at bytes and decides nothing else"},
	{"proxy/socks", nil, "it reads and writes messages, and knows neither connections nor Exchanges"},
	{"proxy/proxyproto", nil, "it reads and writes a header, and knows neither connections nor Exchanges"},
	{"proxy/sni", nil, "it reads one message, and knows neither connections nor Exchanges"},
	{"proxy/http1", []string{"proxy", "proxy/task"}, "a codec turns bytes into Exchanges; where they go is not its matter, and no codec knows another"},
	{"proxy/http2", []string{"proxy", "proxy/task", "proxy/head"}, "a codec turns bytes into Exchanges; where they go is not its matter, and no codec knows another. (head for what HTTP/2 and HTTP/3 share.)"},
	{"proxy/http3", []string{"proxy", "proxy/task", "proxy/head"}, "as proxy/http2"},
	{"proxy/head", []string{"proxy"}, "it knows what a head may hold, and neither bytes nor connections"},
	{"proxy/relay", []string{"proxy", "proxy/task"}, "it copies, whatever is copied"},
	{"proxy/inbound", []string{"proxy", "proxy/task", "proxy/answer", "proxy/observe", "proxy/deadline", "proxy/datagram", "proxy/hops"}, "a stack is the order of its layers: it names layers and nothing below them"},
	{"proxy/outbound", []string{"proxy", "proxy/task", "proxy/answer", "proxy/observe", "proxy/deadline", "proxy/datagram", "proxy/hops", "proxy/routing"}, "a stack is the order of its layers: it names layers and nothing below them"},
	{"proxy/proxytest", []string{"proxy", "proxy/task"}, "it plays the network, for tests of every room"},
	{"proxy/bridge", []string{"proxy", "proxy/task"}, "it carries messages between shards, whatever runs there"},
	{"proxy/metrics", []string{"proxy", "proxy/task", "proxy/observe"}, "a sink of observe: it counts what is told there"},
	{"proxy/flight", []string{"proxy", "proxy/task", "proxy/observe", "proxy/metrics", "proxy/answer"}, "a sink of observe: it keeps what is told there. (metrics for a histogram, answer for the id of a request.)"},
	{"proxy/accesslog", []string{"proxy", "proxy/task", "proxy/observe"}, "as proxy/metrics"},
	{"proxy/spans", []string{"proxy", "proxy/task", "proxy/observe", "proxy/tracing"}, "as proxy/metrics. (tracing for where a request stands.)"},
	{"proxy/tap", []string{"proxy", "proxy/task", "proxy/observe", "proxy/accesslog"}, "as proxy/metrics. (accesslog for what is secret.)"},
	{"proxy/dnscache", nil, "it keeps messages, and knows neither connections nor Flows"},
	{"proxy/httpcache/sfv", nil, "it reads one form of text"},
	{"proxy/httpcache/cachecontrol", []string{"proxy/httpcache/sfv"}, "it reads fields, and decides nothing"},
	{"proxy/httpcache/rules", []string{"proxy", "proxy/httpcache/cachecontrol"}, "it decides, and keeps and does nothing"},
	{"proxy/httpcache/store", nil, "it keeps values, whatever they are"},
	{"proxy/httpcache/disk", nil, "as proxy/httpcache/store"},
	{"proxy/httpcache", []string{"proxy", "proxy/task", "proxy/httpcache/*"}, "a layer like the others; its parts are below it"},
	{"proxy/*", []string{"proxy", "proxy/task"}, "a layer is one concern: it wraps a RoundTripper and knows neither its neighbours nor the stack"},
	{"discovery/dns/resolvconf", nil, "it reads one file"},
	{"discovery/dns", []string{"proxy", "discovery", "discovery/dns/resolvconf"}, "a source like the others; how a machine resolves names is written in a file that the DNS listener reads too"},
	{"listeners/dns", []string{"discovery/dns/resolvconf"}, "it answers questions about names: where they lead is given to it, and other name servers are in a file"},
	{"listeners/udp", []string{"proxy", "proxy/task", "proxy/datagram", "proxy/dnscache"}, "it hands Flows to what it is given; which answers it may give by itself, a cache of theirs knows"},
	{"listeners/*", append(codecs, "proxy", "proxy/task/...", "proxy/answer", "proxy/datagram", "proxy/detect", "proxy/relay", "proxy/socks", "proxy/sni", "proxy/proxyproto", "tls/mtls"),
		"a listener hands Exchanges to a RoundTripper that it is given: it does not know what is behind"},
	{"upstream", []string{"proxy", "proxy/task", "upstream/*", "discovery"}, "the front door imports its children; who knocks is not its matter"},
	{"upstream/h2link", append(codecs, "proxy", "proxy/task/...", "upstream/pool", "tls/mtls"), "a Link carries Exchanges; choosing it is its parent's matter. (pool for the interface that a Link implements.)"},
	{"upstream/quiclink", append(codecs, "proxy", "proxy/task/...", "proxy/bridge", "upstream/pool", "tls/mtls"), "as upstream/h2link. (bridge, because QUIC lives on goroutines.)"},
	{"upstream/auto", []string{"proxy", "proxy/task", "upstream/pool"}, "it chooses between Links that it is given. (pool for the interface that a Link implements.)"},
	{"upstream/direct", append(codecs, "proxy", "proxy/bridge", "proxy/task/...", "proxy/datagram", "proxy/proxyproto", "upstream/pool"), "it calls the local app; choosing among endpoints is its parent's matter. (pool for connections that carry many requests.)"},
	{"upstream/balance", []string{"proxy", "proxy/task", "upstream/health"}, "it picks one Endpoint and sends nothing. (health, because it picks among those that are usable.)"},
	{"upstream/health", []string{"proxy", "proxy/task"}, "what is known of Endpoints; who finds it out tells it"},
	{"upstream/*", append(codecs, "proxy", "proxy/task/...", "discovery", "tls/mtls"), "children of one parent do not import each other"},
	{"discovery", []string{"proxy"}, "the interface that its children implement"},
	{"discovery/grpcio", nil, "it carries bytes to a server and back, whatever they mean"},
	{"discovery/etcd", []string{"proxy", "discovery", "discovery/grpcio"}, "a source like the others, whose server speaks gRPC"},
	{"discovery/xds", []string{"proxy", "discovery", "discovery/grpcio"}, "as discovery/etcd"},
	{"discovery/*", []string{"proxy", "discovery"}, "one source each: none knows another, nor who watches"},
	{"tls/tlstest", []string{"proxy", "tls/mtls", "tls/devca"}, "it makes certificates, for tests of every room"},
	{"tls/*", []string{"proxy"}, "certificates, and whose they are (proxy.Identity); connections are made elsewhere"},
	{"cmd/internal/config", []string{"proxy", "proxy/routing", "tls/devca"}, "text into plain values; the rooms' own Configs are filled by who joins them. (devca for its default folder; routing for the forms of paths and headers.)"},
	{"cmd/internal/child", nil, "it starts processes, whatever they are"},
	{"cmd/internal/demo", []string{"cmd/internal/child"}, "the demo uses pillion as its users do: as a program"},
	{"cmd/...", []string{"..."}, ""},
	{"bench/sim", []string{"proxy", "proxy/task", "proxy/retry", "proxy/limit", "upstream/balance", "upstream/health"}, "it simulates the world around rooms, and nothing of these"},
	{"bench/...", []string{"proxy", "bench/..."}, "it measures pillion from outside"},
	{"examples/...", nil, "an example is what a user could write"},
}

// entry says where a package that is not ours may be imported.
type entry struct {
	path string // "..." as in room
	in   []string
	why  string
}

var entries = []entry{
	{"net/http", []string{"cmd/...", "listeners/admin", "discovery/discoverytest", "discovery/grpcio", "discovery/consul", "discovery/kubernetes", "bench/...", "examples/..."}, "not on the data path: its map of canonical names loses the order and the case of fields, and costs 100 µs for a pair of sidecars"},
	{"net/http/httptrace", []string{"discovery/xds"}, "only a trace tells when a server that says nothing is connected"},
	{"net/http/...", []string{"cmd/...", "listeners/admin", "discovery/discoverytest", "bench/...", "examples/..."}, "as net/http"},
	{"os/exec", []string{"cmd/...", "bench/...", "examples/...", "discovery/discoverytest"}, "rooms start no processes, but tests of whole sidecars do"},
	{"golang.org/x/net/http2", nil, "the product has a codec of its own, and so has the app of the benchmarks, which pillion bench starts; this one brings 0.5 MB of tables into every sidecar"},
	{"golang.org/x/net/http2/hpack", []string{"proxy/http2", "proxy/http3", "bench/load", "bench/app"}, "the table of compressed fields belongs to the codec (HTTP/3 has its Huffman code only); the load generator and its app have their own"},
	{"golang.org/x/net/dns/...", []string{"discovery/dns", "listeners/dns", "proxy/dnscache"}, "three rooms speak DNS: one asks, one is asked, one keeps what others say"},
	{"golang.org/x/sys/...", []string{"proxy/task/...", "cmd/...", "listeners/*", "bench/..."}, "system calls belong to the runtime"},
	{"github.com/hashicorp/golang-lru/v2/...", []string{"proxy/detect", "proxy/httpcache/store", "proxy/httpcache/disk", "proxy/dnscache", "proxy/limit", "proxy/http2", "upstream/*", "listeners/*"}, "a bounded memory, where clients can fill one"},
	{"github.com/HdrHistogram/hdrhistogram-go", []string{"bench/load"}, "one package keeps distributions of latencies"},
	{"github.com/quic-go/...", []string{"proxy/http3", "upstream/quiclink", "listeners/peer", "bench/peers/barequic", "bench/peers/naivego"}, "QUIC enters through the rooms that carry it; of the peers in the benchmarks one is nothing else, and one the usual way to use it"},
	{"go.uber.org/fx/...", []string{"cmd/..."}, "the rooms are joined in one place"},
	{"go.uber.org/dig", []string{"cmd/pillion"}, "fx's own engine, for the cause of its errors"},
	{"github.com/spf13/...", []string{"cmd/..."}, "only the command line parses a command line"},
	{"go.yaml.in/yaml/v3", []string{"cmd/internal/config", "discovery/file", "discovery/kubernetes"}, "three rooms read YAML: the configuration, the files of endpoints, and kubeconfigs"},
	{"google.golang.org/protobuf/encoding/protowire", []string{"discovery/etcd", "discovery/xds", "cmd/internal/otlp"}, "the bytes of messages that are few and small: generated types and their reflection would be megabytes"},
	{"google.golang.org/protobuf/types/known/timestamppb", []string{"cmd/internal/scrape"}, "the time of an exemplar, which Prometheus' client has linked in already"},
	{"github.com/prometheus/...", []string{"cmd/internal/scrape"}, "the scrape edge only: rooms count in plain numbers. It costs an idle sidecar 0.25 MiB"},
	{"google.golang.org/grpc/...", []string{"examples/..."}, "an app's library: the sidecar carries gRPC without it, and would be 9 MB heavier with it"},
}
