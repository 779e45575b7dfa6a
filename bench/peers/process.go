package peers

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"time"
)

// process is one side of a pair, with the children that it has.
type process struct {
	cmd  *exec.Cmd
	log  string // path of what it printed
	done chan struct{}
}

// start runs a command whose output goes to the file log.
func start(log string, argv ...string) (*process, error) {
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = attributes()
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", argv[0], err)
	}
	p := &process{cmd: cmd, log: log, done: make(chan struct{})}
	go p.wait()
	return p, nil
}

// wait reaps the process.
func (p *process) wait() {
	_ = p.cmd.Wait()
	close(p.done)
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// stop asks the process to end, and ends it and its children if it takes longer than two seconds.
func (p *process) stop() {
	p.terminate()
	select {
	case <-p.done:
	case <-time.After(2 * time.Second):
	}
	p.kill()
	<-p.done
}

// diagnosis is what the process printed, as an error.
func (p *process) diagnosis() error {
	printed, _ := os.ReadFile(p.log)
	return fmt.Errorf("%s printed:\n%.4000s", p.cmd.Args[0], printed)
}

// waitListening returns once addr accepts connections.
func (p *process) waitListening(addr string) error {
	network := "tcp"
	if path, ok := strings.CutPrefix(addr, unixPrefix); ok {
		network, addr = "unix", path
	}
	for range 5000 {
		c, err := net.DialTimeout(network, addr, time.Second)
		if err == nil {
			return c.Close()
		}
		select {
		case <-p.done:
			return errors.Join(errors.New("ended at once"), p.diagnosis())
		case <-time.After(2 * time.Millisecond):
		}
	}
	return errors.Join(fmt.Errorf("does not listen on %s after ten seconds", addr), p.diagnosis())
}
