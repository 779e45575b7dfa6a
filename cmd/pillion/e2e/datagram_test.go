//go:build e2e

package e2e

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const zoneRecords = 5000

// zone is example.com with many addresses, and one answer that is too long for a datagram.
func zone(serial int, more string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "$TTL 86400\n@ IN SOA ns hostmaster %d 86400 86400 864000 86400\n@ IN NS ns\nns IN A 127.0.0.1\n", serial)
	for i := range zoneRecords {
		fmt.Fprintf(&b, "host%d IN A 10.%d.%d.%d\n", i, i>>16, i>>8&255, i&255)
	}
	for i := range 40 {
		fmt.Fprintf(&b, "long IN TXT \"%03d %s\"\n", i, strings.Repeat("x", 100))
	}
	return b.String() + more
}

// startNamed runs BIND on addr with one zone; role is what the zone's block says besides its file.
func startNamed(t *testing.T, name, addr, role string) (p *process, file string) {
	t.Helper()
	dir := t.TempDir()
	file = filepath.Join(dir, "zone")
	_, port, _ := net.SplitHostPort(addr)
	conf := filepath.Join(dir, "named.conf")
	text := fmt.Sprintf(`options {
	directory %q; pid-file none; session-keyfile none; managed-keys-directory %q; listen-on port %s { 127.0.0.1; }; listen-on-v6 { none; };
	recursion no; dnssec-validation no; allow-transfer { 127.0.0.1; }; notify-delay 0; startup-notify-rate 100; notify-rate 100;
};
controls { };
zone "example.com" { file %q; %s };
`, dir, dir, port, file, role)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(role, "type primary") {
		if err := os.WriteFile(file, []byte(zone(1, "")), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return start(t, name, installed(t, "named", "bind9"), "-g", "-c", conf, "-n", "1"), file
}

// TestNameServers: a primary and a secondary server, each behind its sidecar. dig asks over UDP, and over TCP where an answer is too long; the secondary
// learns of a change by NOTIFY, over UDP, and fetches the 5,000 records over TCP.
func TestNameServers(t *testing.T) {
	dig := installed(t, "dig", "bind9-dnsutils")
	overEach(t, func(t *testing.T, transport string) {
		primaryAt, secondaryAt := freeAddr(t), freeAddr(t)
		toPrimary, toSecondary := primaryAt, secondaryAt // as the other side sees it
		if !*direct {
			toPrimary, toSecondary = freeAddr(t), freeAddr(t)
			ca := newAuthority(t)
			cert := func(name string) files { return ca.issue(leaf{name: name}) }
			a := &sidecar{outbound: freeAddr(t), peer: freeAddr(t), admin: freeAddr(t), config: filepath.Join(t.TempDir(), "A.yaml")}
			b := &sidecar{outbound: freeAddr(t), peer: freeAddr(t), admin: freeAddr(t), config: filepath.Join(t.TempDir(), "B.yaml")}
			text := "service: %s\napp: [{port: 53, to: %q, protocol: tcp+udp}]\nservices:\n  %s: {endpoints: %q, listen: %q, port: 53, protocol: tcp+udp%s}\n"
			a.write(t, fmt.Sprintf(text, "secondary", secondaryAt, "primary", b.peer, toPrimary, key("transport", transport)), cert("secondary"))
			b.write(t, fmt.Sprintf(text, "primary", primaryAt, "secondary", a.peer, toSecondary, key("transport", transport)), cert("primary"))
			a.start(t, "A")
			b.start(t, "B")
			a.ready()
			b.ready()
		}
		_, port, _ := net.SplitHostPort(toSecondary)
		primary, file := startNamed(t, "primary", primaryAt, "type primary; notify explicit; also-notify { 127.0.0.1 port "+port+"; };")
		host, port, _ := net.SplitHostPort(toPrimary)
		ask := func(more ...string) string {
			t.Helper()
			out, _ := tryTool(t, append([]string{dig, "@" + host, "-p", port, "+tries=3", "+time=5"}, more...)...)
			return out
		}
		eventually(t, 20*time.Second, "an answer over UDP", func() bool {
			return strings.TrimSpace(ask("+notcp", "+short", "host4999.example.com", "A")) == "10.0.19.135"
		})
		out := ask("+ignore", "+bufsize=512", "long.example.com", "TXT")
		if !strings.Contains(out, "flags: qr aa tc") || strings.Contains(out, "(TCP)") {
			t.Errorf("a long answer over UDP is not truncated:\n%s", out)
		}
		out = ask("+bufsize=512", "long.example.com", "TXT")
		if !strings.Contains(out, "Truncated, retrying in TCP mode") || strings.Count(out, "xxxx\"") != 40 {
			t.Errorf("no full answer over TCP after truncation:\n%s", out)
		}
		if n := strings.Count(ask("example.com", "AXFR"), "\tA\t10."); n != zoneRecords {
			t.Errorf("a zone transfer has %d records, want %d", n, zoneRecords)
		}

		_, port, _ = net.SplitHostPort(toPrimary)
		secondary, _ := startNamed(t, "secondary", secondaryAt, "type secondary; masterfile-format text; notify no; allow-notify { 127.0.0.1; }; primaries { 127.0.0.1 port "+port+"; };")
		host, port, _ = net.SplitHostPort(secondaryAt)
		serial := func() string { return strings.Join(strings.Fields(ask("+short", "example.com", "SOA")), " ") }
		eventually(t, 30*time.Second, "the zone at the secondary", func() bool { return strings.Contains(serial(), " 1 86400 ") })
		if err := os.WriteFile(file, []byte(zone(2, "changed IN A 10.1.1.1\n")), 0o644); err != nil {
			t.Fatal(err)
		}
		primary.signal(syscall.SIGHUP)
		eventually(t, 30*time.Second, "the changed zone at the secondary", func() bool { return strings.Contains(serial(), " 2 86400 ") })
		if got := strings.TrimSpace(ask("+short", "changed.example.com", "A")); got != "10.1.1.1" {
			t.Errorf("the secondary says %q, want 10.1.1.1", got)
		}
		if n := strings.Count(ask("example.com", "AXFR"), "\tA\t10."); n != zoneRecords+1 {
			t.Errorf("the secondary has %d records, want %d", n, zoneRecords+1)
		}
		if log := secondary.output(); !strings.Contains(log, "received notify for zone 'example.com'") {
			t.Errorf("the secondary was not notified:\n%s", tail(log, 30))
		}
	})
}

// TestSIP: calls between SIPp and SIPp, each with six messages and a pause, all answered in time and in order.
func TestSIP(t *testing.T) {
	sipp := installed(t, "sipp", "sip-tester")
	overEach(t, func(t *testing.T, transport string) {
		for mode, protocol := range map[string]string{"u1": "udp", "t1": "tcp"} {
			t.Run(protocol, func(t *testing.T) {
				app := freeAddr(t)
				host, port, _ := net.SplitHostPort(app)
				server := start(t, "sipp -sn uas", sipp, "-sn", "uas", "-i", host, "-p", port, "-t", mode, "-nostdin")
				p := newPair(t, setup{app: app, port: 5060, protocol: "tcp+udp", listen: "tcp+udp", transport: transport})
				eventually(t, 20*time.Second, "sipp listening", func() bool { return bound(protocol, port) })
				_, own, _ := net.SplitHostPort(freeAddr(t))
				const calls = 200
				out, err := tryTool(t, sipp, "-sn", "uac", p.local, "-i", host, "-p", own, "-t", mode, "-m", fmt.Sprint(calls), "-r", "100", "-d", "100", "-nostdin", "-timeout", "60s",
					"-timeout_error")
				if err != nil {
					t.Fatalf("sipp: %v\n%s", err, tail(out, 40))
				}
				server.kill()
				if !strings.Contains(out, fmt.Sprintf("Successful call        |        0                  |      %d", calls)) && !succeeded(out, calls) {
					t.Errorf("not every call succeeded:\n%s", tail(out, 40))
				}
			})
		}
	})
}

// succeeded looks for the number of successful calls in SIPp's last page.
func succeeded(out string, calls int) bool {
	for line := range strings.Lines(out) {
		if f := strings.Fields(strings.ReplaceAll(line, "|", " ")); len(f) > 2 && f[0] == "Successful" && f[len(f)-1] == fmt.Sprint(calls) {
			return true
		}
	}
	return false
}

// bound reports whether a process has the port.
func bound(network, port string) bool {
	for _, file := range []string{"/proc/net/" + network, "/proc/net/" + network + "6"} {
		b, _ := os.ReadFile(file)
		var n int
		fmt.Sscan(port, &n)
		if strings.Contains(string(b), fmt.Sprintf(":%04X 0", n)) {
			return true
		}
	}
	return false
}

// TestMemcached: the text protocol over TCP and over UDP, where a large value comes in many datagrams.
func TestMemcached(t *testing.T) {
	overEach(t, func(t *testing.T, transport string) {
		app := freeAddr(t)
		host, port, _ := net.SplitHostPort(app)
		startCommand(t, "memcached", exec.Command(installed(t, "memcached", "memcached"), "-u", "root", "-l", host, "-p", port, "-U", port))
		waitListening(t, app)
		p := newPair(t, setup{app: app, port: 11211, protocol: "tcp+udp", listen: "tcp+udp", transport: transport})
		tcp, err := net.Dial("tcp", p.local)
		if err != nil {
			t.Fatal(err)
		}
		defer tcp.Close()
		_ = tcp.SetDeadline(time.Now().Add(time.Minute))
		value := bytes.Repeat([]byte("0123456789"), 10_000)
		for _, key := range []string{"small", "large"} {
			v := value
			if key == "small" {
				v = value[:100]
			}
			fmt.Fprintf(tcp, "set %s 0 0 %d\r\n%s\r\n", key, len(v), v)
			answer := make([]byte, len("STORED\r\n"))
			if _, err := tcp.Read(answer); err != nil || string(answer) != "STORED\r\n" {
				t.Fatalf("set over TCP: %q, %v", answer, err)
			}
			for i := range 5 { // a datagram may be lost
				got, err := memcachedGet(t, p.local, key, uint16(i))
				want := fmt.Sprintf("VALUE %s 0 %d\r\n%s\r\nEND\r\n", key, len(v), v)
				if err == nil && got == want {
					break
				}
				t.Logf("get %s over UDP: %d bytes, %v", key, len(got), err)
				if i == 4 {
					t.Errorf("get %s over UDP: %d bytes, %v; want %d", key, len(got), err, len(want))
				}
			}
		}
	})
}

// memcachedGet asks over UDP: each datagram begins with a request's id, its number, how many there are, and two bytes of nothing.
func memcachedGet(t *testing.T, address, key string, id uint16) (string, error) {
	t.Helper()
	c, err := net.Dial("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	ask := binary.BigEndian.AppendUint16(nil, id)
	ask = append(ask, 0, 0, 0, 1, 0, 0)
	if _, err := c.Write(fmt.Appendf(ask, "get %s\r\n", key)); err != nil {
		return "", err
	}
	parts := make(map[uint16]string)
	b := make([]byte, 64<<10)
	for {
		n, err := c.Read(b)
		if err != nil {
			return "", err
		}
		if n < 8 || binary.BigEndian.Uint16(b) != id {
			return "", fmt.Errorf("a strange answer: %q", shorten(b[:n]))
		}
		parts[binary.BigEndian.Uint16(b[2:])] = string(b[8:n])
		if total := binary.BigEndian.Uint16(b[4:]); len(parts) == int(total) {
			var all strings.Builder
			for i := range total {
				all.WriteString(parts[i])
			}
			return all.String(), nil
		}
	}
}
