package child

import "syscall"

// childAttr puts a child into a group of its own and has the kernel end it with the thread that started it.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
