package admin

import "time"

// Status is what /status answers. It is a snapshot: slices are not changed after it was handed over.
type Status struct {
	Version string `json:"version"`
	PID     int    `json:"pid"`
	// Service is the name of the workload beside this sidecar.
	Service string    `json:"service"`
	State   State     `json:"state"`
	Started time.Time `json:"started"`
	// Uptime is in seconds.
	Uptime float64 `json:"uptime_seconds"`
	// NotReady says why /readyz answers 503, "" if it does not.
	NotReady string `json:"not_ready,omitempty"`
	// Config is the path of the configuration, "" for flags alone.
	Config string `json:"config,omitempty"`
	// Configuration is which one of it is in force; nil where that cannot change.
	Configuration *Configuration `json:"configuration,omitempty"`

	Identity  Identity   `json:"identity"`
	Listeners []Listener `json:"listeners"`
	Apps      []App      `json:"apps"`
	Services  []Service  `json:"services"`
	Links     []Link     `json:"links"`
	// Paths is what was learnt of the ways to peers, or only seen, where the configuration leaves no choice.
	Paths   []Path  `json:"paths,omitempty"`
	Runtime Runtime `json:"runtime"`
	// DNS is nil where the configuration has no DNS server.
	DNS *DNS `json:"dns,omitempty"`
	// Registration is nil where this sidecar is not registered.
	Registration *Registration `json:"registration,omitempty"`
	// Attempts is what is remembered of peers' requests that must run once; nil before the first.
	Attempts *Attempts `json:"attempts,omitempty"`
	// Drain is nil until the process was told to stop.
	Drain *Drain `json:"drain,omitempty"`
	// Cache is what is kept of answers; nil if nothing ever is.
	Cache *Cache `json:"cache,omitempty"`
}

// State is how far the life of the process has come.
type State string

// The states, in the order in which they follow each other. Draining may follow Starting.
const (
	Starting State = "starting" // listeners are bound; something is still missing, see Status.NotReady
	Ready    State = "ready"
	Draining State = "draining"
)

// Identity is who this sidecar is, by its certificate.
type Identity struct {
	ID          string    `json:"id"` // SPIFFE ID
	TrustDomain string    `json:"trust_domain"`
	Issuer      string    `json:"issuer,omitempty"`
	Fingerprint string    `json:"fingerprint,omitempty"` // of the certificate: SHA-256, hex
	NotBefore   time.Time `json:"not_before"`
	NotAfter    time.Time `json:"not_after"`
	// Source is where it comes from: a path, or the folder of the development CA.
	Source string `json:"source,omitempty"`
	// Warning is one sentence when the certificate has expired or soon will.
	Warning string `json:"warning,omitempty"`
	// Error says why the last reload or renewal failed.
	Error string `json:"error,omitempty"`
}

// Listener is one socket that waits for connections.
type Listener struct {
	// Name is the configuration's key: "peer", "outbound", "admin", or "services.billing".
	Name string `json:"name"`
	// Address is the real one, also where the configuration says port 0; "unix:/path" for a socket, "udp:IP:port" for datagrams.
	Address string `json:"address"`
	// Connections is how many are open; of datagrams, the Flows, and of outbound.http3 those of QUIC.
	Connections int `json:"connections"`
	// Retired is true after a reload without it: it takes nothing new, and what came before goes on.
	Retired bool `json:"retired,omitempty"`
}

// App is one port of the local app.
type App struct {
	Port     uint16 `json:"port"`     // that peers ask for
	To       string `json:"to"`       // address, or unix:/path
	Protocol string `json:"protocol"` // of the configuration
	// Speaks is what it was found to speak where protocol is auto: "http1", "h2c" or both; "" before a request.
	Speaks string   `json:"speaks,omitempty"`
	Allow  []string `json:"allow,omitempty"` // SPIFFE IDs; empty for every service of the trust domain
	// Idle is how many kept connections wait for the next request.
	Idle int `json:"idle_connections"`
	// Keep is for how long, in seconds: less than the app itself keeps them, as far as that was seen.
	Keep float64 `json:"keep_seconds,omitempty"`
	// Tried is whether a connection to it has been tried.
	Tried bool `json:"tried"`
	// Error is why the app could not be reached last, "" if it could.
	Error string `json:"error,omitempty"`
	// Load is how near it is to its bounds; nil if it has none.
	Load *Load `json:"load,omitempty"`
	// Flows counts what peers send there as datagrams; nil for an entry that takes none.
	Flows *Flows `json:"flows,omitempty"`
}

