package config

import (
	"crypto/sha256"
	"net/netip"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
)

// Config is the whole configuration of one sidecar. Every key but service may be left out.
type Config struct {
	// The name of the workload beside this sidecar: what its peers call it, and the end of its identity,
	// spiffe://<trust domain>/<service>. Lower-case letters, digits, dots, dashes and underscores.
	Service string `yaml:"service" required:"true"`
	// Where this sidecar runs, in the words of the endpoints' zones. Services prefer endpoints there.
	Zone string `yaml:"zone" note:"unknown"`
	// What peers may reach here. Short forms: a port, an address, or a list of them ("app: 8080").
	App []App `yaml:"app"`
	// Where peers' sidecars connect to this one.
	Peer Peer `yaml:"peer"`
	// Where the local app sends what is meant for peers.
	Outbound Outbound `yaml:"outbound"`
	// The services that the app may call, by name. Short form: an address, or a list of them ("billing: 10.0.0.7").
	Services []Service `yaml:"services"`
	// Certificates: who this sidecar is, and whom it believes.
	Identity Identity `yaml:"identity"`
	// The Kubernetes cluster in which services with endpoints: kubernetes:name are.
	Kubernetes Kubernetes `yaml:"kubernetes"`
	// The Consul in which services with endpoints: consul:name are.
	Consul Consul `yaml:"consul"`
	// The etcd in which services with endpoints: etcd:name are.
	Etcd Etcd `yaml:"etcd"`
	// Where peers can find this sidecar: it enters itself once it is ready and every TCP port of its app takes connections, is marked unfit while one does not, and is taken out
	// when a stop begins. consul makes a service with a check, etcd a key with a lease.
	Register Registry `yaml:"register" default:"none" enum:"consul,etcd,none"`
	// What register says of this sidecar.
	Registration Registration `yaml:"registration"`
	// The Envoy control plane that knows where services with endpoints: xds:cluster are.
	XDS XDS `yaml:"xds"`
	// Health, status and profiles of this sidecar, for its operator.
	Admin Admin `yaml:"admin"`
	// How long a stop may take, from the signal to the end of the process. What still runs then is cut.
	Drain time.Duration `yaml:"drain" default:"30s" min:"0s" max:"24h"`
	// What pillion writes about itself, to standard error.
	Log Log `yaml:"log"`
	// Which spans of requests are sent to an OpenTelemetry collector.
	Tracing Tracing `yaml:"tracing"`
	// A line for each request.
	AccessLog AccessLog `yaml:"access_log"`
	// Bounds on what one client may take.
	Limits Limits `yaml:"limits"`
	// The memory of the HTTP cache: what services and the app allow to be kept of their answers.
	Cache CacheStore `yaml:"cache"`
	// How a changed configuration is taken over while the sidecar runs.
	Reload Reload `yaml:"reload"`

	// File is the absolute path that the configuration came from, "" for flags alone.
	File string `yaml:"-"`
	// Warnings are what is allowed and yet probably not meant.
	Warnings []Problem `yaml:"-"`

	sum [sha256.Size]byte  // of the file's content
	at  map[string]Problem // where keys with paths of files are, without texts
}

