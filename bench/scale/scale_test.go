package main

import (
	"bufio"
	"encoding/xml"
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestReportOfPoints(t *testing.T) {
	points := []point{
		{Series: "connections", Title: "of <clients>", Value: 1, CPU: 60, Loaded: 30, Start: 20},
		{Series: "connections", Title: "of <clients>", Value: 10_000, Error: "too many open files"},
		{Series: "links", Title: "links", Value: 0, CPU: 20, Loaded: 30, Start: 20},
	}
	var out strings.Builder
	if err := table(&out, points); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"connections: of <clients>", "10000: too many open files", "60.0", "links: links"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, &out)
		}
	}
	d := xml.NewDecoder(strings.NewReader(plot(points)))
	for {
		if _, err := d.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatalf("plot: %v", err)
		}
	}
	if plot(nil) == "" {
		t.Error("no plot of nothing")
	}
}

// The app says where it listens, answers there, and ends with its input.
func TestServeSmall(t *testing.T) {
	in, stop := io.Pipe()
	said, out := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- serveSmall(in, out) }()
	line, err := bufio.NewReader(said).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get("http://" + strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); len(body) != answerSize || err != nil {
		t.Errorf("an answer of %d bytes, %v, want %d", len(body), err, answerSize)
	}
	stop.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestChoose(t *testing.T) {
	if got, err := choose("links,body"); err != nil || len(got) != 2 {
		t.Errorf("choose(links,body) = %d series, %v, want 2", len(got), err)
	}
	if _, err := choose("links,none"); err == nil || !strings.Contains(err.Error(), "connections") {
		t.Errorf("choose(links,none) = %v, want an error that names those that there are", err)
	}
}

func TestMedian(t *testing.T) {
	if got := median([]float64{9, 1, 4, 2}); got != 3 {
		t.Errorf("median(9 1 4 2) = %v, want 3", got)
	}
}