// Flows counts datagrams, and the Flows that they belong to.
type Flows struct {
	Open  uint64 `json:"open"`
	Total uint64 `json:"total"`
	// Evicted is how many ended to make room for others.
	Evicted uint64 `json:"evicted"`
	// In is how many datagrams came for the app that serves, Out how many came back from it.
	In  uint64 `json:"datagrams_in"`
	Out uint64 `json:"datagrams_out"`
	// Dropped is how many of both were lost here, by reason: no_room, socket, overflow, too_long, refused, unopened, foreign.
	Dropped map[string]uint64 `json:"dropped,omitempty"`
}

// Service is one logical destination.
type Service struct {
	Name string `json:"name"`
	// Source is where its endpoints come from: "static", "file:/path", "dns:name:port", "consul:name" and so on, as it is configured.
	Source string `json:"source"`
	// Listen is its own local address, "" if it has none.
	Listen string `json:"listen,omitempty"`
	// DNS is the address and port to which its name leads in the app's DNS, "" if there is none.
	DNS  string `json:"dns,omitempty"`
	Mesh bool   `json:"mesh"`
	// Protocol is what the configuration says of its own port.
	Protocol string `json:"protocol"`
	// Speaks is what was found out on its own port where protocol is auto: "http1", "http2", "tls", "server-first" or "other"; "" before.
	Speaks string `json:"speaks,omitempty"`
	// Age is how long ago the endpoints last changed, in seconds; -1 if discovery has never answered.
	Age float64 `json:"age_seconds"`
	// Stale is since when discovery fails, in seconds ago; 0 if it does not.
	Stale float64 `json:"stale_seconds,omitempty"`
	// Error says why discovery fails now, "" if it does not. The endpoints are then the last good answer.
	Error string `json:"error,omitempty"`
	// Flaw says what is wrong with a part of the source, "" if nothing is. The rest is followed.
	Flaw      string     `json:"flaw,omitempty"`
	Endpoints []Endpoint `json:"endpoints"`
	// Balance counts what was decided for its requests.
	Balance *Balance `json:"balance,omitempty"`
	// Mirror counts copies of its requests; nil if there are none.
	Mirror *Mirror `json:"mirror,omitempty"`
	// Retries counts requests that were sent again, and those that were not; nil where nothing ever is.
	Retries *Retries `json:"retries,omitempty"`
	// Hedges counts requests that were sent to a second endpoint as well; nil where the configuration asks for none. Load and Faults are nil there too.
	Hedges *Hedges `json:"hedges,omitempty"`
	Load   *Load   `json:"load,omitempty"`
	Faults *Faults `json:"faults,omitempty"`
	// RouteLoads are those of the routes that have bounds of their own.
	RouteLoads []Load `json:"route_loads,omitempty"`
	// Flows counts the app's datagrams, on Listen and of SOCKS; nil if there is no port for them and none has come.
	Flows *Flows `json:"flows,omitempty"`
}

// Attempts counts the requests of peers that must run once.
type Attempts struct {
	// Known is how many are remembered, Bytes the size of their answers.
	Known int `json:"known"`
	Bytes int `json:"bytes"`
	// Repeated is how many attempts got the answer of an earlier one, Forgotten how many were refused because that was not known.
	Repeated  uint64 `json:"repeated"`
	Forgotten uint64 `json:"forgotten"`
}

// Hedges counts second attempts, how many of them answered first, and how many there were not for want of budget.
type Hedges struct {
	Total      uint64 `json:"total"`
	Won        uint64 `json:"won"`
	OverBudget uint64 `json:"over_budget"`
}

// Load is how near a service or an app is to its bounds.
type Load struct {
	// Running and Waiting are requests now, Limit how many may run now; 0 if nothing bounds that.
	Running int `json:"running"`
	Waiting int `json:"waiting"`
	Limit   int `json:"limit"`
	// Shed is how many were refused because too many ran, RateLimited how many because too many came.
	Shed        uint64 `json:"shed"`
	RateLimited uint64 `json:"rate_limited"`
	// Connections are open now, of at most ConnectionLimit; 0 if nothing bounds them. ConnectionsWaiting is how many requests wait for one, ConnectionsRefused how many
	// were refused because none became free.
	Connections        int    `json:"connections,omitempty"`
	ConnectionLimit    int    `json:"connection_limit,omitempty"`
	ConnectionsWaiting int    `json:"connections_waiting,omitempty"`
	ConnectionsRefused uint64 `json:"connections_refused,omitempty"`
	// Route is the number of the service's route that it is of; 0 for the service's own.
	Route int `json:"route,omitempty"`
}

// Faults counts what was done on purpose.
type Faults struct {
	Delayed   uint64 `json:"delayed"`
	Aborted   uint64 `json:"aborted"`
	Throttled uint64 `json:"throttled"`
}

