package tlsconn

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// crypto/tls cannot be asked to send a KeyUpdate. So the client of these tests lets crypto/tls do the handshake, takes the
// traffic secrets from the key log, and speaks the record layer itself.
// https://www.rfc-editor.org/rfc/rfc8446#section-5.2

const (
	applicationData = 23
	handshakeRecord = 22
)

// direction seals or opens the records of one direction.
type direction struct {
	suite  uint16
	secret []byte
	aead   cipher.AEAD
	iv     []byte
	seq    uint64
}

func newDirection(suite uint16, secret []byte) (*direction, error) {
	d := &direction{suite: suite, secret: secret}
	return d, d.rekey()
}

func (d *direction) hash() (func() hash.Hash, int, int) {
	if d.suite == tls.TLS_AES_256_GCM_SHA384 {
		return sha512.New384, 48, 32
	}
	return sha256.New, 32, 16
}

// expand is HKDF-Expand-Label with an empty context.
func (d *direction) expand(label string, length int) ([]byte, error) {
	label = "tls13 " + label
	info := binary.BigEndian.AppendUint16(nil, uint16(length))
	info = append(info, byte(len(label)))
	info = append(append(info, label...), 0)
	h, _, _ := d.hash()
	return hkdf.Expand(h, d.secret, string(info), length)
}

// rekey derives key and iv of the secret and counts records from zero.
func (d *direction) rekey() error {
	_, _, size := d.hash()
	key, err := d.expand("key", size)
	if err != nil {
		return err
	}
	if d.iv, err = d.expand("iv", 12); err != nil {
		return err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return err
	}
	d.aead, err = cipher.NewGCM(block)
	d.seq = 0
	return err
}

// update goes on to the next secret, as after a KeyUpdate.
func (d *direction) update() (err error) {
	_, size, _ := d.hash()
	if d.secret, err = d.expand("traffic upd", size); err != nil {
		return err
	}
	return d.rekey()
}

func (d *direction) nonce() []byte {
	n := bytes.Clone(d.iv)
	for i := range 8 {
		n[4+i] ^= byte(d.seq >> (56 - 8*i))
	}
	d.seq++
	return n
}

func (d *direction) seal(kind byte, content []byte) []byte {
	header := []byte{applicationData, 3, 3, 0, 0}
	binary.BigEndian.PutUint16(header[3:], uint16(len(content)+1+16))
	return d.aead.Seal(header, d.nonce(), append(bytes.Clone(content), kind), header)
}

func (d *direction) read(r io.Reader) (kind byte, content []byte, err error) {
	header := make([]byte, recordHeader)
	if _, err := io.ReadFull(r, header); err != nil {
		return 0, nil, err
	}
	body := make([]byte, binary.BigEndian.Uint16(header[3:]))
	if _, err := io.ReadFull(r, body); err != nil {
		return 0, nil, err
	}
	plain, err := d.aead.Open(nil, d.nonce(), body, header)
	if err != nil {
		return 0, nil, err
	}
	return plain[len(plain)-1], plain[:len(plain)-1], nil
}

// handmade is a client after its handshake.
type handmade struct {
	net.Conn
	out, in *direction
}

// exact reads no further than the record that tls.Conn asks for, so that nothing of ours is swallowed.
type exact struct {
	net.Conn
	left int
}

func (e *exact) Read(p []byte) (int, error) {
	if e.left == 0 {
		header := make([]byte, recordHeader)
		if _, err := io.ReadFull(e.Conn, header); err != nil {
			return 0, err
		}
		e.left = int(binary.BigEndian.Uint16(header[3:]))
		return copy(p, header), nil
	}
	n, err := e.Conn.Read(p[:min(len(p), e.left)])
	e.left -= n
	return n, err
}

func newHandmade(b net.Conn, client *tls.Config) (*handmade, error) {
	var keys bytes.Buffer
	client.KeyLogWriter = &keys
	peer := tls.Client(&exact{Conn: b}, client)
	if err := peer.Handshake(); err != nil {
		return nil, err
	}
	h := &handmade{Conn: b}
	suite := peer.ConnectionState().CipherSuite
	if suite == tls.TLS_CHACHA20_POLY1305_SHA256 {
		return nil, errors.New("this machine has no AES instructions: the test cannot follow its cipher suite")
	}
	for line := range strings.Lines(keys.String()) {
		part := strings.Fields(line)
		secret, err := hex.DecodeString(part[2])
		if err != nil {
			return nil, err
		}
		switch part[0] {
		case "CLIENT_TRAFFIC_SECRET_0":
			h.out, err = newDirection(suite, secret)
		case "SERVER_TRAFFIC_SECRET_0":
			h.in, err = newDirection(suite, secret)
		}
		if err != nil {
			return nil, err
		}
	}
	return h, nil
}

