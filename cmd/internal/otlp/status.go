package otlp

import (
	"crypto/tls"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// readStatus reads a google.rpc.Status, and what a google.rpc.RetryInfo in it says.
func readStatus(b []byte) (code uint64, text string, pause time.Duration) {
	each(b, func(field protowire.Number, n uint64, v []byte) {
		switch field {
		case 1:
			code = n
		case 2:
			text = string(v)
		case 3:
			if d := retryInfo(v); d > 0 {
				pause = d
			}
		}
	})
	return code, text, pause
}

// retryInfo reads the Duration in a google.protobuf.Any, if that is a RetryInfo.
func retryInfo(detail []byte) (pause time.Duration) {
	var kind string
	var value []byte
	each(detail, func(field protowire.Number, _ uint64, v []byte) {
		switch field {
		case 1:
			kind = string(v)
		case 2:
			value = v
		}
	})
	if !strings.HasSuffix(kind, "/google.rpc.RetryInfo") {
		return 0
	}
	each(value, func(field protowire.Number, _ uint64, v []byte) {
		if field != 1 {
			return
		}
		each(v, func(field protowire.Number, n uint64, _ []byte) {
			switch field {
			case 1:
				pause += time.Duration(min(n, 3600)) * time.Second
			case 2:
				pause += time.Duration(min(n, 1e9))
			}
		})
	})
	return pause
}

func tlsOr(c *tls.Config) *tls.Config {
	if c == nil {
		return new(tls.Config)
	}
	return c
}