// App is one port of the local app that peers may reach.
type App struct {
	// The port that peers ask for, as in orders:8080. The first entry also answers peers that name no port.
	Port uint16 `yaml:"port" note:"the port of to"`
	// Where the app listens: an address and port (127.0.0.1:8080, localhost:8080), a port of 127.0.0.1, or unix:/path.
	To Target `yaml:"to" note:"127.0.0.1 and the port of this entry"`
	// What the app speaks. auto finds out without waiting, and again when the app changes; http is HTTP/1.1; h2c is HTTP/2 without TLS,
	// as for gRPC; h3 is HTTP/3, over UDP, and bytes that are no requests go to the same port over TCP; tcp is anything, passed on byte for byte; udp is
	// datagrams; tcp+udp is both on one port, as for DNS. The same port may also have one entry for udp and another for anything else.
	Protocol AppProtocol `yaml:"protocol" default:"auto" enum:"auto,http,h2c,h3,tcp,udp,tcp+udp"`
	// Which certificate an app that speaks h3 must show: HTTP/3 is never without one.
	TLS AppTLS `yaml:"tls"`
	// Which services may call: names in the trust domain, or SPIFFE IDs.
	Allow []proxy.Identity `yaml:"allow" note:"every service of the trust domain"`
	// Whether callers may open Streams (CONNECT, SOCKS, a service's port with protocol tcp) to an app that speaks HTTP. Their bytes are the caller's own: in a
	// Stream it writes every field itself, those that say who calls too. refuse answers 403 to them; requests and WebSockets go on as they do.
	Streams Streams `yaml:"streams" default:"allow" enum:"allow,refuse"`
	// How long an unused connection to the app is kept for the next request, at most. An app that was seen to close its connections earlier is not waited for.
	Idle time.Duration `yaml:"idle" default:"4s" min:"100ms" max:"1h"`
	// How many of the peers' requests may run in the app at a time, and how many connections to it may be open.
	Limits Concurrency `yaml:"limits"`
	// How many requests per time peers may send to it.
	Rate Rate `yaml:"rate"`
	// The version of the PROXY protocol in which each connection to the app begins. It says who calls: for Streams the client of the sidecar that calls, for
	// requests that sidecar, and in v2 its SPIFFE ID (TLV 0xD0). Connections over which many call (h2c) say that they are
	// pillion's own. With protocol udp every datagram begins with it, and it is v2.
	ProxyProtocol ProxyProtocol `yaml:"proxy_protocol" default:"none" enum:"none,v1,v2"`
	// What of the app's answers is kept on this side, where all its callers come together. Answers that are not public are kept apart by the callers'
	// identities. Short forms: true (mode: on), false (mode: off), auto.
	Cache AppCaching `yaml:"cache"`
}

// AppTLS says how an app proves who it is.
type AppTLS struct {
	// The name that its certificate is for, which it is also asked for (SNI).
	Name string `yaml:"name" default:"localhost"`
	// The certificates of the authorities that must have signed it, or the certificate itself if nobody else has: PEM. It is read at each connect.
	Roots string `yaml:"roots" note:"those of the system"`
	// Takes any certificate. Whoever can listen on the app's port can then be the app.
	Insecure bool `yaml:"insecure" default:"false"`
}

// Peer is the listener for other sidecars.
type Peer struct {
	// Address and port, for mutual TLS, over TCP and, unless transport is tcp, UDP. ":15008" is every address of the machine; none is no listener: this
	// sidecar then only calls.
	Listen Listen `yaml:"listen" default:":15008" none:"true" forms:"any"`
	// What links to peers run over: HTTP/2 over TCP, or HTTP/3 over QUIC. auto takes what works: TCP where both do, QUIC for datagrams and where TCP fails.
	// "pillion status" shows what was learnt. Peers that call are served over both, unless it is tcp: then only over TCP.
	// A service with transport quic of its own is called over QUIC all the same, from a UDP port that the system chooses.
	Transport Transport `yaml:"transport" default:"auto" enum:"auto,quic,tcp"`
	// Whether a request may go with the first packet of a QUIC link to a peer that was linked before (0-RTT). An attacker can make such a request run twice, so only
	// safe methods without a body go there; the app sees "Early-Data: 1" and may answer 425 (RFC 8470). Both sidecars need it: the
	// one that calls, to send such requests, and the one that is called, to take them.
	EarlyData bool `yaml:"early_data" default:"false"`
	// A folder, which must exist, for a trace of each QUIC connection in the qlog format.
	QLog string `yaml:"qlog" note:"no traces"`
}

