package demo

import (
	"context"
	"net/http"
	"strconv"
	"time"
)

// linkCount asks the sidecars for their links; "?" if one does not say.
func linkCount(ctx context.Context, admins []string) string {
	client := &http.Client{Timeout: 500 * time.Millisecond, Transport: &http.Transport{DisableKeepAlives: true}}
	n := 0
	for _, addr := range admins {
		var status struct {
			Links []struct {
				Direction string `json:"direction"`
			} `json:"links"`
		}
		if err := fetchJSON(ctx, client, "http://"+addr+"/status", "", &status); err != nil {
			return "?"
		}
		for _, l := range status.Links {
			if l.Direction == "outbound" { // its other end is an inbound one
				n++
			}
		}
	}
	return strconv.Itoa(n)
}
