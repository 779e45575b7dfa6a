package proxy

import (
	"io"
	"testing"
	"testing/iotest"
)

func TestContent(t *testing.T) {
	if err := iotest.TestReader(&Content{Left: []byte("a few words")}, []byte("a few words")); err != nil {
		t.Error(err)
	}
	c := &Content{Left: []byte("ab"), End: Fields{{Name: "T", Value: "1"}}}
	p := make([]byte, 1)
	for _, left := range []int{2, 1, -1} {
		if got := c.Buffered(); got != left {
			t.Errorf("%d are there, want %d", got, left)
		}
		if _, err := c.Read(p); (err == io.EOF) != (left < 0) {
			t.Errorf("with %d left: %v", left, err)
		}
	}
	if c.Trailers().Get("t") != "1" || c.Close() != nil || new(Content).Buffered() != -1 {
		t.Errorf("%v", c.Trailers())
	}
}
