//go:build !linux

package main

func raiseLimit() {}