// Outbound is the listener that serves calls to every service: an HTTP proxy (absolute form, CONNECT), HTTP/1 and h2c routed by Host, a SOCKS proxy
// (5 with UDP ASSOCIATE, 4 and 4a), and TLS of the app's own, routed by the name in its ClientHello (SNI) and passed on as it comes.
type Outbound struct {
	// Address and port, or unix:/path; none is no such listener.
	Listen Listen `yaml:"listen" default:"127.0.0.1:15001" none:"true" forms:"unix"`
	// An HTTP/3 server for apps that speak that themselves: an address and port, of UDP. Requests are routed by their host as on listen, so that
	// https://orders/ sent there reaches the service orders.
	HTTP3 Listen `yaml:"http3" note:"no HTTP/3 server" none:"true"`
	// The certificate chain that http3 shows, PEM: for the names by which the app calls services.
	HTTP3Cert string `yaml:"http3_cert" note:"issued by the development CA for the services' names and localhost; the app must trust ca.crt in its folder"`
	// The private key of http3_cert, PEM.
	HTTP3Key string `yaml:"http3_key" note:"made with http3_cert"`
	// What happens to a name that is no service: refuse answers 502, direct connects to it without a sidecar.
	Others Others `yaml:"others" default:"refuse" enum:"refuse,direct"`
	// Who may use listen where that is a socket.
	Socket Socket `yaml:"socket"`
	// Who may say before a connection's first byte, in a header of the PROXY protocol, for which client it is.
	ProxyProtocol ProxyHeader `yaml:"proxy_protocol"`
	// A DNS server for the app, on a loopback address: 127.0.0.1:53, which resolv.conf then names. A service's name is answered with a loopback
	// address of its own, on which its port is open (services.<name>.port, else that of its listen), so that "psql -h db" reaches db; other names are passed on.
	// Linux only: elsewhere 127.0.0.1 is the only address of its kind.
	DNS Listen `yaml:"dns" note:"no DNS server" none:"true"`
	// The domain below which every service has a name as well: db and db.pillion.internal. With none they have the short one only.
	DNSSuffix string `yaml:"dns_suffix" default:"pillion.internal" none:"true"`
	// Where the addresses of services are from: a part of 127.0.0.0/8. Each follows from the service's name, on every machine the same. Two sidecars
	// on one machine that both have DNS want different ones.
	DNSRange netip.Prefix `yaml:"dns_range" default:"127.80.0.0/16"`
	// The name servers that other names are passed on to: addresses, with a port if it is not 53.
	DNSForward []netip.AddrPort `yaml:"dns_forward" note:"those of /etc/resolv.conf, but this one"`
}

// Socket says who may use a Unix socket on which pillion listens. It is so before anybody can connect.
type Socket struct {
	// The permission bits of its file, in octal; connecting takes the right to write. With 0660 the members of group may connect.
	Mode FileMode `yaml:"mode" default:"0600"`
	// The user who owns it: a name, or a number.
	Owner string `yaml:"owner" note:"the user that pillion runs as"`
	// The group that it belongs to: a name, or a number.
	Group string `yaml:"group" note:"the group that pillion runs as"`
}

// ProxyHeader says whose connections begin with a header of the PROXY protocol, version 1 or 2.
type ProxyHeader struct {
	// Networks and addresses (10.0.0.0/8, 10.1.2.3), and unix for every client of a socket. Their connections must begin with a header; those of others
	// must not.
	From Sources `yaml:"from" note:"nobody"`
}

