package http3

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/qlogwriter"
)

// Tracer is a quic.Config's.
type Tracer = func(ctx context.Context, isClient bool, id quic.ConnectionID) qlogwriter.Trace

// QLog writes a file for each connection to the folder dir: <connection id>_<client|server>.sqlog. A file that cannot be written is
// logged once per connection, which goes on without.
func QLog(dir string, log *slog.Logger) Tracer {
	return func(_ context.Context, isClient bool, id quic.ConnectionID) qlogwriter.Trace {
		side := "server"
		if isClient {
			side = "client"
		}
		name := filepath.Join(dir, fmt.Sprintf("%s_%s.sqlog", id, side))
		f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
		if err != nil {
			log.Warn("no qlog of a connection", "err", err)
			return nil
		}
		seq := qlogwriter.NewConnectionFileSeq(&bufferedFile{bufio.NewWriter(f), f}, isClient, id)
		go seq.Run() // ends with the connection
		return seq
	}
}

// bufferedFile flushes when it is closed.
type bufferedFile struct {
	*bufio.Writer
	f *os.File
}

// Close flushes and closes.
func (b *bufferedFile) Close() error {
	if err := b.Flush(); err != nil {
		b.f.Close()
		return err
	}
	return b.f.Close()
}
