package config

import "strings"

// nearest returns the word of words that was probably meant by got, or "".
func nearest(got string, words []string) string {
	got = strings.ReplaceAll(strings.ToLower(got), "-", "_")
	best, bestAt := "", max(len(got)/3, 1)
	for _, w := range words {
		longer := len(w) >= 3 && len(got) <= 3*len(w) && strings.HasPrefix(got, w) // "certificate" for "cert"
		if w == got || longer || len(got) >= 3 && strings.HasPrefix(w, got) {
			return w
		}
		if n := distance(got, w); n <= bestAt && n < len(w) && (best == "" || n < bestAt) {
			best, bestAt = w, n
		}
	}
	return best
}

// maxWord bounds what distance compares: a longer word is nobody's slip.
const maxWord = 64 // bytes

// distance counts the insertions, deletions, replacements and swaps of neighbours that turn a into b
// (optimal string alignment).
func distance(a, b string) int {
	if len(a) > maxWord || len(b) > maxWord {
		return max(len(a), len(b))
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