// Service is one logical destination that the app may call.
type Service struct {
	// Name is the key under services.
	Name string `yaml:"-"`
	// Pinned says that Identity is written, so that what a registry says of it does not count.
	Pinned bool `yaml:"-"`
	// Where it runs: an address or a list of them (10.0.0.7, 10.0.0.7:15008), file:path of a YAML list of addresses ("- 10.0.0.7"), which is watched,
	// consul:name, consul:name:port or consul:name?tag=a&dc=b, etcd:name, dns:name or dns:name:port, srv:name (srv:_http._tcp.billing.internal), svcb:name, xds:cluster, or kubernetes:name.namespace or kubernetes:name.namespace:port, whose EndpointSlices are
	// watched: there the sidecars' port is the one that is named pillion, or 15008, and with mesh: false the port is the Service's only one, or is given by its name or number. An entry of the file can also have keys, of which all but address may be
	// left out: "- {address: 10.0.0.7, identity: spiffe://example.org/billing, weight: 2, zone: a, labels: {version: v2}, mesh: true, transport: quic}". The port is that of the sidecar there, 15008 if none is given; with
	// mesh: false it is the app's, and must be given. SRV and SVCB records have a port of their own, which one that is given here replaces; endpoints of a higher
	// priority are used when those of the lower cannot be reached.
	Endpoints Endpoints `yaml:"endpoints" required:"true"`
	// A local port of its own, for apps that only know host:port: an address and port, a port of 127.0.0.1, or unix:/path.
	Listen Listen `yaml:"listen" note:"no port of its own" none:"true" forms:"unix"`
	// Who may use listen where that is a socket.
	Socket Socket `yaml:"socket"`
	// Who may say before a connection's first byte, in a header of the PROXY protocol, for which client it is.
	ProxyProtocol ProxyHeader `yaml:"proxy_protocol"`
	// The port of the service asked for by what connects to listen, and by TLS on the outbound port; and the one that is open where its name leads in
	// outbound.dns. It is not for requests that come by HTTP proxy or Host: http://orders/ is answered by the first app entry there, http://orders:444/ by the one
	// with port 444. CONNECT and SOCKS ask for the port that they name, so that a tunnel to orders:80 needs an app entry with port 80 (else no_endpoints).
	Port uint16 `yaml:"port" note:"the first port that the service offers"`
	// What is spoken on listen. auto finds out without waiting, from the first bytes of either side; tcp is passed on byte for byte; udp is datagrams;
	// tcp+udp is both on one port, as for DNS.
	Protocol ServiceProtocol `yaml:"protocol" default:"auto" enum:"auto,http,tcp,udp,tcp+udp"`
	// Whether a sidecar is there. false calls the endpoints directly, without encryption and identity.
	Mesh bool `yaml:"mesh" default:"true"`
	// The time that a request may take, from its head to the head of its answer. Streams are never timed.
	Timeout time.Duration `yaml:"timeout" default:"none" min:"1ms" max:"24h" none:"true"`
	// The time that a connection to an endpoint may take, after which another is tried.
	ConnectTimeout time.Duration `yaml:"connect_timeout" default:"none" min:"1ms" max:"10s" none:"true"`
	// The time that an answer may pause, once it has begun. Streams may pause for ever.
	PauseTimeout time.Duration `yaml:"pause_timeout" default:"none" min:"10ms" max:"24h" none:"true"`
	// When a request is sent again.
	Retry Retry `yaml:"retry"`
	// When a second endpoint is asked.
	Hedge Hedge `yaml:"hedge"`
	// How many requests of this app may run at the service at a time, and how many connections may be open.
	Limits Concurrency `yaml:"limits"`
	// How many requests per time this app may send to it.
	Rate Rate `yaml:"rate"`
	// What is done on purpose to this app's requests.
	Faults Faults `yaml:"faults"`
	// Shares of the requests that go to other services.
	Split Split `yaml:"split"`
	// Copies of the requests that go to another service.
	Mirror Mirror `yaml:"mirror"`
	// To which of its endpoints a request goes. This and health are about the endpoints, of which all requests know together, so a route has neither: one whose requests are to be
	// balanced otherwise names another service with the same endpoints (routes: [{match: …, service: billing-by-session}]).
	Balance Balance `yaml:"balance"`
	// Which of its endpoints are passed over.
	Health Health `yaml:"health"`
	// What of its answers is kept. Short forms: true (mode: on), false (mode: off), auto.
	Cache Caching `yaml:"cache"`
	// Whom to expect there: a name in the trust domain, or a SPIFFE ID. Where it is written, an endpoint of which Consul or etcd says another is not called; where it
	// is not, what they say counts, so that whoever may write there also says whom to believe.
	Identity proxy.Identity `yaml:"identity" note:"spiffe://<trust domain>/<the service's own name>"`
	// What links to it run over, as peer.transport.
	Transport Transport `yaml:"transport" note:"that of peer" enum:"auto,quic,tcp"`
	// How long an unused link to an endpoint is kept. Services with the same identity may share links: the longest of theirs counts.
	Idle time.Duration `yaml:"idle" default:"5m" min:"1s" max:"24h" none:"true"`
	// With protocol udp: how long a client is remembered, on listen or with SOCKS, so that answers still find it, after its last datagram either way. One that has asked
	// DNS questions only on listen, and has its answers, is forgotten after two seconds.
	FlowIdle time.Duration `yaml:"flow_idle" default:"60s" min:"1s" max:"1h"`
	// How many of its endpoints this sidecar uses, at least. Each sidecar keeps to a part of its own, so that it does not hold a link to each of thousands; together they use all. The part grows
	// when, on average, more than two requests are under way to each endpoint in it, and while some of it cannot be reached; it counts for each priority, and for
	// each value of the label of balance.subset. A number as large as the service makes it the whole.
	Aperture int `yaml:"aperture" default:"12" min:"1" max:"1000000"`
	// What applies to some of its requests instead, by path, method, header or gRPC method. The first that fits is taken.
	Routes []Route `yaml:"routes" note:"none"`
}

