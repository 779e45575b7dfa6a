package main

import (
	"crypto/tls"
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// TestCA: a CA is made once; what it issues loads, is of its trust domain, and is not overwritten.
func TestCA(t *testing.T) {
	dir := inFolder(t)
	var made, again caJSON
	decode(t, pillion(t, "ca", "init", "--dir", "authority", "--trust-domain", "shop.example", "-o", "json"), &made)
	decode(t, pillion(t, "ca", "init", "--dir", "authority", "-o", "json"), &again)
	if !made.Created || again.Created || made.Fingerprint != again.Fingerprint || made.TrustDomain != "shop.example" || made.Dir != dir+"/authority" {
		t.Errorf("made %+v, then %+v", made, again)
	}
	if r := pillion(t, "ca", "init", "--dir", "authority", "--trust-domain", "other.example"); r.code != 1 {
		t.Errorf("init for another trust domain = %+v, want exit code 1", r)
	}
	var shown caJSON
	decode(t, pillion(t, "ca", "show", "--dir", "authority", "-o", "json"), &shown)
	if shown != again {
		t.Errorf("show = %+v, want %+v", shown, again)
	}
	if r := pillion(t, "ca", "show", "--dir", "authority"); !strings.Contains(r.out, made.Fingerprint) {
		t.Errorf("show does not print the fingerprint: %+v", r)
	}

	var issued map[string]string
	decode(t, pillion(t, "ca", "issue", "orders", "--dir", "authority", "--out", "tls", "-o", "json"), &issued)
	if issued["identity"] != "spiffe://shop.example/orders" {
		t.Errorf("issued %v", issued)
	}
	if _, err := tls.LoadX509KeyPair(issued["cert"], issued["key"]); err != nil {
		t.Error(err)
	}
	if st, err := os.Stat(issued["key"]); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the key's mode is %v, %v; want 0600", st.Mode(), err)
	}
	before, _ := os.ReadFile(issued["key"])
	if r := pillion(t, "ca", "issue", "orders", "--dir", "authority", "--out", "tls"); r.code != 1 {
		t.Errorf("issue over a key = %+v, want exit code 1", r)
	}
	if after, _ := os.ReadFile(issued["key"]); string(after) != string(before) {
		t.Error("the key was replaced without --force")
	}
	r := pillion(t, "ca", "issue", "orders", "--dir", "authority", "--out", "tls", "--force", "--for", "48h")
	if r.code != 0 || !strings.Contains(r.out, "cert: tls/orders.crt") {
		t.Errorf("issue --force = %+v", r)
	}
	if r := pillion(t, "ca", "issue", "spiffe://other.example/orders", "--dir", "authority"); r.code != 1 {
		t.Errorf("issue for another trust domain = %+v, want exit code 1", r)
	}
	if r := pillion(t, "ca", "issue", "Orders", "--dir", "authority"); r.code != 2 {
		t.Errorf("issue for a bad name = %+v, want exit code 2", r)
	}

	// The files are what a configuration names; its trust domain is found in them.
	write(t, "pillion.yaml", "service: orders\nidentity: {cert: tls/orders.crt, key: tls/orders.key, roots: tls/roots.pem}\n")
	if r := pillion(t, "check", "--print-defaults"); r.code != 0 || !strings.Contains(r.out, "trust_domain: shop.example\n") {
		t.Errorf("check = %d %s", r.code, r.errors)
	}
	// And so it is in the folder of the CA.
	write(t, "pillion.yaml", "service: orders\nidentity: {dev_ca: authority}\n")
	if r := pillion(t, "check", "--print-defaults"); r.code != 0 || !strings.Contains(r.out, "trust_domain: shop.example\n") {
		t.Errorf("check = %d %s", r.code, r.errors)
	}
}

func decode(t *testing.T, r result, v any) {
	t.Helper()
	if r.code != 0 {
		t.Fatalf("exit code %d: %s", r.code, r.errors)
	}
	if err := json.Unmarshal([]byte(r.out), v); err != nil {
		t.Fatalf("%v in %s", err, r.out)
	}
}
