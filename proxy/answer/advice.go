package answer

import "github.com/pillion-proxy/pillion/proxy"

// Advice says in one sentence what to do about an answer that pillion made itself; "" for a code that is not known.
func Advice(c proxy.Code) string { return advice[c] }

var advice = map[proxy.Code]string{
	proxy.BadRequest:       "The client sent what cannot be passed on; the sentence says which part of it.",
	proxy.Denied:           "Add the caller to the app entry's allow list at the other side, or call as another service.",
	proxy.UnknownService:   "Add the name under services, correct the Host, or set outbound.others: direct.",
	proxy.HeadTooLarge:     "Send smaller headers, or raise limits.head on both sides.",
	proxy.NotPermitted:     "Only services that are configured can be reached here; add one, or set outbound.others: direct.",
	proxy.ConnectFailed:    "Check that the sidecar over there runs, that its peer port is reachable from here, and that discovery has its right address.",
	proxy.BadIdentity:      "Compare the identity that the endpoint shows with services.<name>.identity, and that both sides trust the same roots.",
	proxy.NoEndpoints:      "Look at the service in pillion status: its source may be empty, failing, or lack the port that was asked for.",
	proxy.Draining:         "The sidecar was told to stop; the caller should try another endpoint.",
	proxy.Refused:          "The peer has no room for more streams, or is going away; the request did not run and may be repeated.",
	proxy.PeerReset:        "The connection to the peer broke before the answer; see the peer's log at that time. The request may have run.",
	proxy.AppUnreachable:   "Start the app, or correct the address in app.to at the sidecar beside it.",
	proxy.AppClosed:        "The app closed the connection before it answered; see its own log. If it was an idle connection, lower app.idle.",
	proxy.AppBadAnswer:     "The app's answer breaks the rules of HTTP; the sentence says which. If it speaks another protocol, set app.protocol.",
	proxy.Timeout:          "See the attempts below for where the time went; raise services.<name>.timeout if that is what the service needs.",
	proxy.NotCached:        "The client asked for a stored answer only, and there is none that may be given.",
	proxy.Overloaded:       "More was asked at a time than limits allows; see the load in pillion status, add endpoints, or raise limits.requests.",
	proxy.RateLimited:      "The caller sends more than rate allows; Retry-After says when it may again.",
	proxy.AttemptForgotten: "An earlier attempt may have run; ask the app what became of it before the request is sent again.",
	proxy.Injected:         "The configuration of the calling sidecar asks for it: services.<name>.faults.",
	proxy.LoopDetected:     "The request came back to a sidecar that it had passed; check where the addresses of apps and services point.",
	proxy.Unsupported:      "The other side does not speak what the request asks for.",
	proxy.ClientGone:       "The client left before it had its answer; its own timeout may be shorter than the service needs.",
	proxy.Internal:         "This is a mistake of pillion's; please report it with this output.",
}
