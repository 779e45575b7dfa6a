package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/cmd/internal/config"
	"github.com/pillion-proxy/pillion/listeners/admin"
)

// reloadable is a sidecar in this process whose configuration can be written anew.
type reloadable struct {
	t     *testing.T
	file  string
	admin string
	head  string // of every configuration
	asked chan struct{}
}

// startReloadable runs one without peers, with these services.
func startReloadable(t *testing.T, services string) *reloadable {
	t.Helper()
	return startReloadableWith(t, "outbound: {listen: none}\n", services)
}

// startReloadableWith has more in its configuration, an outbound among it.
func startReloadableWith(t *testing.T, more, services string) *reloadable {
	t.Helper()
	r := &reloadable{t: t, file: filepath.Join(t.TempDir(), "pillion.yaml"), admin: freeAddrs(t, 1)[0], asked: make(chan struct{}, 1)}
	r.head = fmt.Sprintf("service: web\npeer: {listen: none, transport: tcp}\nadmin: {listen: %s}\nidentity: {dev_ca: %s}\ndrain: 5s\nreload: {watch: false}\n%s", r.admin, filepath.Join(t.TempDir(), "ca"), more)
	r.write(services)
	cfg, err := config.Load(r.file)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	how := reloading{load: func() (*config.Config, error) { return config.Load(r.file) }, asked: r.asked, look: 20 * time.Millisecond}
	go func() { done <- serve(ctx, cfg, slog.New(slog.NewTextHandler(t.Output(), nil)), nil, how) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	awaitOK(t, "http://"+r.admin+"/readyz")
	return r
}

// write replaces the file, whole.
func (r *reloadable) write(services string) {
	r.t.Helper()
	if err := os.WriteFile(r.file+".new", []byte(r.head+"services:\n"+services), 0o600); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Rename(r.file+".new", r.file); err != nil {
		r.t.Fatal(err)
	}
}

func (r *reloadable) ask(method string) (res admin.Reload) {
	r.t.Helper()
	_, body, err := new(adminClient).ask(r.t.Context(), method, r.admin, "", "/reload")
	if err == nil {
		err = json.Unmarshal(body, &res)
	}
	if err != nil {
		r.t.Fatalf("reload: %v: %s", err, body)
	}
	return res
}

// reload writes the services, reloads, and wants it to be as ok says.
func (r *reloadable) reload(services string, ok bool) admin.Reload {
	r.t.Helper()
	r.write(services)
	res := r.ask(http.MethodPost)
	if res.OK != ok || res.Applied != ok {
		r.t.Fatalf("reload: %+v, want ok %v", res, ok)
	}
	return res
}

func (r *reloadable) status() (st admin.Status) {
	r.t.Helper()
	_, body, err := new(adminClient).get(r.t.Context(), r.admin, "", "/status")
	if err == nil {
		err = json.Unmarshal(body, &st)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return st
}

// soon waits for ok.
func soon(t *testing.T, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if until(ctx, ok); ctx.Err() != nil && !ok() {
		t.Fatal("it does not come about")
	}
}

// stream is a connection to an echoApp.
type stream struct {
	net.Conn
	r *bufio.Reader
	t *testing.T
}

func openStream(t *testing.T, addr string) *stream {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	s := &stream{c, bufio.NewReader(c), t}
	s.read("hello")
	return s
}

func (s *stream) read(want string) {
	s.t.Helper()
	if got, err := s.r.ReadString('\n'); err != nil || got != want+"\n" {
		s.t.Fatalf("read %q, %v, want %q", got, err, want)
	}
}

func (s *stream) echo(text string) {
	s.t.Helper()
	fmt.Fprintln(s, text)
	s.read(text)
}

// TestReload: what a change does not touch goes on, what it adds is there, what it removes takes nothing new; a mistake changes nothing.
func TestReload(t *testing.T) {
	app, free := echoApp(t), freeAddrs(t, 3)
	one := fmt.Sprintf("  a: {endpoints: %s, mesh: false, listen: %s, protocol: tcp}\n", app, free[0])
	two := fmt.Sprintf("  b: {endpoints: %s, mesh: false, listen: %s, protocol: tcp}\n", app, free[1])
	r := startReloadable(t, one)
	a := openStream(t, free[0])

	if res := r.ask(http.MethodGet); !res.OK || res.Applied || len(res.Changes) != 0 {
		t.Errorf("nothing has changed: %+v", res)
	}
	r.write(one + two)
	if res := r.ask(http.MethodGet); !res.OK || res.Applied || len(res.Changes) != 1 || res.Changes[0].Key != "services.b" {
		t.Errorf("the difference is %+v, want services.b", res)
	}
	if c, err := net.Dial("tcp", free[1]); err == nil {
		c.Close()
		t.Error("asking for the difference has opened a port")
	}
	if res := r.ask(http.MethodPost); !res.OK || !res.Applied || res.Generation != 2 {
		t.Errorf("reload: %+v, want number 2 in force", res)
	}
	a.echo("still here")
	b := openStream(t, free[1])

	for name, bad := range map[string]string{
		"a mistake":                 one + "  c: {endpoint: 10.0.0.1}\n",
		"a port that is taken":      one + fmt.Sprintf("  c: {endpoints: 10.0.0.1, listen: %s}\n", r.admin),
		"another service":           one + two + "service: other\n",
		"another use of a port":     one + fmt.Sprintf("  b: {endpoints: %s, mesh: false, listen: %s, protocol: http}\n", app, free[1]),
		"a port of another service": one + fmt.Sprintf("  renamed: {endpoints: %s, mesh: false, listen: %s, protocol: tcp}\n", app, free[1]),
		"a port that busy sockets":  one + fmt.Sprintf("  c: {endpoints: 10.0.0.1, listen: %s}\n", app),
	} {
		head := r.head
		if strings.Contains(bad, "service: other") {
			bad = one + two
			r.head = strings.Replace(head, "service: web", "service: other", 1)
		}
		res := r.reload(bad, false)
		if len(res.Problems) == 0 || res.Generation != 2 {
			t.Errorf("%s: %+v", name, res)
		}
		if name == "a port of another service" && !strings.Contains(res.Problems[0].Text, "by services.b.listen, and a port cannot change hands") {
			t.Errorf("%s: %+v", name, res.Problems)
		}
		r.head = head
		openStream(t, free[1]).echo("also after " + name)
	}
	if c := r.status().Configuration; c == nil || c.Failed != 6 || c.Error == "" || c.Generation != 2 {
		t.Errorf("status: %+v, want six failures, the last one told", c)
	}

	r.reload(one, true)
	b.echo("a stream lives on without its port")
	if c, err := net.Dial("tcp", free[1]); err == nil {
		c.Close()
		t.Error("the port of a service that is gone still takes connections")
	}
	a.echo("to the end")
	st := r.status()
	if !slices.ContainsFunc(st.Listeners, func(l admin.Listener) bool {
		return l.Name == "services.b" && l.Retired && l.Connections > 0
	}) {
		t.Errorf("status: %+v, want a retired services.b", st.Listeners)
	}
	b.Close()
	r.reload(one+two, true) // the port may be bound again
	openStream(t, free[1]).echo("again")
	if c := r.status().Configuration; c.Error != "" || c.Generation != 4 {
		t.Errorf("status: %+v, want number 4, and no error", c)
	}
}

// TestReloadEndpoints: a source that has answered once is replaced when the next one has, and requests go where it says.
func TestReloadEndpoints(t *testing.T) {
	here := func(name string) string {
		return httpServer(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, name, " ", r.URL.Path) })
	}
	first, second, listen := here("first"), here("second"), freeAddrs(t, 1)[0]
	client := &http.Client{Transport: new(http.Transport), Timeout: 20 * time.Second}
	t.Cleanup(client.CloseIdleConnections)
	get := func() string {
		resp, err := client.Get("http://" + listen + "/x")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text := make([]byte, 100)
		n, _ := resp.Body.Read(text)
		return string(text[:n])
	}
	service := func(endpoints, more string) string {
		return fmt.Sprintf("  a: {endpoints: %q, mesh: false, listen: %s, protocol: http%s}\n", endpoints, listen, more)
	}
	r := startReloadable(t, service(first, ""))
	if got := get(); got != "first /x" {
		t.Errorf("got %q", got)
	}
	r.reload(service(second, ", routes: [{match: {path: /x}, rewrite: {path: /y}}]"), true)
	if got := get(); got != "second /y" {
		t.Errorf("after a reload: got %q, want second /y", got)
	}
	list := filepath.Join(t.TempDir(), "list")
	r.reload(service("file:"+list, ""), true)
	if got := get(); got != "second /x" {
		t.Errorf("while the new source is silent: got %q, want second /x", got)
	}
	if s := r.status().Services[0]; s.Error == "" {
		t.Errorf("status of a service whose new source is silent: %+v", s)
	}
	if err := os.WriteFile(list, []byte("- {address: \""+first+"\", mesh: false}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	soon(t, func() bool { return get() == "first /x" })
}

// TestReloadByFile: a change of the file is taken by itself, also where it is a link to a link, as in Kubernetes.
func TestReloadByFile(t *testing.T) {
	r := startReloadable(t, "  a: 10.0.0.1\n")
	r.head = strings.Replace(r.head, "watch: false", "watch: true", 1)
	r.reload("  a: 10.0.0.1\n", true)
	number := func(n int) func() bool {
		return func() bool { return r.status().Configuration.Generation == n }
	}
	r.write("  a: 10.0.0.2\n")
	soon(t, number(3))
	dir := filepath.Dir(r.file)
	for i, text := range []string{"  a: 10.0.0.3\n", "  a: 10.0.0.4\n"} {
		data := filepath.Join(dir, fmt.Sprint("..data_", i))
		if err := os.Mkdir(data, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(data, "pillion.yaml"), []byte(r.head+"services:\n"+text), 0o600); err != nil {
			t.Fatal(err)
		}
		link := filepath.Join(dir, "..data")
		if err := os.Symlink(data, link+".tmp"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(link+".tmp", link); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			os.Remove(r.file)
			if err := os.Symlink("..data/pillion.yaml", r.file); err != nil {
				t.Fatal(err)
			}
		}
		soon(t, number(4+i))
	}
	r.asked <- struct{}{}
	soon(t, func() bool { return r.status().Configuration.Reloads == 5 })
}

// TestReloadsLeaveNothing: a hundred in a row cost neither descriptors nor goroutines.
func TestReloadsLeaveNothing(t *testing.T) {
	app, free := echoApp(t), freeAddrs(t, 3)
	one := fmt.Sprintf("  a: {endpoints: %s, mesh: false, listen: %s, protocol: tcp}\n", app, free[0])
	r := startReloadable(t, one)
	a := openStream(t, free[0])
	change := func(i int) {
		list := filepath.Join(t.TempDir(), "list")
		r.reload(one+fmt.Sprintf("  b: {endpoints: %s, mesh: false, listen: %s, timeout: %ds}\n  c: {endpoints: 10.0.0.%d, listen: %s, protocol: tcp+udp, port: 9}\n  d: {endpoints: file:%s%d}\n",
			app, free[1], i+1, i+1, free[2], list, i), true)
		r.reload(one, true)
	}
	change(100)
	fds, goroutines := openFiles(t), runtime.NumGoroutine()
	for i := range 50 {
		change(i)
		a.echo(fmt.Sprint("reload ", i))
	}
	soon(t, func() bool { return openFiles(t) <= fds && runtime.NumGoroutine() <= goroutines+10 }) // of the runtime's own, which wait for another task
	if n := len(r.status().Listeners); n != 2 {                                                    // admin and a
		t.Errorf("%d listeners, want 2: %+v", n, r.status().Listeners)
	}
}

// openFiles counts this process's descriptors; 0 where the system does not tell.
func openFiles(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(all)
}
