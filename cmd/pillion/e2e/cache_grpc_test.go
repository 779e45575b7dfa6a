//go:build e2e

package e2e

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// startHealth starts grpc-go's health service, which counts its calls, tells the count in a trailer, and waits for hold if that is not nil.
func startHealth(t *testing.T, hold *atomic.Pointer[chan struct{}]) (addr string, calls *atomic.Int64) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	calls = new(atomic.Int64)
	srv := grpc.NewServer(grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		calls.Add(1)
		if gate := hold.Load(); gate != nil {
			<-*gate
		}
		if err := grpc.SetTrailer(ctx, metadata.Pairs("kept", "yes")); err != nil {
			return nil, err
		}
		return next(ctx, req)
	}))
	grpc_health_v1.RegisterHealthServer(srv, health.NewServer())
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	t.Cleanup(func() { srv.Stop(); <-done })
	return ln.Addr().String(), calls
}

// TestCacheGRPC: calls of grpc-go through a pair that keeps the answers of one method, on the caller's side and on the app's.
func TestCacheGRPC(t *testing.T) {
	const keep = ", cache: {grpc: {/grpc.health.v1.Health/Check: 60s}}"
	for _, x := range []struct{ name, app, svc, transport string }{
		{"outbound", "", keep, ""}, {"inbound", ", cache: {grpc: {/grpc.health.v1.Health/Check: 60s}}", ", cache: false", ""}, {"both over quic", ", cache: {mode: on, grpc: {/grpc.health.v1.Health/Check: 60s}}", keep, "quic"},
	} {
		t.Run(x.name, func(t *testing.T) {
			var hold atomic.Pointer[chan struct{}]
			addr, calls := startHealth(t, &hold)
			p := newPair(t, setup{app: addr, appMore: x.app, svcMore: x.svc, transport: x.transport})
			conn, err := grpc.NewClient("passthrough:///"+p.local, grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			c := grpc_health_v1.NewHealthClient(conn)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			check := func(ctx context.Context, service string, code codes.Code, asked int64) {
				t.Helper()
				var trailer metadata.MD
				resp, err := c.Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: service}, grpc.Trailer(&trailer))
				if status.Code(err) != code || err == nil && resp.Status != grpc_health_v1.HealthCheckResponse_SERVING {
					t.Errorf("%q: %v, %v", service, resp, err)
				}
				if got := trailer.Get("kept"); len(got) != 1 {
					t.Errorf("%q: trailer %v", service, trailer)
				}
				if n := calls.Load(); n != asked {
					t.Errorf("%q: the server was called %d times, want %d", service, n, asked)
				}
			}
			check(ctx, "", codes.OK, 1)
			check(ctx, "", codes.OK, 1)
			check(metadata.AppendToOutgoingContext(ctx, "authorization", "x"), "", codes.OK, 2)
			check(metadata.AppendToOutgoingContext(ctx, "authorization", "x"), "", codes.OK, 2)
			check(ctx, "", codes.OK, 2)
			check(ctx, "unknown", codes.NotFound, 3)
			check(ctx, "unknown", codes.NotFound, 4)
			watch, err := c.Watch(ctx, &grpc_health_v1.HealthCheckRequest{})
			if err != nil {
				t.Fatal(err)
			}
			if first, err := watch.Recv(); err != nil || first.Status != grpc_health_v1.HealthCheckResponse_SERVING {
				t.Errorf("a stream: %v, %v", first, err)
			}

			gate := make(chan struct{})
			hold.Store(&gate)
			var wg sync.WaitGroup
			crowd := metadata.AppendToOutgoingContext(ctx, "crowd", "1")
			for range 100 {
				wg.Go(func() {
					if _, err := c.Check(crowd, &grpc_health_v1.HealthCheckRequest{}); err != nil {
						t.Error(err)
					}
				})
			}
			eventually(t, time.Minute, "the call is there", func() bool { return calls.Load() == 5 })
			close(gate)
			wg.Wait()
			if n := calls.Load(); n != 5 {
				t.Errorf("100 calls at once were %d", n-4)
			}
		})
	}
}
