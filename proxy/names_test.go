package proxy

import (
	"math/rand/v2"
	"strings"
	"testing"
)

func TestNamesOf(t *testing.T) {
	for name, want := range map[string]Names{
		"Pillion-Path": NamePath, "pillion-path": NamePath, "PILLION-TO": NameTo, "pillion-why": NameOwn, "Pillion-Attempt-Id": NameOwn, "Pillion-": 0, "Pillion_Path": 0,
		"grpc-timeout": NameDeadline, "X-Request-Timeout-Ms": NameDeadline, "x-envoy-expected-rq-timeout-ms": NameDeadline, "X-Envoy-Expected-Rq-Timeout-MS": NameDeadline,
		"Forwarded": NameClaim, "forwarded": NameClaim, "X-Forwarded-For": NameClaim, "x_forwarded-for": NameClaim, "X-PILLION_IDENTITY": NameClaim, "X-Forwarded_Client-Cert": NameClaim,
		"traceparent": NameTrace, "TraceState": NameTrace, "b3": NameTrace, "B3": NameTrace, "X-B3-TraceId": NameTrace, "x-b3-": 0,
		"Host": NameHost, "hOST": NameHost, "Content-Length": NameLength, "content-type": NameType,
		"": 0, "x": 0, "X-Forwarded-Host": 0, "Content-Language": 0, "Accept": 0, "Pillionaire": 0, "Hos\u212a": 0,
	} {
		if got := NamesOf(name); got != want {
			t.Errorf("%q: %b, want %b", name, got, want)
		}
	}
}

// TestLacks: of what nobody has looked through, nothing is known.
func TestLacks(t *testing.T) {
	var r Request
	if r.Lacks(NamePath) {
		t.Error("an unknown request lacks something")
	}
	if r.Gains(NamePath); r.Lacks(NameTo) {
		t.Error("a field was added, and nobody has looked at the others")
	}
	r.Names = NamesKnown | NamePath
	if r.Lacks(NamePath) || r.Lacks(NameTo|NamePath) || !r.Lacks(NameTo) || !r.Lacks(NameTo|NameTrace) {
		t.Errorf("%b", r.Names)
	}
	if r.Gains(NameTo); r.Lacks(NameTo) {
		t.Error("what was gained is lacking")
	}
}

// TestSameName compares with strings.EqualFold, which does the same for the characters of names.
func TestSameName(t *testing.T) {
	const letters = "aAbBzZ09-_^~`@[{!|"
	word := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = letters[rand.IntN(len(letters))]
		}
		return string(b)
	}
	for range 20_000 {
		a, b := word(rand.IntN(3)), word(rand.IntN(3))
		if got, want := SameName(a, b), strings.EqualFold(a, b); got != want {
			t.Errorf("%q and %q: %v", a, b, got)
		}
	}
	if SameName("k", "\u212a") || !SameName("X-Forwarded-For", "x-forwarded-FOR") {
		t.Error("letters are those of ASCII")
	}
}
