package config

import (
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/routing"
)

// Route is what applies to some of a service's requests, in place of the service's own settings. What is not here is the service's.
//
// A key that Service has too, with the same name and the same Go type, is inherited: where a route leaves it out it has the service's value, also for
// single keys of a mapping ("retry: {attempts: 5}" keeps the service's retry.budget). So whoever adds a key to Service that may differ between routes
// adds it to Route as well, without the tags default and required and with note:"that of the service", and reads Service.Routes[n-1] for Request.Rule n.
type Route struct {
	// Which requests it is for: one set of conditions, or a list of them, of which one must hold. Left out, it is for every request. Of a service's routes the
	// first that fits applies, in the order of this list; to a request that none fits, and to Streams and datagrams, apply the service's own settings. A route that no
	// request can reach because one before it fits them all is a mistake.
	Match []Match `yaml:"match" note:"every request"`
	// The service that its requests go to instead, as in billing-canary or billing:9001. The settings are those of this route all the same; where the other service is, its
	// identity, and whether a sidecar is there are the other's.
	Service RouteTo `yaml:"service" note:"the service itself"`
	// What its requests are changed into.
	Rewrite Rewrite `yaml:"rewrite"`
	// An answer that sends the client elsewhere. The request goes nowhere.
	Redirect Redirect `yaml:"redirect"`
	// Changes to the headers of its requests.
	RequestHeaders HeaderEdits `yaml:"request_headers"`
	// Changes to the headers of the answers.
	ResponseHeaders HeaderEdits `yaml:"response_headers"`
	// The time that a request may take, from its head to the head of its answer.
	Timeout time.Duration `yaml:"timeout" note:"that of the service" min:"1ms" max:"24h" none:"true"`
	// When its requests are sent again.
	Retry Retry `yaml:"retry"`
	// When a second endpoint is asked.
	Hedge Hedge `yaml:"hedge"`
	// How many of its requests may run at a time. Where this says anything else than the service's limits do, its requests are counted apart from the others.
	Limits Concurrency `yaml:"limits"`
	// How many of its requests per time this app may send, counted apart from the service's.
	Rate Rate `yaml:"rate"`
	// What is done on purpose to its requests.
	Faults Faults `yaml:"faults"`
	// Shares of the requests that go to other services.
	Split Split `yaml:"split"`
	// Copies of the requests that go to another service.
	Mirror Mirror `yaml:"mirror"`
	// What of the answers to its requests is kept.
	Cache Caching `yaml:"cache"`
}

// Match is a set of conditions, all of which must hold.
type Match struct {
	// The path, without its query: "/users" is exactly this one, "/users/*" is /users and all below it, "/users/{id}" has any one segment at {id}.
	// It is compared byte for byte as it was sent.
	Path routing.Path `yaml:"path" note:"any"`
	// The method, or a list of them.
	Method Methods `yaml:"method" note:"any"`
	// Headers, by name: "blue" is this value, "blue*" any that begins so, "*" any at all. Of several lines with one name one must fit.
	Headers HeaderMatches `yaml:"headers" note:"any"`
	// A method of gRPC, as in shop.Billing/Charge; a whole service, as in shop.Billing; or "*" for every call. It stands in place of path and method.
	GRPC routing.GRPC `yaml:"grpc" note:"any request"`
}

// Rewrite is what a request is changed into before it is sent.
type Rewrite struct {
	// The path: /v2/users/{id}/* takes what the path of match, which must have them, has at {id} and from its *. The query stays.
	Path routing.Path `yaml:"path" note:"unchanged"`
	// The host, with its port if it needs one: the Host header, or :authority.
	Host string `yaml:"host" note:"unchanged"`
}

// Redirect is an answer that names another place.
type Redirect struct {
	// http or https.
	Scheme string `yaml:"scheme" note:"that of the request" enum:"http,https"`
	// The host.
	Host string `yaml:"host" note:"that of the request"`
	// The port.
	Port uint16 `yaml:"port" note:"that of the request; none with scheme or host"`
	// The path, as in rewrite.
	Path routing.Path `yaml:"path" note:"that of the request"`
	// 301, 302, 303, 307 or 308.
	Status int `yaml:"status" default:"302" min:"301" max:"308"`
}

// HeaderEdits are changes to the headers of a message: first remove, then set, then add.
type HeaderEdits struct {
	// Headers, by name, that take the place of what the message has under these names.
	Set HeaderValues `yaml:"set" note:"none"`
	// Headers, by name, that come in addition to what the message has.
	Add HeaderValues `yaml:"add" note:"none"`
	// The names of headers that are taken out.
	Remove HeaderNames `yaml:"remove" note:"none"`
}

// Lists that are written in a form of their own.
type (
	// Methods are written as one word, or a list.
	Methods []string
	// HeaderMatches are written as a mapping from names to forms.
	HeaderMatches []routing.Header
	// HeaderValues are written as a mapping from names to values.
	HeaderValues []proxy.Field
	// LabelValues are written as a mapping from names to values.
	LabelValues []proxy.Field
	// HeaderNames are written as one word, or a list.
	HeaderNames []string
)

// RouteTo is a service, written as name or name:port. The zero value is none.
type RouteTo proxy.Service

// On reports whether there is a redirect at all.
func (r Redirect) On() bool {
	return r.Scheme != "" || r.Host != "" || r.Port != 0 || r.Path.String() != ""
}

// String is the value as it is written in YAML.
func (r RouteTo) String() string { return proxy.Service(r).String() }