// Identity says where this sidecar's certificate comes from. Files are read again when they change.
type Identity struct {
	// The trust domain: the host of every SPIFFE ID here.
	TrustDomain string `yaml:"trust_domain" note:"that of cert; with the development CA its own, pillion.local"`
	// The certificate chain, PEM. It holds one SPIFFE ID. Relative paths are relative to this file.
	Cert string `yaml:"cert" note:"issued by the development CA"`
	// The private key of cert, PEM.
	Key string `yaml:"key" note:"made by the development CA"`
	// The certificates of the authorities that peers must be signed by, PEM.
	Roots string `yaml:"roots" note:"the development CA"`
	// The folder of the development CA, used when cert is not given and created on first use. Share it between machines that are to reach each other, or
	// issue certificates with "pillion ca issue".
	DevCA string `yaml:"dev_ca" note:"$XDG_DATA_HOME/pillion/ca, else ~/.local/share/pillion/ca"`
}

// Admin is the listener for the operator. All that it can change is to read the configuration again.
type Admin struct {
	// Address and port. Any but a loopback address needs a token. none is no such listener.
	Listen Listen `yaml:"listen" default:"127.0.0.1:15000" none:"true"`
	// Whether who watches requests with "pillion tap" may see the beginnings of their contents too.
	TapBodies bool `yaml:"tap_bodies" default:"false"`
	// Whether /debug/pprof answers.
	Pprof bool `yaml:"pprof" default:"false"`
	// If given, clients must send "Authorization: Bearer <token>", except to /healthz and /readyz. At least 16 characters.
	Token string `yaml:"token" note:"no token"`
	// What clients on other machines must send in place of token to change something, such as "pillion reload". At least 16 characters.
	WriteToken string `yaml:"write_token" note:"only clients on this machine may"`
	// Whose sidecars may see what /status says, over their links, for "pillion status --all" and the dashboard there: names of services, SPIFFE IDs, and beginnings of
	// such before a star, as in spiffe://example.org/ops/*. "*" is every service of the trust domain.
	Share Patterns `yaml:"share" note:"nobody's"`
}

// Log says how pillion writes about itself.
type Log struct {
	// The least that is written.
	Level Level `yaml:"level" default:"info" enum:"debug,info,warn,error"`
	// text is for people, json for collectors.
	Format Format `yaml:"format" default:"text" enum:"text,json"`
}

// Reload says when a changed configuration is taken over. SIGHUP and "pillion reload" always do.
type Reload struct {
	// Whether to look at the file every second, and take it over when its content has changed: written in place, replaced, or swapped as Kubernetes does with
	// a ConfigMap. One with a mistake changes nothing; "pillion status" and the log say so.
	Watch bool `yaml:"watch" default:"true"`
}

// Limits are bounds on what one client may take.
type Limits struct {
	// The size of a request's or an answer's head: its first line and its fields.
	Head int64 `yaml:"head" default:"64KiB" min:"4KiB" max:"1MiB"`
	// The open connections of each listener; more wait.
	Connections int `yaml:"connections" default:"none" min:"1" max:"10000000" none:"true"`
	// The clients of each UDP port that are remembered at a time; for a further one, the one that has been idle for longest is forgotten.
	Flows int `yaml:"flows" default:"10000" min:"1" max:"1000000"`
}

