package proxy

import (
	"strconv"
	"strings"
	"time"
)

// What two pillions say to each other about attempts. Neither field reaches an app, nor comes from one.
const (
	// AttemptIDField has Request.AttemptID and, after a semicolon, Request.AttemptAge in milliseconds.
	AttemptIDField = "Pillion-Attempt-Id"
	// UnsentField is on an answer that the sidecar made itself, of a request that never ran there.
	UnsentField = "Pillion-Unsent"
)

// MayBeUnsent reports whether an answer can be one with UnsentField, at a glance.
func MayBeUnsent(resp *Response) bool {
	return resp.Status >= 400 || resp.Status == 200 && resp.Body == nil
}

// AttemptValue is the value of AttemptIDField.
func AttemptValue(id string, age time.Duration) string {
	return id + ";" + strconv.FormatInt(age.Milliseconds(), 10)
}

// ParseAttempt reads a value of AttemptIDField.
func ParseAttempt(value string) (id string, age time.Duration, ok bool) {
	id, text, ok := strings.Cut(value, ";")
	ms, err := strconv.ParseInt(text, 10, 48)
	const most = 64 // bytes
	if !ok || err != nil || ms < 0 || id == "" || len(id) > most {
		return "", 0, false
	}
	return id, time.Duration(ms) * time.Millisecond, true
}
