//go:build e2e

package e2e

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// browser is a headless Chromium with one page, driven by its DevTools protocol over a pipe.
type browser struct {
	t       *testing.T
	in      *os.File
	session string
	last    int

	mu      sync.Mutex
	waiting map[int]chan json.RawMessage
	// asked are the URLs that the page has fetched, console what it complained of.
	asked, console []string
}

// newBrowser starts Chromium. It ends with the test.
func newBrowser(t *testing.T) *browser {
	t.Helper()
	theirIn, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, theirOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	b := &browser{t: t, in: in, waiting: make(map[int]chan json.RawMessage)}
	profile, err := os.MkdirTemp("", "pillion-chromium-")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(installed(t, "chromium", "chromium"), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP rebound.example 127.0.0.1",
		"--user-data-dir="+profile, "--remote-debugging-pipe", "about:blank")
	cmd.ExtraFiles = []*os.File{theirIn, theirOut}
	t.Cleanup(func() { os.RemoveAll(profile) })
	startCommand(t, "chromium", cmd)
	theirIn.Close()
	theirOut.Close()
	read := make(chan struct{})
	go func() {
		defer close(read)
		b.read(out)
	}()
	t.Cleanup(func() { // before the process is killed, which ends what is read
		in.Close()
		out.Close()
		<-read
	})
	var target struct{ TargetID string }
	b.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	b.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	b.session = attached.SessionID
	for _, domain := range []string{"Page", "Runtime", "Network", "Log"} {
		b.call(domain+".enable", nil, nil)
	}
	return b
}

// read takes what Chromium says until it ends: messages, each with a zero byte behind it.
func (b *browser) read(out *os.File) {
	r := bufio.NewReader(out)
	for {
		line, err := r.ReadBytes(0)
		if err != nil {
			return
		}
		var m struct {
			ID     int
			Method string
			Result json.RawMessage
			Error  *struct{ Message string }
			Params struct {
				Request struct{ URL string }
				Entry   struct{ Level, Text, URL string }
				Exc     struct {
					Text      string
					Exception struct{ Description string }
				} `json:"exceptionDetails"`
			}
		}
		if json.Unmarshal(line[:len(line)-1], &m) != nil {
			continue
		}
		b.mu.Lock()
		switch m.Method {
		case "Network.requestWillBeSent":
			b.asked = append(b.asked, m.Params.Request.URL)
		case "Log.entryAdded":
			b.console = append(b.console, m.Params.Entry.Level+": "+m.Params.Entry.Text+" "+m.Params.Entry.URL)
		case "Runtime.exceptionThrown":
			b.console = append(b.console, "exception: "+m.Params.Exc.Text+" "+m.Params.Exc.Exception.Description)
		}
		if c := b.waiting[m.ID]; m.ID != 0 && c != nil {
			delete(b.waiting, m.ID)
			if m.Error != nil {
				m.Result = json.RawMessage(fmt.Sprintf(`{"error": %q}`, m.Error.Message))
			}
			c <- m.Result
		}
		b.mu.Unlock()
	}
}

// call has Chromium do something, and waits for the result.
func (b *browser) call(method string, params, result any) {
	b.t.Helper()
	b.last++
	if params == nil {
		params = map[string]any{}
	}
	m := map[string]any{"id": b.last, "method": method, "params": params}
	if b.session != "" {
		m["sessionId"] = b.session
	}
	line, err := json.Marshal(m)
	if err != nil {
		b.t.Fatal(err)
	}
	c := make(chan json.RawMessage, 1)
	b.mu.Lock()
	b.waiting[b.last] = c
	b.mu.Unlock()
	if _, err := b.in.Write(append(line, 0)); err != nil {
		b.t.Fatalf("%s: %v", method, err)
	}
	select {
	case got := <-c:
		var failed struct{ Error string }
		if json.Unmarshal(got, &failed); failed.Error != "" {
			b.t.Fatalf("%s: %s", method, failed.Error)
		}
		if result != nil {
			if err := json.Unmarshal(got, result); err != nil {
				b.t.Fatalf("%s: %v: %s", method, err, got)
			}
		}
	case <-time.After(time.Minute):
		b.t.Fatalf("%s: no answer from Chromium after a minute", method)
	}
}

// eval computes a JavaScript expression, which may be a promise.
func (b *browser) eval(expression string) any {
	b.t.Helper()
	var r struct {
		Result struct{ Value any }
		Exc    *struct {
			Text      string
			Exception struct{ Description string }
		} `json:"exceptionDetails"`
	}
	b.call("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true, "awaitPromise": true, "userGesture": true}, &r)
	if r.Exc != nil {
		b.t.Fatalf("%s: %s %s", expression, r.Exc.Text, r.Exc.Exception.Description)
	}
	return r.Result.Value
}

// until waits for an expression to become true.
func (b *browser) until(expression string) {
	b.t.Helper()
	for range 600 {
		if b.eval("Boolean("+expression+")") == true {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.t.Fatalf("after a minute it is still false: %s\nconsole: %q", expression, b.console)
}

// open goes to a page, of width by height, in "light" or "dark".
func (b *browser) open(url string, width, height int, scheme string) {
	b.t.Helper()
	b.look(width, height, scheme)
	b.call("Page.navigate", map[string]any{"url": url}, nil)
	b.until("document.readyState === 'complete'")
}

func (b *browser) look(width, height int, scheme string) {
	b.t.Helper()
	b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}, nil)
	b.call("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}}, nil)
}

// picture writes the whole page to a file in the folder that PILLION_SCREENSHOTS names, if it does, and returns its size.
func (b *browser) picture(name string) int {
	b.t.Helper()
	var shot struct{ Data string }
	b.call("Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": true}, &shot)
	data, err := base64.StdEncoding.DecodeString(shot.Data)
	if err != nil {
		b.t.Fatal(err)
	}
	if dir := os.Getenv("PILLION_SCREENSHOTS"); dir != "" {
		if err := os.WriteFile(filepath.Join(dir, name+".png"), data, 0o644); err != nil {
			b.t.Fatal(err)
		}
	}
	return len(data)
}

// key presses and releases a key.
func (b *browser) key(name string, code int) {
	b.t.Helper()
	for _, kind := range []string{"keyDown", "keyUp"} {
		p := map[string]any{"type": kind, "key": name, "code": name, "windowsVirtualKeyCode": code}
		if kind == "keyDown" && name == "Enter" {
			p["text"] = "\r"
		}
		b.call("Input.dispatchKeyEvent", p, nil)
	}
}

// write types text into what has the focus.
func (b *browser) write(text string) {
	b.t.Helper()
	b.call("Input.insertText", map[string]any{"text": text}, nil)
}
