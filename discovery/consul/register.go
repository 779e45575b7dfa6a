package consul

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/pillion-proxy/pillion/discovery"
)

// metaPorts is for people: which ports of the app are behind an instance.
const metaPorts = "pillion-ports"

type check struct {
	CheckID                        string
	TTL                            string
	Status                         string
	DeregisterCriticalServiceAfter string
}

type service struct {
	ID, Name string
	Address  string `json:",omitempty"`
	Port     int
	Tags     []string          `json:",omitempty"`
	Meta     map[string]string `json:",omitempty"`
	Weights  *weights          `json:",omitempty"`
	Check    check
}

type weights struct{ Passing, Warning int }

// Enter implements discovery.Registry: a service with a TTL check, which passes or, while unfit, is critical. Consul removes it on its own some time after that has lapsed.
func (c *Client) Enter(ctx context.Context, r *discovery.Registration, unfit error) error {
	status, output := "passing", "the sidecar is ready"
	if unfit != nil {
		status, output = "critical", unfit.Error()
	}
	id := "pillion:" + r.ID
	update := func() error {
		_, _, err := c.do(ctx, http.MethodPut, "/v1/agent/check/update/"+url.PathEscape(id), nil, map[string]string{"Status": status, "Output": output})
		return err
	}
	err := update()
	if e, ok := errors.AsType[*StatusError](err); !ok || e.Status == http.StatusForbidden {
		return err
	}
	// The agent does not know the check: it is new, or was lost.
	s := service{ID: r.ID, Name: r.Service, Port: int(r.Addr.Port()), Tags: r.Tags, Meta: meta(r),
		Check: check{CheckID: id, TTL: r.TTL.String(), Status: "critical", DeregisterCriticalServiceAfter: max(10*r.TTL, time.Minute).String()}}
	if r.Addr.Addr().IsValid() {
		s.Address = r.Addr.Addr().String()
	}
	if r.Weight > 0 {
		s.Weights = &weights{r.Weight, 1}
	}
	if _, _, err := c.do(ctx, http.MethodPut, "/v1/agent/service/register", url.Values{"replace-existing-checks": {"true"}}, s); err != nil {
		return err
	}
	return update()
}

func meta(r *discovery.Registration) map[string]string {
	m := maps.Clone(r.Labels)
	if m == nil {
		m = make(map[string]string)
	}
	maps.Copy(m, map[string]string{metaMesh: "true", metaIdentity: string(r.Identity), metaTransport: string(r.Transport), metaZone: r.Zone,
		metaPorts: strings.Trim(strings.ReplaceAll(fmt.Sprint(r.Ports), " ", ","), "[]")})
	for k, v := range m {
		if v == "" {
			delete(m, k)
		}
	}
	return m
}

// Leave implements discovery.Registry.
func (c *Client) Leave(ctx context.Context, r *discovery.Registration) error {
	_, _, err := c.do(ctx, http.MethodPut, "/v1/agent/service/deregister/"+url.PathEscape(r.ID), nil, nil)
	if e, ok := errors.AsType[*StatusError](err); ok && e.Status == http.StatusNotFound {
		return nil // it was not there
	}
	return err
}
