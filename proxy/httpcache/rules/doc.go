// Package rules decides, without doing anything: whether an answer may be stored (RFC 9111 section 3), how old and how fresh it is (4.2), whether it may be used
// for a request (4), which one of several is meant (4.1), what a cache answers to conditional (4.3.2) and range requests (RFC 9110 section 14), how a 304
// freshens (3.2), and what an unsafe request invalidates (4.4). It is pure: package httpcache keeps the answers and carries the decisions out.
//
// Times are nanoseconds since 1970, as Time; ages and lifetimes are time.Duration.
package rules
