// Package flight is the flight recorder: it keeps, bounded, the whole story of each request that failed, was slow, or whose story was asked for,
// as "pillion why" tells it. It is a Sink of package observe. Failures push out the oldest failures only, slow requests the oldest slow ones.
package flight
