// Package tlstest makes certificates for the tests of other rooms.
package tlstest

import (
	"context"
	"log/slog"
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/tls/devca"
	"github.com/pillion-proxy/pillion/tls/mtls"
)

// TrustDomain is that of every identity here.
const TrustDomain = "example.org"

// Identities returns a source of certificates per service name, all of one new authority. What they have to say goes to the test's output.
func Identities(t testing.TB) func(name string) *mtls.Source {
	t.Helper()
	ca, _, err := devca.OpenFor(t.TempDir(), TrustDomain)
	if err != nil {
		t.Fatal(err)
	}
	return func(name string) *mtls.Source {
		t.Helper()
		issue := func(context.Context) (mtls.Material, error) {
			cert, key, err := ca.Issue(proxy.NewIdentity(TrustDomain, name), devca.IssueOptions{})
			return mtls.Material{Cert: cert, Key: key, Roots: ca.Roots()}, err
		}
		s, err := mtls.NewIssued(t.Context(), issue, mtls.Config{TrustDomain: TrustDomain, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
}
