package load

import "time"

// network moves the bytes of a worker's connections. Its calls and its callbacks are the worker's.
type network interface {
	// dial begins to connect, which ends in conn.connected or conn.lost.
	dial(c *conn) error
	// write writes some of p; if it is less than all and no error, conn.writable follows.
	write(c *conn, p []byte) (int, error)
	// close closes what dial began. Nothing is called for it afterwards.
	close(c *conn)
	// wait calls conn.connected, received, writable and lost for what has happened; if nothing has, it waits up to d.
	wait(d time.Duration) error
	// shut frees what the network holds; all connections are closed by then.
	shut()
}

// sock is what a network keeps of a connection.
type sock struct {
	fd int     // epoll's
	g  *goSock // goroutines'
}

const readSize = 64 << 10 // bytes
