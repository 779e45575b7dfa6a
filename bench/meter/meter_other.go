//go:build !linux

package meter

import "errors"

var errLinux = errors.New("the accounts of processes are read from Linux's /proc; run it on Linux")

// Tree returns pid, its children and theirs.
func Tree(int) ([]int, error) { return nil, errLinux }

func usageOf(int) (Usage, error)   { return Usage{}, errLinux }
func memoryOf(int) (Memory, error) { return Memory{}, errLinux }
