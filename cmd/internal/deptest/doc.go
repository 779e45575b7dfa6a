// Package deptest holds no code, only the tests that keep the map of rooms true: which room may import which, where a
// third-party module may enter, and that every package says once what it is.
package deptest
