package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
	"unsafe"
)

// process is one running proxy.
type process struct {
	cmd  *exec.Cmd
	log  string // path of what it printed
	done chan struct{}
}

// start runs a command whose output goes to dir/name.log.
func start(dir, name string, argv ...string) (*process, error) {
	path := filepath.Join(dir, name+".log")
	out, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = out, out
	// A floor that is killed takes its proxies with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &process{cmd: cmd, log: path, done: make(chan struct{})}
	go p.wait()
	return p, nil
}

// wait reaps the process.
func (p *process) wait() {
	_ = p.cmd.Wait()
	close(p.done)
}

// stop ends the process.
func (p *process) stop() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// cpu is the processor time that the process has used, user and system, ended threads included.
func (p *process) cpu() (time.Duration, error) {
	const schedClock = 2 // CPUCLOCK_SCHED, see clock_getcpuclockid(3)
	clock := int32(^p.cmd.Process.Pid<<3 | schedClock)
	var ts syscall.Timespec
	_, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, uintptr(clock), uintptr(unsafe.Pointer(&ts)), 0)
	if errno != 0 {
		return 0, fmt.Errorf("CPU clock of process %d: %w", p.cmd.Process.Pid, errno)
	}
	return time.Duration(ts.Nano()), nil
}

// waitListening returns once addr accepts connections.
func (p *process) waitListening(addr string) error {
	for range 500 {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			return c.Close()
		}
		select {
		case <-p.done:
			return errors.New("ended at once")
		case <-time.After(20 * time.Millisecond):
		}
	}
	return fmt.Errorf("does not listen on %s after ten seconds", addr)
}

// ports hands out addresses of loopback that nobody uses, below the ports that outgoing connections get.
type ports struct{ next int }

// take returns an address free for TCP and UDP: a sidecar's peer port has both.
func (p *ports) take() (string, error) {
	if p.next == 0 {
		p.next = 21000 + os.Getpid()%8000
	}
	for ; p.next < 32000; p.next++ {
		addr := fmt.Sprintf("127.0.0.1:%d", p.next)
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		ln.Close()
		u, err := net.ListenPacket("udp", addr)
		if err != nil {
			continue
		}
		u.Close()
		p.next++
		return addr, nil
	}
	return "", errors.New("no free port")
}
