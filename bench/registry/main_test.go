package main

import (
	"strings"
	"testing"
)

func TestHear(t *testing.T) {
	said := "level=INFO msg=ready\nmsg=\"endpoints changed\" service=a\nmsg=\"endpoints changed\" service=b\nmore\n"
	if err := hear(strings.NewReader(said), 2); err != nil {
		t.Errorf("hear of two = %v", err)
	}
	if err := hear(strings.NewReader(said), 3); err == nil || !strings.Contains(err.Error(), "2 of 3") {
		t.Errorf("hear of three = %v, want an error that tells how many there were", err)
	}
}

func TestAddress(t *testing.T) {
	if got := address(70_000); got != "10.1.17.112:15008" {
		t.Errorf("address(70000) = %s", got)
	}
}
