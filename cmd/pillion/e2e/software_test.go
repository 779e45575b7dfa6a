//go:build e2e

package e2e

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// python is Debian's, which has Debian's packages.
const python = "/usr/bin/python3"

// overEach runs f once for each transport of Links; without sidecars there is none to choose.
func overEach(t *testing.T, f func(t *testing.T, transport string)) {
	t.Helper()
	if *direct {
		f(t, "")
		return
	}
	for _, transport := range []string{"tcp", "quic"} {
		t.Run(transport, func(t *testing.T) { f(t, transport) })
	}
}

// TestSSH: a session with input, a status, a terminal, and scp of 256 MiB there and back.
func TestSSH(t *testing.T) {
	scp := installed(t, "scp", "openssh-client")
	server, key := startSSH(t)
	overEach(t, func(t *testing.T, transport string) {
		p := newPair(t, setup{app: server, port: 22, transport: transport})
		host, port, _ := net.SplitHostPort(p.local)
		options := []string{"-F", "none", "-i", key, "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"}
		ssh := func(stdin string, more ...string) (string, int) {
			t.Helper()
			cmd := exec.CommandContext(t.Context(), installed(t, "ssh", "openssh-client"), append(append([]string{"-p", port}, options...), more...)...)
			cmd.Stdin = strings.NewReader(stdin)
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			out, err := cmd.Output()
			if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() == 255 {
				t.Fatalf("ssh: %v: %s", err, stderr.String())
			}
			return string(out), cmd.ProcessState.ExitCode()
		}
		if out, code := ssh("some input\n", host, "echo begin; cat; exit 7"); out != "begin\nsome input\n" || code != 7 {
			t.Errorf("a session printed %q and ended with %d, want begin, its input, and 7", out, code)
		}
		if out, code := ssh("", "-tt", host, "tty >/dev/null && echo a terminal"); !strings.Contains(out, "a terminal") || code != 0 {
			t.Errorf("a session with a terminal printed %q and ended with %d", out, code)
		}

		const size = 256 << 20
		dir := t.TempDir()
		here, there, back := filepath.Join(dir, "here"), filepath.Join(dir, "there"), filepath.Join(dir, "back")
		writeRandom(t, here, size)
		copyFile := func(from, to string) {
			t.Helper()
			runTool(t, append(append([]string{scp, "-q", "-P", port}, options...), from, to)...)
		}
		copyFile(here, host+":"+there)
		copyFile(host+":"+there, back)
		want := sumOf(t, here)
		for _, path := range []string{there, back} {
			if got := sumOf(t, path); got != want {
				t.Errorf("%s is another file than the one that was copied", filepath.Base(path))
			}
		}
	})
}

// startSSH starts a server on a port of loopback, with keys of its own, and returns the client's key.
func startSSH(t *testing.T) (addr, key string) {
	t.Helper()
	sshd, keygen := installed(t, "sshd", "openssh-server"), installed(t, "ssh-keygen", "openssh-client")
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"host", "client"} {
		runTool(t, keygen, "-q", "-t", "ed25519", "-N", "", "-f", path(name))
	}
	public, err := os.ReadFile(path("client.pub"))
	if err != nil {
		t.Fatal(err)
	}
	addr = freeAddr(t)
	host, port, _ := net.SplitHostPort(addr)
	config := fmt.Sprintf("ListenAddress %s\nPort %s\nHostKey %s\nAuthorizedKeysFile %s\nPidFile none\nStrictModes no\nUsePAM no\n"+
		"PasswordAuthentication no\nPermitRootLogin prohibit-password\nSubsystem sftp internal-sftp\n", host, port, path("host"), path("authorized"))
	for name, text := range map[string]string{"authorized": string(public), "config": config} {
		if err := os.WriteFile(path(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // Debian's sshd separates its privileges there
		t.Fatal(err)
	}
	start(t, "sshd", sshd, "-D", "-e", "-f", path("config"))
	waitListening(t, addr)
	return addr, path("client")
}

// writeRandom writes a file that no compression makes smaller.
func writeRandom(t *testing.T, path string, size int64) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.CopyN(f, rand.NewChaCha8([32]byte{1}), size); err != nil {
		t.Fatal(err)
	}
}