// Retries counts what became of a service's requests that failed.
type Retries struct {
	// Total is how many attempts there were beyond the first ones, Recovered how many requests succeeded by one.
	Total     uint64 `json:"total"`
	Recovered uint64 `json:"recovered"`
	// Exhausted is how many requests failed with all their attempts, OverBudget how many were not repeated for want of budget, Outgrown how many because
	// their body was larger than what is kept.
	Exhausted  uint64 `json:"exhausted"`
	OverBudget uint64 `json:"over_budget"`
	Outgrown   uint64 `json:"body_outgrown"`
	// Budget is how many more retries the budget has room for now, BudgetUsed the part of it that is used up, 0 to 1.
	Budget     float64 `json:"budget"`
	BudgetUsed float64 `json:"budget_used"`
}

// Endpoint is one address that serves a Service.
type Endpoint struct {
	Address  string `json:"address"`            // IP:port, or unix:/path
	Identity string `json:"identity,omitempty"` // expected there; "" without a sidecar
	Mesh     bool   `json:"mesh"`
	// Priority orders sets of endpoints: those of a lower one are used while any of them can be reached. Weight is relative within it; 0 means 1.
	Priority int `json:"priority,omitempty"`
	Weight   int `json:"weight,omitempty"`
	// Zone is where it runs, Labels what else discovery says of it, as in "stage=canary,version=v2"; "" if that is nothing.
	Zone   string `json:"zone,omitempty"`
	Labels string `json:"labels,omitempty"`
	// InUse is whether requests are balanced over it. The others are spare: of many endpoints each sidecar uses a part, see the key aperture.
	InUse bool `json:"in_use"`
	// Tried is whether a connection to it has been tried.
	Tried bool `json:"tried"`
	// Healthy is whether requests go there.
	Healthy bool `json:"healthy"`
	// Out says for what it is passed over, "" if it is not; Again in how many seconds it is tried again, 0 if nobody knows.
	Out   Out     `json:"out,omitempty"`
	Again float64 `json:"again_seconds,omitempty"`
	// Error is why it is not healthy.
	Error string `json:"error,omitempty"`
	// Pending and Streams are the requests in flight and the open streams.
	Pending int `json:"pending"`
	Streams int `json:"streams"`
	// Latency is what it takes to the head of an answer, by the balancer's average of peaks; 0 if nobody knows. Failing is the share of failures lately, 0 to 1.
	Latency float64 `json:"latency_seconds"`
	Failing float64 `json:"failing"`
	// Ejections is how often it was ejected lately.
	Ejections int `json:"ejections,omitempty"`
}

// Mirror counts copies of a Service's requests.
type Mirror struct {
	// Sent were copied; of these Answered with less than 500, and Failed otherwise.
	Sent     uint64 `json:"sent"`
	Answered uint64 `json:"answered"`
	Failed   uint64 `json:"failed"`
	// Not copied, because too many copies were under way, the content was too large, or it never came to its end.
	Crowded uint64 `json:"crowded"`
	Large   uint64 `json:"too_large"`
	Cut     uint64 `json:"cut"`
}

// Out is a reason to pass an Endpoint over.
type Out string

// The reasons.
const (
	Lost    Out = "lost"    // no connection can be made
	Ejected Out = "ejected" // it answers badly
	Sick    Out = "sick"    // active checks fail
)

// Balance counts what was decided for a Service.
type Balance struct {
	// Picks of an endpoint, and what was met on the way: draws of one that is out or starts slowly, looks at all of them, picks while most are
	// ejected or sick, picks of one that is out because there is no other, picks outside the own zone, keys that could not go where they belong.
	Picks   uint64 `json:"picks"`
	Redraws uint64 `json:"redraws"`
	Scans   uint64 `json:"scans"`
	Panics  uint64 `json:"panics"`
	Last    uint64 `json:"last_resorts"`
	Far     uint64 `json:"far"`
	Moved   uint64 `json:"moved_keys"`
	// Turned counts streams that were ended for their age.
	Turned uint64 `json:"turned_streams"`
	// Lost counts connections that could not be made, Ejected endpoints that were ejected and Spared those that were not because too many were; Checks the active ones.
	Lost         uint64 `json:"lost"`
	Ejected      uint64 `json:"ejected"`
	Spared       uint64 `json:"spared"`
	Checks       uint64 `json:"checks"`
	FailedChecks uint64 `json:"failed_checks"`
}

