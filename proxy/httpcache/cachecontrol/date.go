package cachecontrol

import (
	"strings"
	"time"
)

// Date parses an HTTP-date in any of its three forms (RFC 9110 section 5.6.7). now decides about two-digit years: "Recipients of a timestamp value in rfc850-date
// format, which uses a two-digit year, MUST interpret a timestamp that appears to be more than 50 years in the future as representing
// the most recent year in the past that had the same last two digits."
func Date(s string, now time.Time) (time.Time, bool) {
	if t, err := time.Parse("Mon, 02 Jan 2006 15:04:05 GMT", s); err == nil {
		return t, true
	}
	if t, err := time.Parse("Monday, 02-Jan-06 15:04:05 GMT", s); err == nil {
		century := now.UTC().Year() / 100 * 100
		t = t.AddDate(century+t.Year()%100-t.Year(), 0, 0)
		if t.After(now.AddDate(50, 0, 0)) {
			t = t.AddDate(-100, 0, 0)
		}
		return t, true
	}
	if t, err := time.Parse(time.ANSIC, s); err == nil && !strings.Contains(s, "GMT") {
		return t, true
	}
	return time.Time{}, false
}

// FormatDate is the preferred form.
func FormatDate(t time.Time) string { return t.UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT") }
