//go:build !linux

package main

// runs reports whether a process of the group has not ended yet. Here that is not known; those that have are soon collected.
func runs(int) bool { return true }
