//go:build !linux

package peers

import (
	"errors"
	"syscall"
)

func attributes() *syscall.SysProcAttr { return nil }

func (p *process) terminate() { _ = p.cmd.Process.Kill() }
func (p *process) kill()      { _ = p.cmd.Process.Kill() }

var errLinux = errors.New("the accounts of processes are read from Linux's /proc; run it on Linux")

func (p *process) all() ([]int, error) { return nil, errLinux }
func usageOf(pid int) (Usage, error)   { return Usage{}, errLinux }
func memoryOf(pid int) (Memory, error) { return Memory{}, errLinux }
