// Package admin is the listener for the operator: /healthz (the process answers), /readyz (it takes traffic), /status
// (what it is doing, as JSON), /reload, /cache and /cache/purge, and, where configured, /debug/pprof. All that it can change is to have the configuration read again, the level of the log (/log/level), and the cache
// forget.
//
// What Status says is gathered by the caller of New; this package defines its form and serves it. It runs on net/http
// and ordinary goroutines: it is no part of the data path.
//
// # Who may ask
//
// On a loopback address everybody on the machine may, save the pages of web browsers: a request that comes from another
// site, or whose Host is a name (DNS rebinding), is refused. On any other address New wants a token, which every request but those for
// /healthz and /readyz must carry as "Authorization: Bearer <token>".
//
// What changes something (a POST) needs the field Pillion-Action as well, which no page of another site can make a browser send, and comes from this
// machine, or with a token of its own, the write token.
package admin
