package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pillion-proxy/pillion/listeners/admin"
)

// adminClient asks a running sidecar.
type adminClient struct {
	settings settings
	address  string // --admin
	http     *http.Client
}

const (
	askTimeout = 5 * time.Second // for one request

	changeTimeout = 30 * time.Second // for one that changes something
	maxAnswer     = 64 << 20         // bytes of an answer; a longer one is cut
	tokenEnv      = "PILLION_ADMIN_TOKEN"
)

func (a *adminClient) add(c *cobra.Command) {
	a.settings.addPath(c)
	c.Flags().StringVar(&a.address, "admin", "", "the admin address of the sidecar (default: that of the configuration, or else 127.0.0.1:15000)")
}

// find settles the address and the token: the flag and the environment win over the configuration.
func (a *adminClient) find() (address, token string, err error) {
	token = os.Getenv(tokenEnv)
	if a.address != "" {
		return strings.TrimPrefix(strings.TrimRight(a.address, "/"), "http://"), token, nil
	}
	if a.settings.file() == "" {
		return "127.0.0.1:15000", token, nil
	}
	cfg, err := a.settings.load()
	if err != nil {
		return "", "", err
	}
	if !cfg.Admin.Listen.On {
		return "", "", &usageError{errors.New("admin.listen is none: this sidecar cannot be asked; give it an address")}
	}
	if token == "" {
		token = cfg.Admin.Token
	}
	return dialable(cfg.Admin.Listen), token, nil
}

// fetch gets path of the sidecar that the flags name, and explains what is wrong.
func (a *adminClient) fetch(ctx context.Context, path string) ([]byte, error) {
	address, token, err := a.find()
	if err != nil {
		return nil, err
	}
	code, body, err := a.get(ctx, address, token, path)
	switch {
	case err != nil:
		return nil, fmt.Errorf("ask the sidecar at %s: %w; is it running, or has it another --admin address?", address, err)
	case code == http.StatusUnauthorized:
		return nil, fmt.Errorf("the sidecar at %s wants a token; put that of its admin section into %s", address, tokenEnv)
	case code != http.StatusOK:
		return nil, fmt.Errorf("the sidecar at %s answered %d: %s", address, code, strings.TrimSpace(string(body)))
	}
	return body, nil
}

// fetchJSON is fetch for JSON.
func (a *adminClient) fetchJSON(ctx context.Context, path string, v any) error {
	body, err := a.fetch(ctx, path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("the sidecar does not answer as a pillion does: %w; check the --admin address", err)
	}
	return nil
}

// get asks for path. Without an error the answer's body is whole.
func (a *adminClient) get(ctx context.Context, address, token, path string) (status int, body []byte, err error) {
	return a.ask(ctx, http.MethodGet, address, token, path)
}

// ask is get with any method.
func (a *adminClient) ask(ctx context.Context, method, address, token, path string) (status int, body []byte, err error) {
	limit := askTimeout
	if method != http.MethodGet {
		limit = changeTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+address+path, nil)
	if err != nil {
		return 0, nil, &usageError{fmt.Errorf("--admin %s is no address; write it as in 127.0.0.1:15000", address)}
	}
	if method != http.MethodGet {
		req.Header.Set(admin.ActionField, "1")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if a.http == nil {
		// No proxy: HTTP_PROXY may well be this very sidecar.
		a.http = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	}
	resp, err := a.http.Do(req)
	if err != nil {
		return 0, nil, errors.Unwrap(err)
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	return resp.StatusCode, body, err
}