func sumOf(t *testing.T, path string) [32]byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return [32]byte(h.Sum(nil))
}

// TestSMTP: a message of 5 MB arrives byte for byte, lines with dots and all, from a client that waits for the server's greeting.
func TestSMTP(t *testing.T) {
	msmtp := installed(t, "msmtp", "msmtp")
	mail := t.TempDir()
	server := freeAddr(t)
	_, port, _ := net.SplitHostPort(server)
	start(t, "smtp server", python, "testdata/smtp_server.py", port, mail)
	waitListening(t, server)
	var text strings.Builder
	text.WriteString("From: a@example.com\nTo: b@example.com\nSubject: =?utf-8?q?gr=C3=BC=C3=9Fe?=\nDate: Sat, 21 Nov 2026 10:00:00 +0000\n" +
		"Message-ID: <1@example.com>\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n" +
		".\n..\n.hidden\n grüße \t \n\nFrom here\nQUIT\n")
	for i := range 70_000 {
		fmt.Fprintf(&text, "%07d %s\n", i, strings.Repeat("-", 64))
	}
	want := strings.ReplaceAll(text.String(), "\n", "\r\n")
	n := 0
	overEach(t, func(t *testing.T, transport string) {
		p := newPair(t, setup{app: server, port: 25, transport: transport})
		host, port, _ := net.SplitHostPort(p.local)
		cmd := exec.CommandContext(t.Context(), msmtp, "--file=/dev/null", "--host="+host, "--port="+port, "--tls=off", "--auth=off",
			"--domain=client.example.com", "--from=a@example.com", "b@example.com")
		cmd.Stdin = strings.NewReader(text.String())
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("msmtp: %v\n%s", err, out)
		}
		n++
		path := filepath.Join(mail, fmt.Sprint(n))
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != want {
			t.Errorf("the message arrived as %d bytes, and not as the %d that were sent", len(got), len(want))
		}
		if to, err := os.ReadFile(path + ".rcpt"); err != nil || string(to) != "a@example.com b@example.com" {
			t.Errorf("envelope %q, %v, want that of the client", to, err)
		}
	})
}

