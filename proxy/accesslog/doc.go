// Package accesslog writes a line for each Exchange, Stream and Flow that has ended, as a Sink of package observe. Lines are made on the request's shard
// and written by one goroutine of their own: a slow disk or pipe loses lines, which are counted, and never delays a request.
//
// What may be secret is not written: no fields but those listed here, no query unless asked for, and then not the values of names that
// look like secrets.
package accesslog
