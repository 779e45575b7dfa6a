// Package config turns pillion's YAML file, or flags alone, into one typed tree with every default filled in.
//
// The tree (Config) is what it says: values are parsed (netip.AddrPort, time.Duration, bytes, proxy.Identity), relative
// paths are joined to the file's folder, and who reads it never parses text. It is not changed after Load
// has returned it, so it may be shared.
//
// # Strictness
//
// Every mistake is reported, not the first only, as a Problem with line and column and what to write instead. An unknown
// key, a key written twice, a value of the wrong type, a second document are mistakes. Aliases and merge keys are understood,
// and bounded.
//
// # One source
//
// The Go types in this package are the reference: the keys, defaults and allowed values are their struct tags, the
// explanations their comments. schema.json and reference.txt are generated from them (go generate), and a test fails when they
// are stale. To add a key, add a field with a comment, run go generate, and read it in the room that needs it.
//
// The tags are: yaml, the key; default, what an absent key means, as text; note, that default in words when it depends on
// other keys; enum, the allowed words; min and max, the bounds; none, that the word "none" is allowed; required, that the key must be there;
// forms, which further forms an address may have: unix (a socket), any (a port alone means every address, not 127.0.0.1).
package config
