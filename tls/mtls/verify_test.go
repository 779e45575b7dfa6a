package mtls

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"testing"
	"time"
)

// handshake connects the two and returns the error of each side. The client reads one byte
// after its handshake, for only then does it learn what the server thinks of its certificate.
func handshake(t *testing.T, client, server *tls.Config) (c, s *tls.Conn, clientErr, serverErr error) {
	t.Helper()
	a, b := connection(t)
	deadline := time.Now().Add(10 * time.Second)
	a.SetDeadline(deadline)
	b.SetDeadline(deadline)
	c, s = tls.Client(a, client), tls.Server(b, server)
	done := make(chan error, 1)
	go func() {
		err := s.Handshake()
		if err == nil {
			_, err = s.Write([]byte("!"))
		}
		done <- err
	}()
	clientErr = c.Handshake()
	if clientErr == nil {
		_, clientErr = c.Read(make([]byte, 1))
	}
	return c, s, clientErr, <-done
}

// connection returns both ends of one over loopback. (A net.Pipe would not do: its writes wait for the other side's
// reads, and here both sides may write at once.)
func connection(t *testing.T) (a, b net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if a, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func TestLink(t *testing.T) {
	ca := newAuthority(t)
	web, orders := source(t, ca.issue(webID, nil)), source(t, ca.issue(ordersID, nil))
	c, s, clientErr, serverErr := handshake(t, web.ClientConfig(ordersID), orders.ServerConfig())
	if clientErr != nil || serverErr != nil {
		t.Fatalf("handshake: client %v, server %v", clientErr, serverErr)
	}
	if id, err := orders.Identity(s.ConnectionState()); err != nil || id != webID {
		t.Errorf("the server sees %q, %v; want %q", id, err, webID)
	}
	cs := c.ConnectionState()
	if id, err := web.Identity(cs); err != nil || id != ordersID {
		t.Errorf("the client sees %q, %v; want %q", id, err, ordersID)
	}
	if cs.Version != tls.VersionTLS13 || cs.NegotiatedProtocol != "h2" || cs.DidResume {
		t.Errorf("version %x, protocol %q, resumed %v; want TLS 1.3, h2, not resumed", cs.Version, cs.NegotiatedProtocol, cs.DidResume)
	}
	if got := s.ConnectionState().ServerName; got != "" {
		t.Errorf("the client sent the server name %q, want none", got)
	}
	if cs.CurveID != tls.X25519MLKEM768 {
		t.Errorf("key exchange %v, want the hybrid X25519MLKEM768", cs.CurveID)
	}
}

func TestIntermediates(t *testing.T) {
	root := newAuthority(t)
	middle := root.intermediate(nil)
	p := middle.issue(webID, nil)
	p.Cert, p.Roots = append(p.Cert, encode(middle.cert)...), encode(root.cert)
	orders := source(t, root.issue(ordersID, nil))
	_, _, clientErr, serverErr := handshake(t, source(t, p).ClientConfig(ordersID), orders.ServerConfig())
	if clientErr != nil || serverErr != nil {
		t.Errorf("handshake through an intermediate: client %v, server %v", clientErr, serverErr)
	}
}

func TestTLS12Refused(t *testing.T) {
	ca := newAuthority(t)
	web, orders := source(t, ca.issue(webID, nil)), source(t, ca.issue(ordersID, nil))
	old := web.ClientConfig(ordersID)
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	if _, _, clientErr, serverErr := handshake(t, old, orders.ServerConfig()); clientErr == nil || serverErr == nil {
		t.Errorf("TLS 1.2: client %v, server %v; want both to fail", clientErr, serverErr)
	}
}

// badCertificates are shown by a peer that goes by another's rules; each must be refused by client and server.
func badCertificates(t *testing.T, ca *authority, id string) map[string]struct {
	cert tls.Certificate
	want Reason
	text string
} {
	pair := func(p Material) tls.Certificate {
		c, err := tls.X509KeyPair(p.Cert, p.Key)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	change := func(f func(*x509.Certificate)) tls.Certificate { return pair(ca.issue(id, f)) }
	selfSigned := func() tls.Certificate {
		key := newKey(t)
		template := leafFor(t, id, nil)
		der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	}
	late := ca.intermediate(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) })
	pairLate := pair(late.issue(id, nil))
	pairLate.Certificate = append(pairLate.Certificate, late.cert.Raw)
	type bad = struct {
		cert tls.Certificate
		want Reason
		text string
	}
	return map[string]bad{
		"none":           {tls.Certificate{}, Missing, "showed no certificate"},
		"expired":        {change(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) }), Expired, "it expired at"},
		"expired issuer": {pairLate, Expired, `its issuer "CN=test intermediate" expired`},
		"not yet valid":  {change(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }), NotYetValid, "compare the clocks"},
		"foreign domain": {change(func(c *x509.Certificate) { c.URIs = uris(t, "spiffe://example.com/web") }), ForeignTrustDomain, `"example.com" is not ours, "example.org"`},
		"two names":      {change(func(c *x509.Certificate) { c.URIs = uris(t, id, "spiffe://example.org/other") }), DoublyNamed, "2 URI SANs"},
		"name and a URL": {change(func(c *x509.Certificate) { c.URIs = uris(t, "https://example.org/", id) }), DoublyNamed, "2 URI SANs"},
		"no name":        {change(func(c *x509.Certificate) { c.URIs = nil; c.DNSNames = []string{"example.org"} }), NoIdentity, "no URI SAN"},
		"other scheme":   {change(func(c *x509.Certificate) { c.URIs = uris(t, "https://example.org/web") }), Malformed, "not a SPIFFE ID"},
		"no path":        {change(func(c *x509.Certificate) { c.URIs = uris(t, "spiffe://example.org") }), Malformed, "it has no path"},
		"other CA":       {pair(newAuthority(t).issue(id, nil)), Untrusted, "leads to none of our roots; both sides need certificates of one CA"},
		"self-signed":    {selfSigned(), SelfSigned, "signed by itself"},
		"CA":             {change(func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }), CALeaf, "may sign other certificates"},
		"CA by usage":    {change(func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }), CALeaf, "may sign other certificates"},
		"key usage":      {change(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }), WrongUsage, "digital signatures"},
		"code signing":   {change(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning} }), WrongUsage, "extended key usage"},
	}
}

