package main

import (
	"bufio"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strings"

	"github.com/pillion-proxy/pillion/bench/app"
)

// smallApp is the small app in a process of its own: ten thousand connections of the client and as many of the app's are more than the
// descriptors that one process commonly gets.
type smallApp struct {
	addr netip.AddrPort
	cmd  *exec.Cmd
	stop io.Closer // the app's standard input, whose end ends it
}

// startSmall runs this program again, as the app.
func startSmall() (*smallApp, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	a := &smallApp{cmd: exec.Command(self, "-app")}
	a.cmd.Stderr = os.Stderr
	stdin, err := a.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	a.stop = stdin
	stdout, err := a.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := a.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the app: %w", err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err == nil {
		a.addr, err = netip.ParseAddrPort(strings.TrimSpace(line))
	}
	if err != nil {
		a.close()
		return nil, fmt.Errorf("the app does not say where it listens: %w", err)
	}
	return a, nil
}

func (a *smallApp) close() {
	a.stop.Close()
	_ = a.cmd.Wait()
}

// serveSmall is the app. It tells its address on out, and ends with in.
func serveSmall(in io.Reader, out io.Writer) error {
	s, err := app.NewSmall(answerSize)
	if err != nil {
		return err
	}
	defer s.Close()
	if _, err := fmt.Fprintln(out, s.Addr); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, in)
	return err
}