// TestMQTT: all three qualities of service, a retained message of 1 MB, and a last will.
func TestMQTT(t *testing.T) {
	sub, pub := installed(t, "mosquitto_sub", "mosquitto-clients"), installed(t, "mosquitto_pub", "mosquitto-clients")
	broker := freeAddr(t)
	host, port, _ := net.SplitHostPort(broker)
	config := filepath.Join(t.TempDir(), "mosquitto.conf")
	if err := os.WriteFile(config, []byte(fmt.Sprintf("listener %s %s\nallow_anonymous true\npersistence false\nuser root\nmax_queued_messages 0\n", port, host)), 0o644); err != nil {
		t.Fatal(err)
	}
	start(t, "mosquitto", installed(t, "mosquitto", "mosquitto"), "-c", config)
	waitListening(t, broker)
	overEach(t, func(t *testing.T, transport string) {
		p := newPair(t, setup{app: broker, port: 1883, transport: transport})
		host, port, _ := net.SplitHostPort(p.local)
		at := []string{"-h", host, "-p", port}
		subscribe := func(name string, more ...string) *process {
			t.Helper()
			// -d tells, and stdbuf at once, when the broker has agreed to the subscription: what is published from then on arrives.
			s := start(t, name, append(append([]string{"stdbuf", "-oL", sub}, at...), more...)...)
			eventually(t, 20*time.Second, "a subscription", func() bool { return strings.Contains(s.output(), "Subscribed (mid") })
			return s
		}
		for qos := range 3 {
			topic := fmt.Sprintf("%s/qos%d", transport, qos)
			s := subscribe("subscriber", "-d", "-q", fmt.Sprint(qos), "-t", topic, "-C", "1000", "-F", "got %p")
			var lines strings.Builder
			for i := range 1000 {
				fmt.Fprintf(&lines, "message %d of quality %d\n", i, qos)
			}
			cmd := exec.CommandContext(t.Context(), pub, append(at, "-q", fmt.Sprint(qos), "-t", topic, "-l")...)
			cmd.Stdin = strings.NewReader(lines.String())
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("mosquitto_pub: %v\n%s", err, out)
			}
			if code := s.wait(60 * time.Second); code != 0 {
				t.Fatalf("the subscriber of quality %d ended with %d", qos, code)
			}
			i := 0
			for line := range strings.Lines(s.output()) {
				if text, ok := strings.CutPrefix(line, "got "); ok {
					if want := fmt.Sprintf("message %d of quality %d\n", i, qos); text != want {
						t.Fatalf("message %d = %q, want %q", i, text, want)
					}
					i++
				}
			}
			if i != 1000 {
				t.Errorf("%d messages of quality %d, want 1000", i, qos)
			}
		}

		big := filepath.Join(t.TempDir(), "big")
		writeRandom(t, big, 1<<20)
		topic := transport + "/big"
		runTool(t, append(append([]string{pub}, at...), "-q", "1", "-r", "-t", topic, "-f", big)...)
		want, err := os.ReadFile(big)
		if err != nil {
			t.Fatal(err)
		}
		if got := runTool(t, append(append([]string{sub}, at...), "-t", topic, "-C", "1", "-N")...); got != string(want) {
			t.Errorf("a retained message of %d bytes came as %d others", len(want), len(got))
		}

		will := subscribe("heir", "-d", "-t", transport+"/will", "-C", "1", "-F", "got %p")
		dying := subscribe("testator", "-d", "-t", transport+"/nothing", "--will-topic", transport+"/will", "--will-payload", "farewell")
		dying.kill()
		if will.wait(60*time.Second) != 0 || !strings.Contains(will.output(), "got farewell") {
			t.Errorf("the will of a client that died = %q, want farewell", will.output())
		}
	})
}

// TestWebSocketSoftware: servers and clients of three implementations that know nothing of each other.
func TestWebSocketSoftware(t *testing.T) {
	node := installed(t, "node", "nodejs")
	js := func(args ...string) *exec.Cmd {
		cmd := exec.Command(node, args...)
		cmd.Env = append(os.Environ(), "NODE_PATH=/usr/share/nodejs")
		return cmd
	}
	servers := map[string]func(port string) *exec.Cmd{
		"python3-websockets": func(port string) *exec.Cmd { return exec.Command(python, "testdata/ws_server.py", port) },
		"node-ws":            func(port string) *exec.Cmd { return js("testdata/ws_server.js", port) },
	}
	clients := map[string]func(url string) *exec.Cmd{
		"python3-aiohttp": func(url string) *exec.Cmd { return exec.Command(python, "testdata/ws_client.py", url) },
		"node-ws":         func(url string) *exec.Cmd { return js("testdata/ws_client.js", url) },
	}
	for server, command := range servers {
		addr := freeAddr(t)
		_, port, _ := net.SplitHostPort(addr)
		startCommand(t, server, command(port))
		waitListening(t, addr)
		overEach(t, func(t *testing.T, transport string) {
			p := newPair(t, setup{app: addr, transport: transport})
			for client, command := range clients {
				out, err := command("ws://" + p.local + "/chat?room=1").CombinedOutput()
				if err != nil || strings.TrimSpace(string(out)) != "ok" {
					t.Errorf("%s with %s: %v\n%s", client, server, err, out)
				}
			}
		})
	}
}