// Words of a fixed set. Their values are as written in YAML.
type (
	// AppProtocol is what the local app speaks.
	AppProtocol string
	// ServiceProtocol is what is spoken on a service's own port.
	ServiceProtocol string
	// Streams says whether an app entry takes them.
	Streams string
	// ProxyProtocol is a version of the PROXY protocol.
	ProxyProtocol string
	// Others is what happens to names that are no service.
	Others string
	// Transport is what links run over; its values are those of proxy.Transport.
	Transport string
	// Level is the least severity that is logged; its values are those of slog.
	Level string
	// Format is the form of a log line.
	Format string
)

// The values of the words.
const (
	AppAuto AppProtocol = "auto"
	AppHTTP AppProtocol = "http"
	AppH2C  AppProtocol = "h2c"
	AppH3   AppProtocol = "h3"
	AppTCP  AppProtocol = "tcp"
	AppUDP  AppProtocol = "udp"
	AppBoth AppProtocol = "tcp+udp"

	StreamsAllow  Streams = "allow"
	StreamsRefuse Streams = "refuse"

	ProxyNone ProxyProtocol = "none"
	ProxyV1   ProxyProtocol = "v1"
	ProxyV2   ProxyProtocol = "v2"

	ServiceAuto ServiceProtocol = "auto"
	ServiceHTTP ServiceProtocol = "http"
	ServiceTCP  ServiceProtocol = "tcp"
	ServiceUDP  ServiceProtocol = "udp"
	ServiceBoth ServiceProtocol = "tcp+udp"

	AutoTransport Transport = "auto"
	OverQUIC      Transport = "quic"
	OverTCP       Transport = "tcp"

	Refuse Others = "refuse"
	Direct Others = "direct"

	Text Format = "text"
	JSON Format = "json"
)

// FileMode are permission bits.
type FileMode uint32

// Percent is a share of a hundred, written 20% or 0.5%.
type Percent float64

// Share returns p as a part of 1.
func (p Percent) Share() float64 { return float64(p) / 100 }

// Patterns are who may do something, by who they are. The zero value is nobody.
type Patterns []proxy.IdentityPattern

// Sources are who may do something, by where they connect from. The zero value is nobody.
type Sources struct {
	Nets []netip.Prefix
	Unix bool // clients of Unix sockets
}

// Target is where the local app listens. Exactly one field is set.
type Target struct {
	Addr netip.AddrPort
	Unix string // absolute path
}

// Listen is where a listener waits. The zero value is "none": there is no such listener.
type Listen struct {
	// Port is the TCP port; 0, with Unix empty, lets the system choose one (only if On).
	Port uint16
	// IP is the address; the zero Addr means every address of the machine, IPv4 and IPv6.
	IP netip.Addr
	// Unix is the absolute path of a socket, instead of IP and Port.
	Unix string
	// On is false for "none".
	On bool
}

// DNSKind is what a name that discovery resolves has.
type DNSKind string

// The kinds of names; their values are as written in YAML.
const (
	DNSHosts DNSKind = "dns"  // addresses
	DNSSRV   DNSKind = "srv"  // SRV records
	DNSSVCB  DNSKind = "svcb" // SVCB records
)

// Endpoints is where discovery finds the endpoints of a Service. Exactly one of Static, File, DNS, Kubernetes, Consul, Etcd and XDS is set.
type Endpoints struct {
	// Static is a fixed list.
	Static []Target
	// File is the absolute path of a list that is watched.
	File string
	// DNS is a name to be resolved, and Kind what it has; Port is the port of each address, 0 that of the records.
	DNS  string
	Kind DNSKind
	Port uint16
	// Kubernetes is a Service there.
	Kubernetes KubernetesService
	// Consul is a service there.
	Consul ConsulService
	// Etcd is the name of a service there.
	Etcd string
	// XDS is a cluster of the control plane.
	XDS string
}