// Link is one multiplexed connection to a peer.
type Link struct {
	Direction Direction `json:"direction"`
	// Peer is its address; of an inbound link with the port that it called from.
	Peer string `json:"peer"`
	// Identity is who the peer proved to be.
	Identity string `json:"identity"`
	// Transport is "tcp" or "quic".
	Transport string `json:"transport"`
	// Pillion is true if the peer is a pillion, false for any other HTTP/2 or HTTP/3 peer.
	Pillion bool `json:"pillion"`
	// Streams is how many are open; Total how many there have been.
	Streams int    `json:"streams"`
	Total   uint64 `json:"streams_total"`
	// RTT is the round trip time in seconds, as last measured; 0 if it was not.
	RTT      float64 `json:"rtt_seconds"`
	BytesIn  uint64  `json:"bytes_in"`
	BytesOut uint64  `json:"bytes_out"`
	// Age is how long it has been open, in seconds.
	Age float64 `json:"age_seconds"`
	// Draining is true once either side has said that it takes no more streams.
	Draining bool `json:"draining,omitempty"`
	// Lost is the number of packets that were sent and got lost; over TCP, of segments that were sent again.
	Lost uint64 `json:"packets_lost,omitempty"`
	// Window is the congestion window in bytes, MTU the size of a packet with its IP header; 0 if nobody knows.
	Window uint64 `json:"congestion_window,omitempty"`
	MTU    int    `json:"mtu,omitempty"`
	// Stalls are waits of what was to be sent: for the peer to open a window, or for the network; where there were any.
	Stalls *Stalls `json:"stalls,omitempty"`
	// Suspect is true while the path does not answer: requests go elsewhere.
	Suspect bool `json:"suspect,omitempty"`
	// Moves is how often the link went on over another path or transport.
	Moves int `json:"moves,omitempty"`
}

// Stalls are how often something that was to be sent had to wait, and for how long in all, in seconds, of what has ended.
type Stalls struct {
	Stream        uint64  `json:"stream_window"` // for the window of its stream
	StreamSeconds float64 `json:"stream_window_seconds"`
	Conn          uint64  `json:"link_window"` // for the window of the whole link
	ConnSeconds   float64 `json:"link_window_seconds"`
	Line          uint64  `json:"head_of_line"` // all streams, behind bytes that the network has not taken
	LineSeconds   float64 `json:"head_of_line_seconds"`
	QUIC          uint64  `json:"quic"` // for any of them, or another packet's acknowledgement: QUIC does not tell. Waits of a millisecond and more
	QUICSeconds   float64 `json:"quic_seconds"`
}

// Path is a peer, as reached over one network.
type Path struct {
	Peer string `json:"peer"`
	// Network is the address of this machine that packets to the peer come from.
	Network string `json:"network"`
	Ways    []Way  `json:"ways"`
}

// Way is one transport of a Path.
type Way struct {
	// Transport is "tcp" or "quic".
	Transport string `json:"transport"`
	// State is "works", "fails", or "unknown": never tried.
	State string `json:"state"`
	// Age is how long ago it last worked, or began to fail, in seconds.
	Age float64 `json:"age_seconds,omitempty"`
	// Error is why it fails, and Again the time until it is tried again, in seconds; 0 means whenever it is wanted.
	Error string  `json:"error,omitempty"`
	Again float64 `json:"again_seconds,omitempty"`
}

// Direction says who opened a Link.
type Direction string

// The directions.
const (
	Outbound Direction = "outbound" // we did
	Inbound  Direction = "inbound"  // the peer did
)

// Runtime is what the process holds.
type Runtime struct {
	Shards     int    `json:"shards"`
	Tasks      int    `json:"tasks"`
	Conns      int    `json:"connections"`
	Idle       int    `json:"idle_connections"`
	Buffers    int    `json:"buffers"`
	Panics     uint64 `json:"panics"`
	Stalls     uint64 `json:"stalls"`
	Shed       uint64 `json:"shed"`
	Goroutines int    `json:"goroutines"`
	// Busy is the part of its time that the busiest loop works, 0 to 1; LongestTurn the longest that one ever was without looking for events.
	Busy        float64 `json:"loop_busy"`
	LongestTurn float64 `json:"longest_turn_seconds"`
	// Heap is the live heap in bytes.
	Heap uint64 `json:"heap_bytes"`
}

// DNS is the app's DNS server.
type DNS struct {
	Address string `json:"address"`
	// Suffix is the domain below which services have a name as well, "" for none; Range where their addresses are from.
	Suffix string `json:"suffix,omitempty"`
	Range  string `json:"range"`
	// Servers are those that other names are passed on to.
	Servers []string `json:"servers"`
	// Own counts questions answered here, Forwarded those passed on, and Failed those of them that nobody answered.
	Own       uint64 `json:"own"`
	Forwarded uint64 `json:"forwarded"`
	Failed    uint64 `json:"failed"`
}

// Drain is how far a stop has come.
type Drain struct {
	// Step says in a few words what is awaited now, such as "inbound exchanges".
	Step string `json:"step"`
	// Left is the time until what still runs is cut, in seconds.
	Left float64 `json:"left_seconds"`
}
