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
	// TookField is on an answer: how long the sidecar that gives it took to its head, and which part of that was the app's, in microseconds, as in "830;520".
	TookField = "Pillion-Took"
	// NewsField is on an answer that may be kept: the position (Response.News) from which its sidecar can say what has changed since. It is opaque to who is told it.
	NewsField = "Pillion-News"
	// NewsParam follows the service in ToField, with such a position, on a request that asks for what has changed.
	NewsParam = ";news="
)

// AppendTook appends a value of TookField.
func AppendTook(b []byte, all, app time.Duration) []byte {
	b = strconv.AppendInt(b, max(0, all.Microseconds()), 10)
	return strconv.AppendInt(append(b, ';'), max(0, app.Microseconds()), 10)
}

// ParseTook reads a value of TookField.
func ParseTook(value string) (all, app time.Duration, ok bool) {
	a, rest := leadingNumber(value)
	if len(rest) < 2 || len(rest) == len(value) || rest[0] != ';' {
		return 0, 0, false
	}
	b, rest := leadingNumber(rest[1:])
	if rest != "" || b > a || a >= 1<<40 {
		return 0, 0, false
	}
	return time.Duration(a) * time.Microsecond, time.Duration(b) * time.Microsecond, true
}

// leadingNumber reads the digits that s begins with, as many as cannot overflow.
func leadingNumber(s string) (n uint64, rest string) {
	i := 0
	for ; i < len(s) && i < 18 && '0' <= s[i] && s[i] <= '9'; i++ {
		n = n*10 + uint64(s[i]-'0')
	}
	return n, s[i:]
}

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
