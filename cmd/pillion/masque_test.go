package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	qhttp3 "github.com/quic-go/quic-go/http3"

	"github.com/pillion-proxy/pillion/tls/devca"
)

// masque opens a request stream for UDP at a sidecar's peer port, as any MASQUE client does: quic-go's HTTP/3, with a certificate of the mesh.
func masque(t *testing.T, ca *devca.CA, peer, path string) (*qhttp3.RequestStream, *http.Response) {
	t.Helper()
	cert, key, err := ca.Issue("spiffe://pillion.local/stranger", devca.IssueOptions{})
	if err != nil {
		t.Fatal(err)
	}
	own, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.Roots())
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	conn, err := quic.DialAddr(ctx, peer, &tls.Config{
		Certificates: []tls.Certificate{own}, NextProtos: []string{"h3"}, MinVersion: tls.VersionTLS13,
		InsecureSkipVerify: true, // a SPIFFE ID is no host name
	}, &quic.Config{EnableDatagrams: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.CloseWithError(0, "") })
	transport := &qhttp3.Transport{EnableDatagrams: true}
	t.Cleanup(func() { _ = transport.Close() })
	client := transport.NewClientConn(conn)
	select {
	case <-client.ReceivedSettings():
	case <-ctx.Done():
		t.Fatal("no SETTINGS")
	}
	if s := client.Settings(); !s.EnableDatagrams || !s.EnableExtendedConnect {
		t.Fatalf("the sidecar's SETTINGS are %+v", s)
	}
	st, err := client.OpenRequestStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	err = st.SendRequestHeader(&http.Request{
		Method: http.MethodConnect, Proto: "connect-udp", Host: peer, URL: &url.URL{Scheme: "https", Host: peer, Path: path},
		Header: http.Header{qhttp3.CapsuleProtocolHeader: {"?1"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := st.ReadResponse()
	if err != nil {
		t.Fatal(err)
	}
	return st, resp
}

// TestMASQUEClient: RFC 9298 over HTTP/3, by somebody who knows nothing of pillion.
func TestMASQUEClient(t *testing.T) {
	app, _ := udpEcho(t, "127.0.0.1:0")
	free, dir := freeAddrs(t, 2), filepath.Join(t.TempDir(), "ca")
	startSidecar(t, fmt.Sprintf("service: api\napp: [{port: 7, to: %s, protocol: udp}]\npeer: {listen: %s}\noutbound: {listen: none}\nadmin: {listen: %s}\n"+
		"identity: {dev_ca: %s}\ndrain: 1s\n", app, free[0], free[1], dir))
	ca, _, err := devca.OpenFor(dir, "pillion.local")
	if err != nil {
		t.Fatal(err)
	}
	host, _, _ := net.SplitHostPort(app)
	st, resp := masque(t, ca, free[0], "/.well-known/masque/udp/"+host+"/7/")
	if resp.StatusCode != 200 || resp.Header.Get("Capsule-Protocol") != "?1" {
		t.Fatalf("got %d %v", resp.StatusCode, resp.Header)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for _, text := range []string{"hello", "", "again"} {
		if err := st.SendDatagram(append([]byte{0}, text...)); err != nil { // context 0
			t.Fatal(err)
		}
		got, err := st.ReceiveDatagram(ctx)
		if err != nil || string(got) != "\x00"+text {
			t.Fatalf("got %q, %v; want %q", got, err, text)
		}
	}
	_ = st.Close()
	eventually(t, "its flow ends", func() error {
		if f := statusOf(t, free[1]).Apps[0].Flows; f.Open != 0 || f.In != 3 || f.Out != 3 {
			return fmt.Errorf("%+v", f)
		}
		return nil
	})
	if _, resp := masque(t, ca, free[0], "/.well-known/masque/udp/"+host+"/8/"); resp.StatusCode != 503 || resp.Header.Get("Proxy-Status") == "" {
		t.Errorf("a port that is not there: %d %v", resp.StatusCode, resp.Header)
	}
}
