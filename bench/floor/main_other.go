//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "floor: it reads Linux's accounting of processor time; run it on Linux")
	os.Exit(1)
}
