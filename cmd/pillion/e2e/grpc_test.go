//go:build e2e

package e2e

import (
	"net"
	"strings"
	"testing"
	"time"
)

// grpcVersion is that of the interop programs.
const grpcVersion = "v1.85.0"

// grpcCases are the cases of grpc-go's interop client that need neither TLS nor a cloud, nor several servers (pick_first_unary). The specification is
// https://github.com/grpc/grpc/blob/master/doc/interop-test-descriptions.md
var grpcCases = []string{
	"empty_unary", "large_unary", "client_streaming", "server_streaming", "ping_pong", "empty_stream",
	"timeout_on_sleeping_server", "cancel_after_begin", "cancel_after_first_response",
	"status_code_and_message", "special_status_message", "custom_metadata",
	"unimplemented_method", "unimplemented_service",
	"rpc_soak", "channel_soak", "orca_per_rpc", "orca_oob",
}

// startGRPC starts grpc-go's interop server and returns its address and the path of the client.
func startGRPC(t *testing.T) (addr, client string) {
	t.Helper()
	client = workshop.tool(t, "grpc-client", "google.golang.org/grpc/interop/client@"+grpcVersion)
	server := workshop.tool(t, "grpc-server", "google.golang.org/grpc/interop/server@"+grpcVersion)
	addr = freeAddr(t)
	_, port, _ := net.SplitHostPort(addr)
	start(t, "interop server", server, "-port", port)
	waitListening(t, addr)
	return addr, client
}

// waitListening waits until something accepts connections.
func waitListening(t *testing.T, addr string) {
	t.Helper()
	eventually(t, 20*time.Second, "somebody listening on "+addr, func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

func TestGRPCInterop(t *testing.T) {
	addr, client := startGRPC(t)
	for _, protocol := range []string{"auto", "h2c"} {
		t.Run(protocol, func(t *testing.T) {
			p := newPair(t, setup{app: addr, protocol: protocol})
			host, port, _ := net.SplitHostPort(p.local)
			for _, name := range grpcCases {
				t.Run(name, func(t *testing.T) {
					args := []string{client, "-server_host", host, "-server_port", port, "-test_case", name}
					if strings.HasSuffix(name, "_soak") {
						args = append(args, "-soak_iterations", "50", "-soak_overall_timeout_seconds", "20")
					}
					if strings.HasPrefix(name, "orca_") {
						args = append(args, "-service_config_json", `{"loadBalancingConfig": [{"test_backend_metrics_load_balancer": {}}]}`)
					}
					runTool(t, args...)
				})
			}
		})
		if *direct {
			return
		}
	}
}
