package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/cmd/internal/config"
)

// resolver asks the name server at addr, whatever resolv.conf says.
func resolverAt(addr string) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, addr)
	}}
}

// A service's name leads to a port that is really open, with the service behind it, whoever speaks first.
func TestNamesLeadToServices(t *testing.T) {
	tcp := echoApp(t)
	free := freeAddrs(t, 3)
	ca := filepath.Join(t.TempDir(), "ca")
	udp, _ := udpEcho(t, "127.0.0.1:0")
	startSidecar(t, fmt.Sprintf("service: store\napp: [{port: 15432, to: %s}, {port: 15433, to: %s, protocol: udp}]\npeer: {listen: %s}\noutbound: {listen: none}\nadmin: {listen: %s}\nidentity: {dev_ca: %s}\n",
		tcp, udp, free[0], free[1], ca))
	startSidecar(t, fmt.Sprintf("service: web\npeer: {listen: none}\noutbound: {listen: none, dns: 127.0.0.1:0, dns_range: 127.81.%d.0/24, dns_forward: 127.0.0.1:1}\n"+
		"admin: {listen: %s}\nidentity: {dev_ca: %s}\nservices:\n  db: {endpoints: %s, identity: store, port: 15432}\n  lost: 127.0.0.1:1\n  clock: {endpoints: %s, identity: store, port: 15433, protocol: udp}\n",
		rand.IntN(256), free[2], ca, free[0], free[0]))
	st := statusOf(t, free[2])
	if st.DNS == nil || st.Services[0].DNS == "" || st.Services[1].DNS != "" {
		t.Fatalf("status %+v, %+v; want the server, and an address of db alone", st.DNS, st.Services)
	}
	r := resolverAt(st.DNS.Address)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for _, name := range []string{"db.", "DB.pillion.internal."} {
		addrs, err := r.LookupHost(ctx, name)
		if err != nil || len(addrs) != 1 || net.JoinHostPort(addrs[0], "15432") != st.Services[0].DNS {
			t.Fatalf("lookup %s = %v, %v, want %s", name, addrs, err, st.Services[0].DNS)
		}
		c, err := net.Dial("tcp", net.JoinHostPort(addrs[0], "15432"))
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(20 * time.Second))
		if got, err := bufio.NewReader(c).ReadString('\n'); got != "hello\n" {
			t.Errorf("got %q, %v, want the app's greeting", got, err)
		}
		c.Close()
	}
	c, err := net.Dial("udp", st.Services[2].DNS)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b := make([]byte, 100)
	for n := 0; n == 0 && ctx.Err() == nil; { // a datagram may be lost
		fmt.Fprint(c, "what time is it?")
		c.SetReadDeadline(time.Now().Add(time.Second))
		n, _ = c.Read(b)
	}
	if !strings.HasPrefix(string(b), "what time is it?") {
		t.Errorf("over UDP got %q", b)
	}
	var none *net.DNSError
	if _, err := r.LookupHost(ctx, "x.pillion.internal."); !errors.As(err, &none) || !none.IsNotFound {
		t.Errorf("a name that is no service: %v, want no such host", err)
	}
	if _, err := r.LookupHost(ctx, "example.com."); !errors.As(err, &none) || none.IsNotFound {
		t.Errorf("a name of others, and nobody to ask: %v, want a failure", err)
	}
	after := statusOf(t, free[2]).DNS
	if after.Own < 4 || after.Forwarded == 0 || after.Failed == 0 || len(after.Servers) != 1 {
		t.Errorf("status %+v", after)
	}
}

// What cannot be bound is explained.
func TestDNSPortsThatCannotBeBound(t *testing.T) {
	free := freeAddrs(t, 1)[0]
	taken, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).Port
	cfg := load(t, fmt.Sprintf("service: web\noutbound: {listen: none, dns: 127.0.0.1:0}\npeer: {listen: none}\nadmin: {listen: %s}\nservices: {db: {endpoints: 10.0.0.7, port: %d}}\n", free, port))
	s, err := bind(cfg)
	if err == nil {
		s.close()
		t.Fatal("bound twice")
	}
	if !strings.Contains(err.Error(), "the port of services.db") || !strings.Contains(err.Error(), "dns_range") {
		t.Errorf("%v, want the service and what to write", err)
	}
	cfg.Services = nil
	cfg.Outbound.DNS = config.Listen{IP: cfg.Outbound.DNS.IP, Port: uint16(port), On: true}
	if s, err := bind(cfg); err == nil || !strings.Contains(err.Error(), "outbound.dns: listen") {
		if err == nil {
			s.close()
		}
		t.Errorf("a port that is taken: %v", err)
	}
	denied := advise(&os.SyscallError{Syscall: "bind", Err: syscall.EACCES})
	if !strings.Contains(denied.Error(), "cap_net_bind_service") || !errors.Is(denied, syscall.EACCES) {
		t.Errorf("without permission: %v", denied)
	}
	nowhere := adviseName(&os.SyscallError{Syscall: "bind", Err: syscall.EADDRNOTAVAIL})
	if !strings.Contains(nowhere.Error(), "Linux") {
		t.Errorf("elsewhere: %v", nowhere)
	}
}
