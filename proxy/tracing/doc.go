// Package tracing reads where a request stands in a distributed trace, decides whether it is recorded, and passes it on: W3C Trace Context
// (https://www.w3.org/TR/trace-context-2/) and B3 (https://github.com/openzipkin/b3-propagation).
package tracing