// keyUpdate changes our key, asking the peer (request 1) or not (0) to change its own too.
func (h *handmade) keyUpdate(request byte) []byte {
	record := h.out.seal(handshakeRecord, []byte{24, 0, 0, 1, request})
	h.out.update()
	return record
}

func (h *handmade) expect(kind byte, content string) error {
	k, c, err := h.in.read(h.Conn)
	if err != nil || k != kind || string(c) != content {
		return fmt.Errorf("the peer got record %d %q, %v; want %d %q", k, c, err, kind, content)
	}
	return nil
}

func handmadePair(t *testing.T, s task.Shard) (*Conn, *handmade) {
	t.Helper()
	client, server := configs(t)
	a, b := proxytest.NetPair(t, "tcp", "127.0.0.1:0")
	type result struct {
		h   *handmade
		err error
	}
	done := make(chan result, 1)
	go func() {
		h, err := newHandmade(b, client)
		done <- result{h, err}
	}()
	c := attach(t, s, a, server)
	r := <-done
	if r.err != nil {
		t.Fatal(r.err)
	}
	return c, r.h
}

const keyUpdateAnswer = "\x18\x00\x00\x01\x00"

// The answer to a KeyUpdate leaves before the reader waits again, though nobody pushes.
func TestKeyUpdate(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		c, peer := handmadePair(t, s)
		echo := proxytest.Go(s, func() {
			p := make([]byte, 100)
			for {
				n, err := c.Read(p)
				if err != nil {
					return
				}
				c.Push(p[:n])
			}
		})
		for i := range 20 {
			text := fmt.Sprintf("message %d", i)
			if i%3 == 0 {
				peer.Write(peer.keyUpdate(0))
			}
			peer.Write(peer.keyUpdate(1))
			if err := peer.expect(handshakeRecord, keyUpdateAnswer); err != nil {
				t.Fatal(err)
			}
			if err := peer.in.update(); err != nil {
				t.Fatal(err)
			}
			peer.Write(peer.out.seal(applicationData, []byte(text)))
			if err := peer.expect(applicationData, text); err != nil {
				t.Fatal(err)
			}
		}
		peer.Close()
		proxytest.Wait(t, echo)
	})
}

// Key updates while another task pushes without pause: every record arrives in the order of its number.
func TestKeyUpdateAmongPushes(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		const updates = 30
		s := rt.Shards()[0]
		c, peer := handmadePair(t, s)
		stop := false
		reading := proxytest.Go(s, func() {
			p := make([]byte, 100)
			for {
				if _, err := c.Read(p); err != nil {
					s.Lock()
					stop = true
					s.Unlock()
					return
				}
			}
		})
		pushing := proxytest.Go(s, func() {
			d := newDrained(s, c)
			p := bytes.Repeat([]byte("x"), 40<<10)
			for {
				s.Lock()
				ended := stop
				s.Unlock()
				if ended || c.Push(p) != nil {
					return
				}
				d.wait()
				s.Yield()
			}
		})
		go func() {
			for range updates {
				record := peer.keyUpdate(1)
				peer.Write(append(record, peer.out.seal(applicationData, []byte("data"))...))
			}
		}()
		for seen := 0; seen < updates; {
			kind, content, err := peer.in.read(peer.Conn)
			if err != nil {
				t.Fatalf("after %d key updates: %v", seen, err)
			}
			if kind == handshakeRecord {
				if string(content) != keyUpdateAnswer {
					t.Fatalf("handshake message %q, want the answer to a KeyUpdate", content)
				}
				seen++
				peer.in.update()
			}
		}
		peer.Close()
		proxytest.Wait(t, reading)
		proxytest.Wait(t, pushing)
	})
}

// Messages that bring nothing are counted by crypto/tls: a flood of them ends the connection.
func TestKeyUpdateFlood(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		c, peer := handmadePair(t, s)
		go func() {
			for range 100 {
				peer.Write(peer.keyUpdate(1))
			}
		}()
		proxytest.Do(t, s, func() {
			if _, err := c.Read(make([]byte, 10)); err == nil || !strings.Contains(err.Error(), "too many") {
				t.Errorf("Read = %v; want an end to it", err)
			}
		})
	})
}