func TestServerRefuses(t *testing.T) {
	ca := newAuthority(t)
	orders := source(t, ca.issue(ordersID, nil))
	web := source(t, ca.issue(webID, nil))
	for name, c := range badCertificates(t, ca, webID) {
		t.Run(name, func(t *testing.T) {
			conf := web.ClientConfig(ordersID)
			conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &c.cert, nil }
			_, _, clientErr, serverErr := handshake(t, conf, orders.ServerConfig())
			wantReason(t, serverErr, c.want, c.text)
			wantExplained(t, web, clientErr)
		})
	}
}

func TestClientRefuses(t *testing.T) {
	ca := newAuthority(t)
	orders := source(t, ca.issue(ordersID, nil))
	web := source(t, ca.issue(webID, nil))
	bad := badCertificates(t, ca, ordersID)
	delete(bad, "none") // a TLS server cannot go without
	other := ca.issue("spiffe://example.org/billing", nil)
	pair, err := tls.X509KeyPair(other.Cert, other.Key)
	if err != nil {
		t.Fatal(err)
	}
	wrong := bad["expired"]
	wrong.cert, wrong.want, wrong.text = pair, WrongIdentity, `expected "spiffe://example.org/orders" at this address`
	bad["another of the mesh"] = wrong
	for name, c := range bad {
		t.Run(name, func(t *testing.T) {
			conf := orders.ServerConfig()
			conf.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &c.cert, nil }
			_, _, clientErr, serverErr := handshake(t, web.ClientConfig(ordersID), conf)
			wantReason(t, clientErr, c.want, c.text)
			wantExplained(t, orders, serverErr)
		})
	}
}

func TestUsageOfEachSide(t *testing.T) {
	ca := newAuthority(t)
	m := source(t, ca.issue(webID, nil)).current.Load()
	only := func(usage x509.ExtKeyUsage) []*x509.Certificate {
		chain, err := certificates(ca.issue(webID, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{usage} }).Cert)
		if err != nil {
			t.Fatal(err)
		}
		return chain
	}
	for _, c := range []struct {
		has, as x509.ExtKeyUsage
		want    string
	}{
		{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageClientAuth, ""},
		{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageServerAuth, ""},
		{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth, "TLS server authentication"},
		{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth, "TLS client authentication"},
	} {
		_, bad := m.verify(only(c.has), c.as, time.Now())
		if (bad == nil) != (c.want == "") || bad != nil && !strings.Contains(bad.Detail, c.want) {
			t.Errorf("usage %v shown for %v: %v; want %q", c.has, c.as, bad, c.want)
		}
	}
}

func TestNobodyIsExpected(t *testing.T) {
	ca := newAuthority(t)
	web, orders := source(t, ca.issue(webID, nil)), source(t, ca.issue(ordersID, nil))
	_, _, clientErr, _ := handshake(t, web.ClientConfig(""), orders.ServerConfig())
	wantReason(t, clientErr, WrongIdentity, `expected ""`)
}

func TestExplainOurOwnFault(t *testing.T) {
	ca := newAuthority(t)
	late := func() time.Time { return time.Now().Add(2 * time.Hour) }
	orders, err := NewFromMemory(ca.issue(ordersID, func(c *x509.Certificate) { c.NotAfter = late().Add(time.Hour) }), Config{Now: late})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now
	web, err := NewFromMemory(ca.issue(webID, nil), Config{Now: func() time.Time { return now() }})
	if err != nil {
		t.Fatal(err)
	}
	_, _, clientErr, serverErr := handshake(t, web.ClientConfig(ordersID), orders.ServerConfig())
	wantReason(t, serverErr, Expired, "it expired at")
	now = late
	if got := web.Explain(clientErr).Error(); !strings.Contains(got, webID) || !strings.Contains(got, "it expired at") {
		t.Errorf("Explain = %q; want it to see that our certificate has expired", got)
	}
	if other := errors.New("connection refused"); web.Explain(other) != other {
		t.Error("Explain changed an error that is no alert")
	}
	if web.Explain(nil) != nil {
		t.Error("Explain of nil is not nil")
	}
}

func TestIdentityOfNobody(t *testing.T) {
	web := source(t, newAuthority(t).issue(webID, nil))
	if id, err := web.Identity(tls.ConnectionState{HandshakeComplete: true}); err == nil || id != "" {
		t.Errorf("Identity without a certificate = %q, %v; want an error", id, err)
	}
}

func wantReason(t *testing.T, err error, want Reason, text string) {
	t.Helper()
	var got *CertificateError
	if !errors.As(err, &got) || got.Reason != want || !strings.Contains(err.Error(), text) {
		t.Errorf("refusing side: %v; want reason %s and %q", err, want, text)
	}
	if err != nil && strings.Contains(err.Error(), "\n") {
		t.Errorf("%q is more than one line", err)
	}
}

// wantExplained checks that the refused side sees that it is its certificate that was refused.
func wantExplained(t *testing.T, s *Source, err error) {
	t.Helper()
	var got *RefusedError
	if err = s.Explain(err); !errors.As(err, &got) || got.Identity != s.Self() {
		t.Errorf("refused side: %v; want a RefusedError of %s", err, s.Self())
	}
}
