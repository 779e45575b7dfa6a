package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// The three apps.
const (
	web     = "web"
	orders  = "orders"
	billing = "billing"
)

// sockets names what each app listens on, in the order in which the sockets are handed to its process.
var sockets = map[string][]string{
	web:     {"http"},
	orders:  {"http", "grpc"},
	billing: {"http", "lines", "banner"},
}

// AppConfig says which app to run and where.
type AppConfig struct {
	// Name is "web", "orders" or "billing".
	Name string
	// Listeners are the app's sockets by use: "http", "grpc", "lines", "banner". RunApp closes them.
	Listeners map[string]net.Listener
	// Datagrams is billing's UDP socket; the others have none. RunApp closes it.
	Datagrams net.PacketConn
	// Next is the URL at which the app reaches the next one: web calls orders, orders calls billing.
	Next string
	// NextHost is the Host that goes with Next, if it is not Next's own.
	NextHost string
}

// RunApp runs one demo app until ctx ends.
func RunApp(ctx context.Context, cfg AppConfig) error {
	uses, ok := sockets[cfg.Name]
	if !ok {
		return fmt.Errorf("no demo app is called %q: use web, orders or billing", cfg.Name)
	}
	for _, use := range uses {
		if cfg.Listeners[use] == nil {
			return fmt.Errorf("demo app %s needs a socket for %s", cfg.Name, use)
		}
	}
	if cfg.Name == billing {
		if cfg.Datagrams == nil {
			return errors.New("demo app billing needs a socket for datagrams")
		}
		uses = append(uses[:len(uses):len(uses)], "datagrams")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error)
	for _, use := range uses {
		go func() { ended <- serve(ctx, cfg, use) }()
	}
	var errs []error
	for range uses {
		errs = append(errs, <-ended)
		cancel() // one socket lost ends the app
	}
	return errors.Join(errs...)
}

// serve runs one socket of an app until ctx ends.
func serve(ctx context.Context, cfg AppConfig, use string) error {
	l := cfg.Listeners[use]
	switch use {
	case "grpc":
		return serveHTTP(ctx, l, newLedger(), onlyHTTP2())
	case "lines":
		return serveStreams(ctx, l, echoLines)
	case "banner":
		return serveStreams(ctx, l, greet)
	case "datagrams":
		return echoDatagrams(ctx, cfg.Datagrams)
	}
	switch cfg.Name {
	case web:
		return serveHTTP(ctx, l, newWeb(cfg), nil)
	case orders:
		return serveHTTP(ctx, l, newOrders(cfg), nil)
	default:
		return serveHTTP(ctx, l, newBilling(), nil)
	}
}

// serveHTTP serves h on l, over HTTP/1 if protocols is nil, until ctx ends.
func serveHTTP(ctx context.Context, l net.Listener, h http.Handler, protocols *http.Protocols) error {
	s := &http.Server{Handler: h, Protocols: protocols, ReadHeaderTimeout: 10 * time.Second}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		_ = s.Close() // the answers under way are nobody's any more
	}()
	err := s.Serve(l)
	if ctx.Err() != nil {
		<-stopped
		return nil
	}
	return fmt.Errorf("serve http on %v: %w", l.Addr(), err)
}

// The messages of the three apps. Caller is who the sidecar said had called ("" if nobody did).

type page struct {
	App    string `json:"app"`
	Caller string `json:"caller"`
	Order  order  `json:"order"`
}

type order struct {
	Number  int     `json:"number"`
	Item    string  `json:"item"`
	Caller  string  `json:"caller"`
	Invoice invoice `json:"invoice"`
}

type invoice struct {
	Number int    `json:"number"`
	Cents  int    `json:"cents"`
	Caller string `json:"caller"`
}

// itemOf and centsOf are the whole database: both ends know what the right answer is.
func itemOf(n int) string {
	items := []string{"saddle", "stirrup", "bridle", "girth", "blanket"}
	return items[n%len(items)]
}

func centsOf(n int) int { return 100 + n*37%9900 }

// callerOf returns who the sidecar says is calling.
func callerOf(r *http.Request) string { return r.Header.Get("X-Pillion-Identity") }

// pathNumber returns the {n} of the path, or answers 400.
func pathNumber(w http.ResponseWriter, r *http.Request) (int, bool) {
	n, err := strconv.Atoi(r.PathValue("n"))
	if err != nil || n < 0 {
		http.Error(w, "the path ends in no number: "+r.URL.Path, http.StatusBadRequest)
		return 0, false
	}
	return n, true
}

// writeJSON answers with v.
func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the client has left: nobody to tell
}

// fetchJSON fills v from a GET of url with this Host (or the url's own).
func fetchJSON(ctx context.Context, c *http.Client, url, host string, v any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	if host != "" {
		req.Host = host
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %w", req.URL, statusError(resp))
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(v); err != nil {
		return fmt.Errorf("GET %s: %w", req.URL, err)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// statusError says what an unexpected answer said.
func statusError(resp *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 300))
	return fmt.Errorf("answered %s: %s", resp.Status, oneLine(string(text)))
}
