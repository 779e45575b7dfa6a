//go:build !linux

package peers

import "syscall"

func attributes() *syscall.SysProcAttr { return nil }

func (p *process) terminate() { _ = p.cmd.Process.Kill() }
func (p *process) kill()      { _ = p.cmd.Process.Kill() }
