package main

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/cmd/internal/demo"
)

// TestDemo: three services, three sidecars, all of them processes; every kind of traffic flows and is answered correctly.
func TestDemo(t *testing.T) {
	t.Setenv(actAsPillion, "1") // for the processes that the demo starts
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var out bytes.Buffer
	if err := demo.Run(ctx, demo.Config{Executable: executable, For: 1500 * time.Millisecond, Out: &out}); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	for _, want := range []string{"http://127.0.0.1:", "   1s  http ", "every answer was right"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it does not say %q:\n%s", want, out.String())
		}
	}
}
