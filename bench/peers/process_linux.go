package peers

import "syscall"

// attributes give the process a group of its own, and end it when this program is killed. The signal is one that
// lets a master end its workers.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}

func (p *process) terminate() { _ = p.cmd.Process.Signal(syscall.SIGTERM) }

// kill ends the process and all of its group.
func (p *process) kill() { _ = syscall.Kill(-p.pid(), syscall.SIGKILL) }
