package http2

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/head"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// FuzzServer feeds a whole server connection with what comes after the preface and empty SETTINGS. Whatever it is, the connection ends,
// nothing panics, and nothing is left over.
func FuzzServer(f *testing.F) {
	head := "\x00\x00\x05\x01\x05\x00\x00\x00\x01\x82\x86\x84\x41\x00"
	f.Add([]byte(head))
	f.Add([]byte("\x00\x00\x05\x01\x04\x00\x00\x00\x01\x83\x86\x84\x41\x00" + "\x00\x00\x03\x00\x01\x00\x00\x00\x01abc"))
	f.Add([]byte(head + "\x00\x00\x04\x03\x00\x00\x00\x00\x01\x00\x00\x00\x08"))
	f.Add([]byte("\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x04\x00\x00\x00\x01" + head))
	f.Add([]byte("\x00\x00\x04\x08\x00\x00\x00\x00\x00\x7f\xff\xff\xff"))
	f.Add([]byte("\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678"))
	f.Add([]byte("\x00\x00\x02\x01\x00\x00\x00\x00\x01\x82\x86" + "\x00\x00\x03\x09\x04\x00\x00\x00\x01\x84\x41\x00"))
	f.Add([]byte("\x00\x00\x0a\x01\x2d\x00\x00\x00\x01\x00\x80\x00\x00\x00\x10\x82\x86\x84\x41"))
	rt := task.NewGoroutines(task.Config{Loops: 1})
	proxytest.Start(f, rt)
	s := rt.Shards()[0]
	h := handler(func(req *proxy.Request, resp *proxy.Response) error {
		checkRequest(req)
		return echo(req, resp)
	})
	f.Fuzz(func(t *testing.T, data []byte) {
		mine, theirs := net.Pipe()
		tc, err := s.Adopt(theirs)
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		run := func() { ended <- NewServer(s, tc, Config{Handler: h, MaxHead: 4 << 10}).Serve([]byte(preface)) }
		s.Post(func() { s.Go(run) })
		go io.Copy(io.Discard, mine)
		mine.SetDeadline(time.Now().Add(30 * time.Second))
		mine.Write([]byte("\x00\x00\x00\x04\x00\x00\x00\x00\x00"))
		mine.Write(data)
		mine.Close()
		select {
		case <-ended:
		case <-time.After(30 * time.Second):
			t.Fatal("Serve does not return")
		}
	})
}

// checkRequest panics if a request could be read differently once it is written in HTTP/1.
func checkRequest(req *proxy.Request) {
	if strings.ContainsAny(req.Method+req.Path+req.Authority+req.Scheme+req.Upgrade, " \r\n\x00\t") || req.Method == "" {
		panic("bad request line: " + req.Method + req.Path + req.Authority)
	}
	for _, f := range req.Fields {
		if strings.ContainsAny(f.Name, " :\r\n\x00") || strings.ContainsAny(f.Value, "\r\n\x00") || head.ConnectionSpecific(f.Name) {
			panic("bad field: " + f.Name + ": " + f.Value)
		}
	}
}

// FuzzField checks the rules for names and values against a plain reading of RFC 9113 section 8.2.1.
func FuzzField(f *testing.F) {
	for _, s := range []string{"accept", "Accept", "", "a b", "a:b", "x\x00", "é", "a\r\nb", " a", "a\t", "~!#$%&'*+-.^_`|"} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, name, value string) {
		want := name != ""
		for i := 0; i < len(name); i++ {
			c := name[i]
			want = want && c > 0x20 && c < 0x7f && !('A' <= c && c <= 'Z') && !strings.ContainsRune(`"(),/:;<=>?@[\]{}`, rune(c))
		}
		if got := head.ValidName(name, false); got != want {
			t.Errorf("validName(%q) = %v, want %v", name, got, want)
		}
		want = strings.Trim(value, " \t") == value
		for i := 0; i < len(value); i++ {
			want = want && (value[i] >= ' ' || value[i] == '\t') && value[i] != 0x7f
		}
		if got := head.ValidValue(value); got != want {
			t.Errorf("validValue(%q) = %v, want %v", value, got, want)
		}
		if head.ValidPath(name, "GET") && strings.ContainsAny(name, " \r\n\t\x00") {
			t.Errorf("validPath(%q)", name)
		}
	})
}
